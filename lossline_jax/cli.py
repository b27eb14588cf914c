"""The command line: parse, call the pipeline, print.

lossline VERB STUDY.py [flags]      a study, from its experiment file
lossline VERB STUDY_FOLDER [flags]  the same study, from the folder that an earlier command made
"""

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from etils import epath

from lossline_jax import __version__, experiment
from lossline_jax.config import suggestion
from lossline_jax.errors import LosslineError
from lossline_jax.rundir import StudyDir
from lossline_jax.study import StudyConfig
from lossline_jax.train.config import ExecutionConfig

USAGE = """lossline: a laboratory for loss-to-loss scaling laws

usage: lossline VERB STUDY [flags]      STUDY: an experiment file, or a study's folder
       lossline VERB STUDY --help       the flags of a verb, with the knobs of the experiment

the road, left to right; each verb skips what is done and can be killed at any moment
  run       walk the whole road: prepare, train, evaluate, fit, report
  plan      show the runs with their parameters, tokens and FLOPs; nothing is computed
  prepare   corpora, tokenizers, token stores and evaluation sets
  train     train the runs
  evaluate  score every checkpoint on every evaluation set; write the losses table
  fit       fit the lines; or `lossline fit --losses TABLE --x X --y Y [--by COLUMN ...]` on any table
  report    one HTML page with figures and tables
  status    progress of every run, from the run folders
  show      results in the terminal; with --run ID that run's configuration

  lossline run --manifest M [--index I]   one run of a study spread over a cluster
"""


@dataclass(frozen=True)
class Place:
    """Flags that every verb has."""

    root: str = "studies"
    """Folder that holds the study's folder: a local path or gs://."""


@dataclass(frozen=True)
class PlanOptions(Place):
    manifest: bool = False
    """Also write manifest.jsonl, a run a line, and study.json into the study's folder."""


@dataclass(frozen=True)
class SomeRuns(Place):
    only: tuple[str, ...] = ()
    """Run ids to work on, as `lossline plan` lists them. Default: all."""


@dataclass(frozen=True)
class ShowOptions(Place):
    run: str | None = None
    """A run id: show its configuration and progress instead of the results."""


@dataclass(frozen=True)
class FitOptions:
    """Fit lines to any table of losses."""

    losses: Path
    """Table: .csv, .parquet or .jsonl."""
    x: str
    """Column (or, in a lossline table, evaluation set) on the horizontal axis."""
    y: str
    """Column or evaluation set on the vertical axis."""
    by: tuple[str, ...] = ()
    """Columns whose values divide the rows into groups, a line each."""
    cluster: str | None = None
    """Column that names the run a row belongs to, so that intervals resample whole runs."""
    unit: Literal["nats_per_token", "bits_per_byte"] = "nats_per_token"
    """Which loss of a lossline table; ignored where x and y are columns."""
    out: Path | None = None
    """Write the fits as JSON here."""


@dataclass(frozen=True)
class ManifestOptions:
    """Do one run of a study: train it, evaluate it. Idempotent."""

    manifest: str
    """The manifest.jsonl that `lossline plan STUDY.py --manifest` wrote."""
    index: int | None = None
    """Line to run, from 0. Default: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK."""


STUDY_VERBS: dict[str, type] = {
    "plan": PlanOptions,
    "prepare": Place,
    "train": SomeRuns,
    "evaluate": SomeRuns,
    "fit": Place,
    "report": Place,
    "run": Place,
    "status": Place,
    "show": ShowOptions,
}


def main(argv: list[str] | None = None) -> None:
    """Run one command; exits 0 when done, 2 on a user's mistake, 1 on a failed run, 42 when to be restarted."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        dispatch(argv)
    except LosslineError as error:
        sys.exit(_complain(str(error), error.exit_code))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        sys.exit(_complain(f"{error.filename or 'input or output'}: {error.strerror or error}", 1))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted; the same command goes on where this one stopped", 130))


def dispatch(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    verb, rest = argv[0], argv[1:]
    if verb == "--version":
        print(f"lossline {__version__}")
        return
    if verb not in STUDY_VERBS:
        raise LosslineError(f"unknown verb {verb!r}{suggestion(verb, STUDY_VERBS)}; `lossline --help` lists them")
    if rest and not rest[0].startswith("-"):
        _run_verb(verb, *parse_study(verb, rest[0], rest[1:]))
    elif rest and verb == "fit":
        _fit_table(tyro.cli(FitOptions, args=rest, prog="lossline fit"))
    elif verb == "run" and any(word.split("=")[0] == "--manifest" for word in rest):
        _run_manifest(tyro.cli(ManifestOptions, args=rest, prog="lossline run"))
    elif rest in (["-h"], ["--help"]):
        print(USAGE, end="")
    else:
        table = ", or a table with --losses" if verb == "fit" else ""
        raise LosslineError(
            f"name a study first: lossline {verb} experiments/quickstart.py (or a study's folder{table})"
        )


def parse_study(verb: str, source: str, flags: list[str]) -> tuple[StudyConfig, StudyDir, Place]:
    """The study, its folder and the verb's own options from the words after the verb."""
    options_class = STUDY_VERBS[verb]
    prog = f"lossline {verb} {source}"
    if not source.endswith(".py"):
        study, directory = experiment.open_study(source)
        if any(word.split("=")[0] == "--root" for word in flags):
            raise LosslineError(f"--root: {source} is a study's folder already; leave the flag out")
        fields = [("options", Annotated[options_class, tyro.conf.arg(name="")], options_class())]
        parsed = _parse(fields, study.execution, flags, prog, study.question)
        return dataclasses.replace(study, execution=parsed.execution), directory, parsed.options
    function = experiment.load_study_function(source)
    default = experiment.check_study(function(), source)
    fields = [
        ("options", Annotated[options_class, tyro.conf.arg(name="")], options_class()),
        ("study", Annotated[StudyConfig, tyro.conf.arg(name="", constructor=function)], dataclasses.MISSING),
    ]
    parsed = _parse(fields, default.execution, flags, prog, default.question)
    study = experiment.check_study(dataclasses.replace(parsed.study, execution=parsed.execution), source)
    return study, StudyDir(epath.Path(parsed.options.root) / study.name), parsed.options


def _parse(fields: list, execution: ExecutionConfig, flags: list[str], prog: str, description: str):
    """Options of the verb, knobs of the experiment and `--execution.*`, in one typed parser."""
    required = [(name, kind) for name, kind, default in fields if default is dataclasses.MISSING]
    given = [
        (name, kind, dataclasses.field(default=default))
        for name, kind, default in fields
        if default is not dataclasses.MISSING
    ]
    execution_field = ("execution", ExecutionConfig, dataclasses.field(default=execution))
    arguments = dataclasses.make_dataclass("Arguments", [*required, *given, execution_field], frozen=True)
    return tyro.cli(arguments, args=flags, prog=prog, description=description)


def _run_verb(verb: str, study: StudyConfig, directory: StudyDir, options: Place) -> None:
    from lossline_jax import pipeline, views

    match verb:
        case "plan":
            print(views.plan_text(study))
            if options.manifest:
                print(f"manifest: {pipeline.write_manifest(study, directory)}")
        case "status":
            print(views.status_text(study, directory))
        case "show":
            print(views.show_text(study, directory, options.run))
        case "prepare":
            pipeline.prepare(study, directory)
        case "train":
            pipeline.train(study, directory, options.only)
        case "evaluate":
            pipeline.evaluate(study, directory, options.only)
        case "fit":
            print(pipeline.fit(study, directory))
        case "report":
            print(f"report: {pipeline.report(study, directory)}")
        case "run":
            pipeline.run(study, directory)


def _fit_table(options: FitOptions) -> None:
    from lossline_jax import pipeline

    print(pipeline.fit_any_table(**vars(options)))


def _run_manifest(options: ManifestOptions) -> None:
    from lossline_jax import pipeline

    index = experiment.index_from_environment() if options.index is None else options.index
    if index is None:
        raise LosslineError("--index: say which line of the manifest to run (no engine's variable is set)")
    pipeline.run_one(*experiment.read_manifest_run(options.manifest, index))


def _complain(message: str, exit_code: int) -> int:
    print(f"lossline: {message}", file=sys.stderr)
    return exit_code
