"""The command line: parse, call the pipeline, print.

lossline VERB STUDY.py [flags]      a study, from its experiment file
lossline VERB STUDY_FOLDER [flags]  the same study, from the folder that an earlier command made
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, TypeVar

import tyro

from lossline_jax import __version__, logs
from lossline_jax.cli.options import (
    STUDY_VERBS,
    BacktestOptions,
    CompareTableOptions,
    EvaluateOptions,
    ExportOptions,
    FitOptions,
    ImportLossesOptions,
    ImportOptions,
    ManifestOptions,
    Place,
    PredictOptions,
    ReportTableOptions,
    ResubmitOptions,
    Work,
)
from lossline_jax.config import validate
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.ranges import SECONDS, check_ranges
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import RESTART_EXIT_CODE, ArgumentError, LosslineError, suggestion
from lossline_jax.formatting import shown
from lossline_jax.pipeline import experiment, study_files
from lossline_jax.storage.object_store import connect, failure
from lossline_jax.storage.paths import ModelDir, StudyDir

Options = TypeVar("Options")

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT
PIPE_EXIT_CODE = 141  # 128 + SIGPIPE
TABLE_VERBS = ("predict", "backtest", "laws")
EITHER_VERBS = ("fit", "compare", "report")  # a study, or with --losses any table
FLAG_OF_ARGUMENT = {"inputs": "input", "loss": "objective", "outputs": "y"}  # those that go by another name

USAGE = """lossline: a laboratory for loss-to-loss scaling laws

usage: lossline VERB STUDY [flags]      STUDY: an experiment file, or a study's folder
       lossline VERB STUDY --help       the flags of a verb, with the knobs of the experiment

the road, left to right; each verb skips what is done and can be killed at any moment
  run       walk the whole road: prepare, train, evaluate, fit, report
  plan      show the runs with their parameters, tokens, FLOPs and chip-hours; nothing is computed
  check     compile its programs for a TPU slice (--topology v5e:4x4) without one: do they fit, what do they send
  prepare   corpora, tokenizers, token stores and evaluation sets
  train     train the runs
  evaluate  score every checkpoint on every evaluation set; write the losses table; with --follow as they come
  fit       fit the lines, and compare those that are equal in all but one factor
  compare   the answer alone, and no other fit: which factor moves the line
  report    one HTML page with figures and tables; with --watch served while the study runs
  status    progress, time left, failures and costs of every run, from the run folders
  show      results in the terminal; with --run ID that run's configuration

weights in and out: folders of safetensors with config.json and tokenizer.json, as transformers reads and writes them
  import-weights DIR        into a folder for `lossline evaluate STUDY --checkpoint FOLDER` (which takes DIR too)
  export-weights STUDY --run ID      a run's checkpoint; or `export-weights FOLDER` of an imported model

any table of losses (.csv, .tsv, .jsonl, .parquet); each takes --help
  fit       --losses TABLE --x X --y Y [--by COLUMN ...]: lines; or --law LAW --y Y --input N=params ...: any law
  compare   --losses TABLE --x X --y Y [--factors COLUMN ...]: which factor moves the line, and is it more than noise
  report    --losses TABLE --x X --y Y [--factors COLUMN ...]: the same as one HTML page
  predict   --losses TABLE --y Y --params P --tokens D --at-flops 1e21: losses of a run nobody trained, with intervals
  backtest  --losses TABLE --y Y --params P --tokens D: the largest budgets predicted from the smaller ones
  laws      [LAW]: the laws that can be fitted; one of them in full

tables of other studies
  import-losses TABLE --out losses.csv   the published tables of "LLMs on the Line" and "Loss-to-Loss Prediction"

many runs: launch/README.md
  run --manifest M [--index I]    one run of a study that is spread over machines
  resubmit M         the indices of the runs that are not done, for an engine's array of jobs: 0,3,5-7
"""


def main(argv: list[str] | None = None) -> None:
    """Run one command; exits 0 when done, 1 on a failed run, 2 on a user's mistake.

    It exits 42 when to be started again at once, and 75 when another process works on the run.

    Where no one reads on (`| head`), it ends without a word, with the exit code that a shell gives for this.

    Args:
        argv: the words after `lossline`. None: those of this process, which is then the command's own. Told to stop,
            it ends at once, without what Python does at its end.
    """
    is_own_process, argv = argv is None, sys.argv[1:] if argv is None else argv
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else the last line may be one of jax's about how it left
    logs.take_any_text()
    logs.drop_late_complaints()
    try:
        dispatch(argv)
        sys.stdout.flush()
    except SystemExit as leaving:  # of the parser, or of a run that was told to stop, as its other processes were
        _leave(leaving.code, together=True, at_once=is_own_process and leaving.code == RESTART_EXIT_CODE)
    except KeyboardInterrupt:
        code = _complain("interrupted; the same command goes on where this one stopped", INTERRUPTED_EXIT_CODE)
        _leave(code, at_once=is_own_process)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and logs.reader_has_left():
            _leave(PIPE_EXIT_CODE)
        known = _known_error(error)
        if known is None and not _one_of_several():
            raise
        if known is None:
            traceback.print_exc()
            known = f"{type(error).__name__} (the trace is above); this process leaves and the others will", 1
        _leave(_complain(*known))
    _leave(0, together=True)


def _known_error(error: Exception) -> tuple[str, int] | None:
    """The line for an error that is not a bug of ours, and the exit code."""
    shutdown = _loaded("shutdown")
    told = error if isinstance(error, LosslineError) else failure(error)
    told = told or (shutdown and shutdown.device_error(error))
    if told is not None:
        return told.said(flag_of) if isinstance(told, ArgumentError) else str(told), told.exit_code
    if isinstance(error, OSError):
        code = RESTART_EXIT_CODE if _one_of_several() else 1  # it may be of this machine alone
        return f"{error.filename or 'input or output'}: {error.strerror or error}", code
    return None


def flag_of(argument: str) -> str:
    """The flag that fills an argument in."""
    return f"--{FLAG_OF_ARGUMENT.get(argument, argument).replace('_', '-')}"


def _complain(message: str, exit_code: int) -> int:
    logs.warn(f"lossline: {shown(message)}")
    return exit_code


@contextlib.contextmanager
def _leaving_when_told() -> Iterator[None]:
    """Answer SIGTERM with the exit code of "start me again"; training saves first (`distributed.preemption`).

    Outside training nothing is lost by leaving at once. Of several processes jax takes the signal instead.
    """

    def stop(*_: object) -> None:
        raise SystemExit(RESTART_EXIT_CODE)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave(exit_code: int | str | None, together: bool = False, at_once: bool = False) -> None:
    """End with this code. Every block has been left: all locks are free, and no file is there by half.

    Args:
        together: see `shutdown.leave`.
        at_once: leave without what Python does at its end, which takes seconds.
    """
    logs.finish()
    if shutdown := _loaded("shutdown"):
        shutdown.leave(exit_code, together)
    if at_once:
        os._exit(exit_code)
    if exit_code:
        sys.exit(exit_code)


def _one_of_several() -> bool:
    return (processes := _loaded("processes")) is not None and processes.met_several()


def _loaded(name: str) -> ModuleType | None:
    """Of this run, if the verb has come so far; the others need no jax."""
    return sys.modules.get(f"lossline_jax.distributed.{name}")


def dispatch(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    verb, rest = argv[0], argv[1:]
    _require_each_flag_once(rest)
    if verb == "--version":
        print(f"lossline {__version__}")
        return
    if verb == "import-weights":
        _import_weights(rest)
        return
    if verb == "import-losses":
        _import_losses(rest)
        return
    if verb == "resubmit":
        _resubmit(rest)
        return
    if verb in TABLE_VERBS:
        _analyse(verb, rest)
        return
    if verb not in STUDY_VERBS:
        known = [*STUDY_VERBS, *TABLE_VERBS, "import-weights", "import-losses", "resubmit"]
        raise LosslineError(f"unknown verb {verb!r}{suggestion(verb, known)}; `lossline --help` lists them")
    if verb == "export-weights" and rest and ModelDir(connect(rest[0])).model_file.exists():
        _export_imported(rest[0], tyro.cli(ExportOptions, args=rest[1:], prog=f"lossline {verb} {rest[0]}"))
    elif rest and not rest[0].startswith("-"):
        study, directory, options = parse_study(verb, rest[0], rest[1:])
        with _leaving_when_told() if isinstance(options, Work) else contextlib.nullcontext():
            _run_verb(verb, study, directory, options)
    elif rest and verb in EITHER_VERBS:
        _analyse(verb, rest)
    elif verb == "run" and "--manifest" in _flags(rest):
        with _leaving_when_told():
            _run_manifest(tyro.cli(ManifestOptions, args=rest, prog="lossline run"))
    elif rest in (["-h"], ["--help"]):
        print(USAGE, end="")
    else:
        table = ", or a table with --losses" if verb in EITHER_VERBS else ""
        raise LosslineError(
            f"name a study first: lossline {verb} experiments/quickstart.py (or a study's folder{table})"
        )


def _require_each_flag_once(words: list[str]) -> None:
    """Raises LosslineError for a flag that is given twice: the parser would take the last without a word."""
    seen = set()
    for flag in _flags(words):
        name = flag.replace("_", "-").replace("--no-", "--").replace(".no-", ".")
        if name in seen:
            raise LosslineError(f"{flag}: give it once, with all its values after it")
        seen.add(name)


def _flags(words: list[str]) -> list[str]:
    """The flags among the words, as they are typed and without values."""
    return [word.split("=")[0] for word in words if word.startswith("--")]


def parse_study(verb: str, source: str, flags: list[str]) -> tuple[StudyConfig, StudyDir, Place]:
    """The study, its folder and the verb's own options from the words after the verb."""
    options_class = STUDY_VERBS[verb]
    prog = f"lossline {verb} {source}"
    if not source.endswith(".py"):
        study, directory = study_files.open_study(source)
        if "--root" in _flags(flags):
            raise LosslineError(f"--root: {source} is a study's folder already; leave the flag out")
        fields = [("options", Annotated[options_class, tyro.conf.arg(name="")], options_class())]
        parsed = _parse(fields, study.execution, flags, prog, study.question)
        return dataclasses.replace(study, execution=parsed.execution), directory, parsed.options
    function = experiment.load_study_function(source)
    default = validate.check_study(function(), source)
    fields = [
        ("options", Annotated[options_class, tyro.conf.arg(name="")], options_class()),
        ("study", Annotated[StudyConfig, tyro.conf.arg(name="", constructor=function)], dataclasses.MISSING),
    ]
    parsed = _parse(fields, default.execution, flags, prog, default.question)
    study = validate.check_study(dataclasses.replace(parsed.study, execution=parsed.execution), source)
    return study, StudyDir(connect(parsed.options.root) / study.name), parsed.options


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
    from lossline_jax.pipeline import report as report_verbs
    from lossline_jax.pipeline import study as study_verbs
    from lossline_jax.pipeline import study_files as study_files_verbs
    from lossline_jax.pipeline import weights as weights_verbs
    from lossline_jax.summary import plan, results, status

    if verb in EITHER_VERBS:
        _keep_programs()
    if isinstance(options, Work):
        check_ranges(options.processes, "--processes")
    match verb:
        case "plan":
            logs.show(plan.plan_text(study, options.utilisation))
            if options.chip is not None:
                from lossline_jax.summary.mesh_plan import mesh_plan_text

                logs.show(f"\n{mesh_plan_text(study, options.chip, options.devices, options.utilisation)}")
            if options.manifest:
                logs.show(f"manifest: {study_files_verbs.write_manifest(study, directory)}")
        case "status":
            logs.show(status.status_text(study, directory))
        case "show":
            logs.show(results.show_text(study, directory, options.run))
        case "check":
            logs.show(study_verbs.check(study, options.topology, options.only))
        case "prepare":
            study_verbs.prepare(study, directory)
        case "train":
            study_verbs.train(study, directory, options.only, options.processes, options.profile)
        case "evaluate":
            _evaluate(study, directory, options)
        case "fit":
            logs.show(report_verbs.fit(study, directory, options.merge_copies, options.out))
        case "compare":
            logs.show(report_verbs.compare(study, directory, options.merge_copies, options.out))
        case "report" if options.watch:
            report_verbs.watch(study, directory, options.port, options.out)
        case "report":
            logs.show(f"report: {report_verbs.report(study, directory, options.out)}")
        case "run":
            study_verbs.run(study, directory, options.processes, options.profile)
        case "export-weights":
            if options.run is None:
                raise LosslineError("--run: say which run; `lossline plan` lists their ids")
            out = options.out or f"exported/{options.run}"
            weights_verbs.export_weights(
                study, directory, options.run, options.step, out, options.dtype, options.tokenizer
            )


def _evaluate(study: StudyConfig, directory: StudyDir, options: EvaluateOptions) -> None:
    from lossline_jax.pipeline import study as study_verbs

    if not options.follow:
        study_verbs.evaluate(study, directory, options.only, options.checkpoint, options.processes)
        return
    if options.checkpoint:
        raise LosslineError("--checkpoint: a model from elsewhere does not train; leave out --follow")
    if not SECONDS.holds(options.poll_seconds):
        raise LosslineError(f"--poll-seconds: {options.poll_seconds:g} is no time to wait; give {SECONDS}")
    study_verbs.follow(study, directory, options.only, options.poll_seconds, options.processes)


def _analyse(verb: str, words: list[str]) -> None:
    """A verb on any table of losses."""
    from lossline_jax.cli import table_commands

    if verb != "laws":
        _keep_programs()
    match verb:
        case "fit":
            logs.show(table_commands.fit(_table_options(verb, FitOptions, words)))
        case "compare":
            logs.show(table_commands.compare(_table_options(verb, CompareTableOptions, words)))
        case "report":
            logs.show(table_commands.report(_table_options(verb, ReportTableOptions, words)))
        case "predict":
            logs.show(table_commands.predict(_table_options(verb, PredictOptions, words)))
        case "backtest":
            logs.show(table_commands.backtest(_table_options(verb, BacktestOptions, words)))
        case "laws":
            if len(words) > 1 or any(word.startswith("-") for word in words):
                raise LosslineError("lossline laws [LAW]: name one law, in quotes where it has spaces")
            logs.show(table_commands.laws(words[0] if words else None))


def _table_options(verb: str, kind: type[Options], words: list[str]) -> Options:
    """The flags of a verb on a table; one that takes several values takes at least one."""
    options = tyro.cli(kind, args=words, prog=f"lossline {verb}")
    given = {flag.replace("_", "-") for flag in _flags(words)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == () and (flag := flag_of(field.name)) in given:
            raise LosslineError(f"{flag}: has no value; give at least one, or leave the flag out")
    return options


def _keep_programs() -> None:
    """Before the first program of a fit is compiled."""
    from lossline_jax.pipeline.compilation_cache import keep_programs

    keep_programs()


def _import_weights(words: list[str]) -> None:
    source, options = _source_and_options("import-weights", ImportOptions, "DIR [--out FOLDER] [flags]", words)
    from lossline_jax.pipeline import weights as weights_verbs

    weights_verbs.import_weights(source, options.out, options)


def _import_losses(words: list[str]) -> None:
    source, options = _source_and_options("import-losses", ImportLossesOptions, "TABLE --out losses.csv", words)
    from lossline_jax.pipeline import weights as weights_verbs

    weights_verbs.import_losses(source, options.out, options.schema)


def _resubmit(words: list[str]) -> None:
    source, options = _source_and_options("resubmit", ResubmitOptions, "MANIFEST [--failed]", words)
    from lossline_jax.status.resubmit import resubmission

    found = resubmission(*study_files.read_manifest(source), options.failed)
    for note in found.notes:
        logs.say(note)
    if found.indices:
        logs.show(found.indices)


def _source_and_options(verb: str, kind: type[Options], usage: str, words: list[str]) -> tuple[str, Options]:
    """What a verb reads, named first, and its flags."""
    if words in ([], ["-h"], ["--help"]):
        words = ["--help"]
    elif words[0].startswith("-"):
        raise LosslineError(f"say what to read first: lossline {verb} {usage}")
    source = usage.split()[0] if words == ["--help"] else words[0]
    return source, tyro.cli(kind, args=words if words == ["--help"] else words[1:], prog=f"lossline {verb} {source}")


def _export_imported(source: str, options: ExportOptions) -> None:
    from lossline_jax.pipeline import weights as weights_verbs

    if options.run is not None:
        raise LosslineError(f"--run: {source} is an imported model and has no runs; leave the flag out")
    out = options.out or f"exported/{Path(source).resolve().name}"
    weights_verbs.export_imported(source, options.step, out, options.dtype, options.tokenizer)


def _run_manifest(options: ManifestOptions) -> None:
    from lossline_jax.pipeline import study as study_verbs

    check_ranges(options.processes, "--processes")
    index = study_files.index_from_environment() if options.index is None else options.index
    if index is None:
        raise LosslineError("--index: say which line of the manifest to run (no engine's variable is set)")
    study_verbs.run_one(*study_files.read_manifest_run(options.manifest, index), options.processes, options.profile)
