"""Base classes of what a study may add to lossline: an objective, an algorithm or an optimiser of its own.

A class of your own is a frozen dataclass in your experiment's folder. The study knows it by its name and its fields.
Its source file is not part of a run's id. The SHA-256 of the file stands in the claim and in every checkpoint of a run
instead, so a run never continues with another source. docs/interventions.md has an example.

This module does not import jax.
"""

import dataclasses
import hashlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class CustomObjective:
    """Base class of an objective: the loss that training lowers. Evaluation does not change."""

    has_code: ClassVar[bool] = True
    is_random: ClassVar[bool] = False  # True: `loss` gets random keys, one for each row

    def loss(self, model: Any) -> Any:
        """Return the loss of a microbatch (`train.gradient.MicrobatchLoss`) of a `models.model.Model`.

        `train.objectives.next_token` is an example.
        """
        raise NotImplementedError(f"{type(self).__name__}.loss")


@dataclass(frozen=True)
class CustomAlgorithm:
    """Base class of an algorithm: what a step does with a global batch."""

    has_code: ClassVar[bool] = True
    gradients_per_step: ClassVar[int] = 1  # gradients of the global batch in a step, for the FLOPs of the run

    def algorithm(self, gradient: Any, rule: Any) -> Any:
        """Return the algorithm (`train.algorithms.algorithm.Algorithm`), which calls a gradient and an update rule.

        `gradient` is a `train.gradient.Gradient`, and `rule` a `train.optimisers.rule.UpdateRule`.
        `train.algorithms.data_parallel` is an example.
        """
        raise NotImplementedError(f"{type(self).__name__}.algorithm")


@dataclass(frozen=True)
class CustomOptimiser:
    """Base class of an optimiser: how the gradient of a batch changes the parameters."""

    has_code: ClassVar[bool] = True
    gradients_per_step: ClassVar[int] = 1  # gradients that a step asks for, for the FLOPs of the run

    learning_rate: float = 3e-3  # at the peak of the schedule

    def update_rule(self, learning_rate: Any, model: Any) -> Any:
        """Return the rule (`train.optimisers.rule.UpdateRule`) for an `optax.Schedule` and a `models.model.Model`.

        `train.optimisers.rule.from_optax` makes one from an optax transformation.
        """
        raise NotImplementedError(f"{type(self).__name__}.update_rule")


CUSTOM = (CustomObjective, CustomAlgorithm, CustomOptimiser)
METHODS = dict(zip(CUSTOM, ("loss", "algorithm", "update_rule"), strict=True))  # the method of each class
FIELDS = dict(zip(("objective", "algorithm", "optim"), CUSTOM, strict=True))  # the field of a run that takes each


@dataclass(frozen=True)
class SourceFile:
    """The source file of a class of a study's own."""

    class_name: str
    file: str  # name of the file, without its folder
    sha256: str
    gradients_per_step: int = 1  # of an algorithm or an optimiser


def custom_values(config: Any) -> tuple[Any, ...]:
    """Return the values of a study's own classes in a config tree, in the order of the fields.

    Args:
        config: a `StudyConfig`, a `RunConfig`, or a part of one.
    """
    if isinstance(config, tuple):
        return tuple(value for item in config for value in custom_values(item))
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return ()
    own = (config,) if isinstance(config, CUSTOM) else ()
    return own + tuple(v for field in dataclasses.fields(config) for v in custom_values(getattr(config, field.name)))


def custom_classes(config: Any) -> dict[str, type]:
    """Return the study's own classes in a config tree, by name.

    Args:
        config: as for `custom_values`.

    Raises:
        LosslineError: two classes have one name, so that labels and ids could not tell them apart.
    """
    classes: dict[str, type] = {}
    for cls in map(type, custom_values(config)):
        if classes.setdefault(cls.__name__, cls) is not cls:
            raise LosslineError(
                f"{cls.__name__}: two classes have this name, in {file_of(cls)} and in "
                f"{file_of(classes[cls.__name__])}; rename one, because a run knows its class by the name"
            )
    return classes


def classes_of_module(names: dict[str, Any]) -> dict[str, type]:
    """Return the classes of a study's own among the names of a module, by name."""
    classes = [value for value in names.values() if isinstance(value, type) and issubclass(value, CUSTOM)]
    return {cls.__name__: cls for cls in classes if cls not in CUSTOM}


def source_files(config: Any) -> tuple[SourceFile, ...]:
    """Return the source file of each of the study's own classes in a config tree.

    Args:
        config: as for `custom_values`.

    Raises:
        LosslineError: a class is not in a file, so that nobody could tell whether it has changed.
    """
    return tuple(_source_file(cls) for cls in custom_classes(config).values())


def code_hashes(run: Any) -> dict[str, str]:
    """Return the SHA-256 of the source of each of a run's own classes, by name. Without their code: nothing."""
    if not all(value.has_code for value in custom_values(run)):
        return {}
    return {source.class_name: source.sha256 for source in source_files(run)}


def refuse_other_code(begun_with: Mapping[str, str], run: Any, where: str) -> None:
    """Refuse a run whose classes have another source than it was begun with.

    Args:
        begun_with: the hashes that `code_hashes` returned when the run was begun.
        run: a `RunConfig`.
        where: start of the error message.

    Raises:
        LosslineError: the message names the class.
    """
    for name, now in code_hashes(run).items():
        begun = begun_with.get(name)
        if begun != now:
            raise LosslineError(
                f"{where}: this run was begun with another source of {name} (SHA-256 {str(begun)[:10]}, now "
                f"{now[:10]}); restore the file, or give the study another name (--name)"
            )


def stand_in(source: SourceFile, base: type, fields: Collection[str]) -> type:
    """Return a class with the name and the fields of a study's own class, whose code is not at hand.

    Its values have the same label and the same part in a run's id. It cannot train.

    Args:
        source: the source of the class.
        base: its base class, one of `CUSTOM`.
        fields: the names of its fields.
    """
    own = [(field, object, dataclasses.field(default=None)) for field in fields]
    namespace = {"has_code": False, "gradients_per_step": source.gradients_per_step}
    return dataclasses.make_dataclass(source.class_name, own, bases=(base,), frozen=True, namespace=namespace)


def require_code(runs: Sequence[Any], code: Sequence[SourceFile]) -> None:
    """Refuse to train with a class whose code is not at hand.

    Args:
        runs: the `RunConfig`s to train.
        code: the source files of the study.

    Raises:
        LosslineError: the message names the class, its file and the flag.
    """
    for value in custom_values(tuple(runs)):
        if not value.has_code:
            name = type(value).__name__
            file = next((source.file for source in code if source.class_name == name), "its own file")
            raise LosslineError(
                f"--experiment: {name} is a class of {file}, which a study's folder does not hold; "
                "name the experiment file that defines or imports it"
            )


def file_of(cls: type) -> str:
    """Return the name of the file that defines a class, for messages."""
    try:
        return Path(inspect.getfile(cls)).name
    except (TypeError, OSError):
        return "no file"


def _source_file(cls: type) -> SourceFile:
    try:
        path = Path(inspect.getfile(cls))
        content = path.read_bytes()
    except (TypeError, OSError) as error:
        raise LosslineError(
            f"{cls.__name__}: its source is not in a file, so no run could tell whether it has changed; "
            "define the class in a file of the experiment's folder"
        ) from error
    number = getattr(cls, "gradients_per_step", 1)
    return SourceFile(cls.__name__, path.name, hashlib.sha256(content).hexdigest(), number)
