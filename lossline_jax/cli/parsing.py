"""Words of the command line as typed options: a study's from its signature, every other verb's from a dataclass."""

import dataclasses
from typing import Annotated, TypeVar

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

COMMAND = "lossline-jax"
HELP = ("-h", "--help")
FLAG_OF_ARGUMENT = {"inputs": "input", "outputs": "y"}  # those that go by another name

Options = TypeVar("Options")


def parse_study(verb: str, kind: type[Place], source: str, words: list[str]) -> tuple[StudyConfig, StudyDir, Place]:
    """Return a study, its folder and the options of a verb.

    Args:
        verb: the verb as it is typed, for the usage line.
        kind: the dataclass of its flags.
        source: an experiment file or a study's folder.
        words: the flags: those of `kind`, the knobs of the experiment and `--execution.*`.

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
        parsed = _parse(fields, study.execution, words, prog, study.question)
        return dataclasses.replace(study, execution=parsed.execution), directory, parsed.options
    function = experiment.load_study_function(source)
    default = validate.validate_study(function(), source)
    fields = [
        ("options", Annotated[kind, tyro.conf.arg(name="")], kind()),
        ("study", Annotated[StudyConfig, tyro.conf.arg(name="", constructor=function)], dataclasses.MISSING),
    ]
    parsed = _parse(fields, default.execution, words, prog, default.question)
    study = validate.validate_study(dataclasses.replace(parsed.study, execution=parsed.execution), source)
    return study, StudyDir(reachable_path(parsed.options.root) / study.name), parsed.options


def parse_options(kind: type[Options], words: list[str], prog: str) -> Options:
    """Return the options of a verb that takes no study.

    Raises:
        LosslineError: a flag is given twice, or one that takes several values has none.
    """
    require_each_flag_once(words)
    options = tyro.cli(kind, args=words, prog=prog)
    given = {flag.replace("_", "-") for flag in flags_of(words)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == () and (flag := flag_of(field.name)) in given:
            raise LosslineError(f"{flag}: has no value; give at least one, or leave the flag out")
    return options


def _parse(fields: list, execution: ExecutionConfig, words: list[str], prog: str, description: str):
    """Options of the verb, knobs of the experiment and `--execution.*`, in one typed parser."""
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
    """Return whether a name has the ending of a table of losses."""
    return file_kind(source).form in ("csv", "tsv", "jsonl", "parquet")


def flag_of(argument: str) -> str:
    """Return the flag that fills an argument in."""
    return f"--{FLAG_OF_ARGUMENT.get(argument, argument).replace('_', '-')}"


def flags_of(words: list[str]) -> list[str]:
    """Return the flags among the words, as they are typed and without values."""
    return [word.split("=")[0] for word in words if word.startswith("--")]


def require_each_flag_once(words: list[str]) -> None:
    """Raise LosslineError for a flag that is given twice: the parser would silently take the last."""
    seen = set()
    for flag in flags_of(words):
        name = flag.replace("_", "-").replace("--no-", "--").replace(".no-", ".")
        if name in seen:
            raise LosslineError(f"{flag}: give it once, with all its values after it")
        seen.add(name)
