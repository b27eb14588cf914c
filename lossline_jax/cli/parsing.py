"""Parsing of the words of the command line into typed options.

The options of a verb are a dataclass. A verb on a study also has the knobs of the experiment, which are the arguments
of its function.
"""

import contextlib
import dataclasses
import inspect
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from lossline_jax.cli import complaints
from lossline_jax.cli.options import Place, UsesDevices
from lossline_jax.config import validate
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline import experiment, shipped, study_files
from lossline_jax.storage.inputs import file_kind
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import StudyDir

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

COMMAND = "lossline-jax"
HELP = ("-h", "--help")
# Arguments of functions whose flags have another name.
FLAG_OF_ARGUMENT = {
    **{"inputs": "input", "outputs": "y", "losses": "y", "units": "unit", "cluster": "run"},
    **{"fixed": "fix", "shared": "share"},
}

_Name = Annotated[
    str | None, tyro.conf.arg(help="Another name for the study, and so another folder. Default: the experiment's.")
]
Options = TypeVar("Options", bound="DataclassInstance")


def parse_study(verb: str, kind: type[Place], source: str, words: list[str]) -> tuple[StudyConfig, StudyDir, Place]:
    """Return a study, its folder and the options of a verb.

    Args:
        verb: the verb as the user types it, for the usage line.
        kind: the dataclass of the verb's flags.
        source: an experiment file, the name of an experiment of lossline, or a study's folder.
        words: the flags of `kind`, the knobs of the experiment and `--execution.*`, with their values.

    Raises:
        LosslineError: there is no such study, or the flags are wrong.
    """
    require_each_flag_once(words)
    _refuse_execution(verb, kind, words)
    prog = f"{COMMAND} {verb} {source}"
    path = source if _is_study_folder(source) else shipped.experiment_path(source)
    if not path.endswith(".py"):
        study, directory = study_files.open_study(source, _experiment_of(words))
        if "--root" in flags_of(words):
            raise LosslineError(f"--root: {source} is a study's folder already; leave the flag out")
        fields = [("options", Annotated[kind, tyro.conf.arg(name="")], kind())]
        parsed, execution = _parse(fields, kind, study.execution, words, prog=prog, description=study.question)
        return dataclasses.replace(study, execution=execution), directory, parsed.options
    if _experiment_of(words) is not None:
        raise LosslineError(f"--experiment: {source} is an experiment file itself; leave the flag out")
    function = experiment.load_study_function(path)
    default = validate.validate_study(function(), source)
    fields = [
        ("options", Annotated[kind, tyro.conf.arg(name="")], kind()),
        ("study", Annotated[StudyConfig, tyro.conf.arg(name="", constructor=function)], dataclasses.MISSING),
    ]
    has_name = "name" in inspect.signature(function).parameters  # then --name is a knob of the experiment
    fields += [] if has_name else [("name", _Name, None)]
    parsed, execution = _parse(fields, kind, default.execution, words, prog=prog, description=default.question)
    if not has_name and parsed.name is not None:
        parsed = dataclasses.replace(parsed, study=dataclasses.replace(parsed.study, name=parsed.name))
    study = validate.validate_study(dataclasses.replace(parsed.study, execution=execution), source)
    return study, StudyDir(reachable_path(parsed.options.root) / study.name), parsed.options


def parse_options(kind: type[Options], words: list[str], prog: str) -> Options:
    """Return the options of a verb that takes no study.

    Args:
        kind: the dataclass of the verb's flags.
        words: the flags and their values.
        prog: start of the usage line.

    Raises:
        LosslineError: the flags are wrong, or a flag that takes several values has no value.
    """
    require_each_flag_once(words)
    options = complaints.parse(lambda: tyro.cli(kind, args=words, prog=prog), words, prog)
    given = {flag.replace("_", "-") for flag in flags_of(words)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == () and (flag := flag_of(field.name)) in given:
            raise LosslineError(f"{flag}: has no value; give at least one, or leave the flag out")
    return options


def show_help(verb: str, kind: type[Place], summary: str) -> None:
    """Print the flags of a verb on a study, for a user who has named no study yet."""
    knobs = f"The experiment adds flags of its own: `{COMMAND} {verb} quickstart --help` lists those of the quickstart."
    fields = [("options", Annotated[kind, tyro.conf.arg(name="")], kind())]
    with contextlib.suppress(SystemExit):  # the parser exits after a help page
        _parse(
            fields,
            kind,
            ExecutionConfig(),
            ["--help"],
            prog=f"{COMMAND} {verb} STUDY",
            description=f"{verb}: {summary}\n\n{knobs}",
        )


def _parse(
    fields: list, kind: type[Place], execution: ExecutionConfig, words: list[str], *, prog: str, description: str
) -> tuple[Any, ExecutionConfig]:
    """Parse the options of the verb and the knobs of the experiment, with `--execution.*` if the verb uses devices."""
    if issubclass(kind, UsesDevices):
        fields = [*fields, ("execution", ExecutionConfig, execution)]
    required = [(name, kind) for name, kind, default in fields if default is dataclasses.MISSING]
    given = [
        (name, kind, dataclasses.field(default=default))
        for name, kind, default in fields
        if default is not dataclasses.MISSING
    ]
    arguments = dataclasses.make_dataclass("Arguments", [*required, *given], frozen=True)
    parsed = complaints.parse(lambda: tyro.cli(arguments, args=words, prog=prog, description=description), words, prog)
    return parsed, getattr(parsed, "execution", execution)


def _experiment_of(words: list[str]) -> str | None:
    """Return the value of `--experiment`, which is needed before the other flags are parsed. None: it is not given."""
    for word, following in pairwise([*words, ""]):
        if word.startswith("--experiment="):
            return word.partition("=")[2]
        if word == "--experiment":
            return following
    return None


def _is_study_folder(source: str) -> bool:
    """Return True if a name without a path is a study's folder here. It may be the name of an experiment too."""
    return StudyDir(reachable_path(source)).study_file.exists() if re.fullmatch(shipped.NAME, source) else False


def _refuse_execution(verb: str, kind: type[Place], words: list[str]) -> None:
    """Refuse `--execution.*` for a verb to which it means nothing."""
    flag = next((flag for flag in flags_of(words) if flag.startswith("--execution.")), None)
    if flag is not None and not issubclass(kind, UsesDevices):
        raise LosslineError(f"{flag}: means nothing to `{verb}`, which trains and scores nothing; leave it out")


def is_table(source: str) -> bool:
    """Return True if a name has the ending of a table of losses."""
    return file_kind(source).form in ("csv", "tsv", "jsonl", "parquet")


def is_root(source: str) -> bool:
    """Return True if a name is a folder that is no study and has studies in it."""
    folder = StudyDir(reachable_path(source))
    return not source.endswith(".py") and not folder.study_file.exists() and bool(study_files.studies_below(source))


def flag_of(argument: str) -> str:
    """Return the flag for an argument of a function."""
    return f"--{FLAG_OF_ARGUMENT.get(argument, argument).replace('_', '-')}"


def flags_of(words: list[str]) -> list[str]:
    """Return the flags among the words, as the user typed them but without values."""
    return [word.split("=")[0] for word in words if word.startswith("--")]


def require_each_flag_once(words: list[str]) -> None:
    """Refuse a flag that is given twice, since the parser would silently use the last one.

    Args:
        words: the flags and their values.

    Raises:
        LosslineError: a flag is given twice.
    """
    given_names = set()
    for flag in flags_of(words):
        name = flag.replace("_", "-").replace("--no-", "--").replace(".no-", ".")
        if name in given_names:
            raise LosslineError(f"{flag}: give it once, with all its values after it")
        given_names.add(name)
