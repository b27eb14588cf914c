"""Parsing of the words of the command line into typed options.

The options of a verb are a dataclass. A verb on a study also has the knobs of the experiment, which are the arguments
of its function.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from lossline_jax.cli.options import Place
from lossline_jax.config import validate
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline import experiment, study_files
from lossline_jax.storage.inputs import file_kind
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import StudyDir

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

COMMAND = "lossline-jax"
HELP = ("-h", "--help")
# Arguments of functions whose flags have another name.
FLAG_OF_ARGUMENT = {"inputs": "input", "outputs": "y", "losses": "y", "units": "unit", "cluster": "run"}

Options = TypeVar("Options", bound="DataclassInstance")


def parse_study(verb: str, kind: type[Place], source: str, words: list[str]) -> tuple[StudyConfig, StudyDir, Place]:
    """Return a study, its folder and the options of a verb.

    Args:
        verb: the verb as the user types it, for the usage line.
        kind: the dataclass of the verb's flags.
        source: an experiment file or a study's folder.
        words: the flags of `kind`, the knobs of the experiment and `--execution.*`, with their values.

    Raises:
        LosslineError: there is no such study, or a flag is given twice.
    """
    require_each_flag_once(words)
    prog = f"{COMMAND} {verb} {source}"
    if not source.endswith(".py"):
        study, directory = study_files.open_study(source)
        if "--root" in flags_of(words):
            raise LosslineError(f"--root: {source} is a study's folder already; leave the flag out")
        fields = [("options", Annotated[kind, tyro.conf.arg(name="")], kind())]
        parsed = _parse(fields, study.execution, words, prog=prog, description=study.question)
        return dataclasses.replace(study, execution=parsed.execution), directory, parsed.options
    function = experiment.load_study_function(source)
    default = validate.validate_study(function(), source)
    fields = [
        ("options", Annotated[kind, tyro.conf.arg(name="")], kind()),
        ("study", Annotated[StudyConfig, tyro.conf.arg(name="", constructor=function)], dataclasses.MISSING),
    ]
    parsed = _parse(fields, default.execution, words, prog=prog, description=default.question)
    study = validate.validate_study(dataclasses.replace(parsed.study, execution=parsed.execution), source)
    return study, StudyDir(reachable_path(parsed.options.root) / study.name), parsed.options


def parse_options(kind: type[Options], words: list[str], prog: str) -> Options:
    """Return the options of a verb that takes no study.

    Args:
        kind: the dataclass of the verb's flags.
        words: the flags and their values.
        prog: start of the usage line.

    Raises:
        LosslineError: a flag is given twice, or a flag that takes several values has no value.
    """
    require_each_flag_once(words)
    options = tyro.cli(kind, args=words, prog=prog)
    given = {flag.replace("_", "-") for flag in flags_of(words)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == () and (flag := flag_of(field.name)) in given:
            raise LosslineError(f"{flag}: has no value; give at least one, or leave the flag out")
    return options


def _parse(fields: list, execution: ExecutionConfig, words: list[str], *, prog: str, description: str) -> Any:
    """Parse the options of the verb, the knobs of the experiment and `--execution.*` with one typed parser."""
    required = [(name, kind) for name, kind, default in fields if default is dataclasses.MISSING]
    given = [
        (name, kind, dataclasses.field(default=default))
        for name, kind, default in fields
        if default is not dataclasses.MISSING
    ]
    execution_field = ("execution", ExecutionConfig, dataclasses.field(default=execution))
    arguments = dataclasses.make_dataclass("Arguments", [*required, *given, execution_field], frozen=True)
    return tyro.cli(arguments, args=words, prog=prog, description=description)


def is_table(source: str) -> bool:
    """Return True if a name has the ending of a table of losses."""
    return file_kind(source).form in ("csv", "tsv", "jsonl", "parquet")


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
