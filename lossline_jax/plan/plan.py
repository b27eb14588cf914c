"""Plan a study: what each run costs, before anything is spent. No jax here.

`plan_study` counts parameters, tokens and FLOPs. `plan_mesh` estimates memory, time and cost on named chips.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from etils import epy

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.distributed.chips import ASSUMED_UTILISATION, SECONDS_PER_HOUR, Chip, chip_hours, chip_named
from lossline_jax.distributed.layout import DeviceLayout
from lossline_jax.errors import LosslineError
from lossline_jax.models.accounting import ParameterCounts, count_parameters, train_flops_per_token
from lossline_jax.plan import choose_layout, estimates
from lossline_jax.plan.estimates import MemoryEstimate
from lossline_jax.plan.storage_and_epochs import checkpoint_bytes, epochs_of, most_tokens

with epy.lazy_imports():  # it loads sentencepiece, which commands on tables of losses do not need
    from lossline_jax.data.tokenizers import build as tokenizers


@dataclass(frozen=True)
class RunPlan:
    """The costs of one run.

    Attributes:
        index: number of the run's line in a manifest, from 0.
        run_id: id of the run.
        differs: the factors in which the run differs from the base, with the levels of the run.
        parameters: numbers of parameters.
        steps: number of training steps.
        tokens: number of training tokens.
        flops: number of training FLOPs.
        num_checkpoints: number of checkpoints.
        checkpoint_bytes: bytes of the checkpoints that stay on the disk.
        fewest_epochs: the run reads a corpus at least so often. None: nothing is known before `prepare`.
    """

    index: int
    run_id: str
    differs: dict[str, str | int]
    parameters: ParameterCounts
    steps: int
    tokens: int
    flops: float
    num_checkpoints: int
    checkpoint_bytes: int
    fewest_epochs: float | None


@dataclass(frozen=True)
class StudyPlan:
    """The costs of a study.

    Attributes:
        name: name of the study.
        question: the question of the study.
        runs: the plan of each run.
        num_sets: number of evaluation sets.
        utilisation: share of a chip's peak FLOPs that training is assumed to reach, from 0 to 1.
    """

    name: str
    question: str
    runs: tuple[RunPlan, ...]
    num_sets: int
    utilisation: float

    def __repr__(self) -> str:
        return f"<StudyPlan {self.name}: {len(self.runs)} runs, {self.tokens} tokens; show() prints it>"

    @property
    def tokens(self) -> int:
        """The training tokens of all runs."""
        return sum(run.tokens for run in self.runs)

    @property
    def flops(self) -> float:
        """The training FLOPs of all runs."""
        return sum(run.flops for run in self.runs)

    @property
    def num_checkpoints(self) -> int:
        """The number of checkpoints of all runs."""
        return sum(run.num_checkpoints for run in self.runs)

    @property
    def checkpoint_bytes(self) -> int:
        """The bytes of the checkpoints of all runs that stay on the disk."""
        return sum(run.checkpoint_bytes for run in self.runs)

    @property
    def num_rows(self) -> int:
        """The number of rows of the losses table: one for each checkpoint on each evaluation set."""
        return self.num_checkpoints * self.num_sets

    def chip_hours(self, chip: Chip) -> float:
        """Return the hours of one chip that training all runs takes at the assumed utilisation.

        Args:
            chip: kind of the chip.
        """
        return chip_hours(self.flops, chip, self.utilisation)

    def chip_hours_of_largest_run(self, chip: Chip) -> float:
        """Return the hours of one chip that the most expensive run takes.

        Args:
            chip: kind of the chip.
        """
        return chip_hours(max(run.flops for run in self.runs), chip, self.utilisation)


@dataclass(frozen=True)
class MeshRunPlan:
    """The costs of one run on a mesh of named chips.

    Attributes:
        index: number of the run's line in a manifest, from 0.
        run_id: id of the run.
        context_length: tokens per training sequence.
        layout: the way in which the run is divided over the devices.
        memory: bytes of one device.
        fits: whether the estimate fits the memory of a device.
        seconds_a_step: seconds of one training step.
        is_bound_by_computing: whether computing takes the time of a step. If not, sending takes it.
        hours: hours of training.
        dollars: price of training.
        fewest_devices: smallest number of devices that holds a run which does not fit this mesh. None: the run fits
            this mesh, or no number of devices holds it.
    """

    index: int
    run_id: str
    context_length: int
    layout: DeviceLayout
    memory: MemoryEstimate
    fits: bool
    seconds_a_step: float
    is_bound_by_computing: bool
    hours: float
    dollars: float
    fewest_devices: int | None


@dataclass(frozen=True)
class MeshPlan:
    """The costs of a study on a mesh of named chips, where one run trains after another.

    Attributes:
        runs: the plan of each run.
        chip: kind of the chips.
        devices: number of chips.
        utilisation: share of a chip's peak FLOPs that training is assumed to reach, from 0 to 1.
    """

    runs: tuple[MeshRunPlan, ...]
    chip: Chip  # with the price that the plan uses
    devices: int
    utilisation: float

    @property
    def hours(self) -> float:
        """The hours of training, where one run trains after another."""
        return sum(run.hours for run in self.runs)

    @property
    def fillable_bytes(self) -> float:
        """The bytes of a device's memory that an estimate may fill."""
        return self.chip.hbm_bytes * choose_layout.FITTING_SHARE


def plan_study(study: StudyConfig, utilisation: float = ASSUMED_UTILISATION) -> StudyPlan:
    """Return the costs of the runs, before anything is spent.

    Args:
        study: the study.
        utilisation: share of a chip's peak FLOPs that training is assumed to reach, from 0 to 1.

    Raises:
        LosslineError: a tokenizer file is missing, or `utilisation` is not a share of a chip's peak.
    """
    chip_hours(0, chip_named("v5e"), utilisation)  # raises an error if the utilisation is not a share
    available = most_tokens(study)
    runs = tuple(_plan_run(index, run, study, available) for index, run in enumerate(study.runs))
    return StudyPlan(study.name, study.question, runs, len(study.suite.set_names), utilisation)


def _plan_run(index: int, run: RunConfig, study: StudyConfig, available: Mapping[str, float]) -> RunPlan:
    vocab_size = tokenizers.planned_vocab_size(run.tokenizer)
    parameters = count_parameters(run.model, vocab_size)
    tokens = run.num_steps * run.tokens_per_step
    return RunPlan(
        index=index,
        run_id=run.run_id,
        differs={name: level for name, level in run.factors.items() if level != study.base.factors[name]},
        parameters=parameters,
        steps=run.num_steps,
        tokens=tokens,
        flops=tokens * train_flops_per_token(run.model, vocab_size, run.context_length) * run.gradients_per_step,
        num_checkpoints=len(run.checkpoint_steps),
        checkpoint_bytes=checkpoint_bytes(run, parameters.total, study.execution),
        fewest_epochs=max(epochs_of(run, available).values(), default=None),
    )


def plan_mesh(
    study: StudyConfig,
    chip_name: str,
    devices: int,
    utilisation: float = ASSUMED_UTILISATION,
    *,
    price: float | None = None,
) -> MeshPlan:
    """Return the costs of the runs on a number of chips: the memory of a device, the time and the price.

    Args:
        study: the study. Its execution gives the mesh.
        chip_name: name of the chip.
        devices: number of chips.
        utilisation: share of a chip's peak FLOPs that training is assumed to reach, from 0 to 1.
        price: dollars for an hour of one chip. None: the price on demand of `distributed.chips.CHIPS`.

    Raises:
        LosslineError: the chip is unknown, the price is no price, or the mesh does not fit the devices or the rows.
    """
    chip = chip_named(chip_name)
    if price is not None:
        if not 0 <= price < math.inf:
            raise LosslineError(f"--price: {price:g} is not a price; give dollars for an hour of one chip, such as 1.2")
        chip = dataclasses.replace(chip, dollars_per_hour=price)
    if devices < 1:
        raise LosslineError(f"--devices: {devices} is not a number of chips; give 1 or more")
    runs = tuple(
        _plan_on_mesh(index, study, chip=chip, devices=devices, utilisation=utilisation)
        for index in range(len(study.runs))
    )
    return MeshPlan(runs, chip, devices, utilisation)


def _plan_on_mesh(index: int, study: StudyConfig, *, chip: Chip, devices: int, utilisation: float) -> MeshRunPlan:
    run = study.runs[index]
    vocab_size = tokenizers.planned_vocab_size(run.tokenizer)
    layout = choose_layout.choose_layout(run, vocab_size, study.execution, devices=devices, chip=chip)
    memory = estimates.memory(run, vocab_size, layout)
    computing, sending = estimates.step_seconds(run, vocab_size, layout, chip=chip, utilisation=utilisation)
    seconds = max(computing, sending or 0.0)
    hours = seconds * run.num_steps / SECONDS_PER_HOUR
    fits = memory.total <= chip.hbm_bytes * choose_layout.FITTING_SHARE
    return MeshRunPlan(
        index=index,
        run_id=run.run_id,
        context_length=run.context_length,
        layout=layout,
        memory=memory,
        fits=fits,
        seconds_a_step=seconds,
        is_bound_by_computing=seconds == computing,
        hours=hours,
        dollars=hours * devices * chip.dollars_per_hour,
        fewest_devices=None if fits else choose_layout.smallest_devices(run, vocab_size, study.execution, chip),
    )
