"""Load an experiment file. It is Python, so it is executed: run only files you trust.

An experiment file defines `def study(...) -> StudyConfig`. The function's arguments are the knobs of the
experiment: each has a type and a default, and each is a flag of the command line. Everything else is derived
from them inside the function, so that no derived number can be overridden out of step with the others.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lossline_jax.config import from_json, suggestion, to_json
from lossline_jax.console import say
from lossline_jax.errors import LosslineError
from lossline_jax.inputs import parse_object, read_lines
from lossline_jax.models.check import check_config
from lossline_jax.models.config import max_context_length
from lossline_jax.ranges import check_ranges
from lossline_jax.rundir import StudyDir, read_record
from lossline_jax.storage import connect, expanded
from lossline_jax.study import RunConfig, StudyConfig

LONGEST_NAME = 200  # a file system takes 255 bytes, and folders of corpora and tokenizers add to the name
FOLDER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"

StudyFunction = Callable[..., StudyConfig]


def load_study_function(path: str) -> StudyFunction:
    """The `study` function of an experiment file.

    Raises:
        LosslineError: no such file, it cannot be executed, it has no `study`, or a knob has no type or default.
    """
    path = expanded(path)
    if not Path(path).is_file():
        raise LosslineError(f"{path}: no such experiment file; experiments/ has some to start from")
    module = _execute(Path(path))
    function = getattr(module, "study", None)
    if not callable(function):
        raise LosslineError(f"{path}: needs a function `def study() -> StudyConfig`")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise LosslineError(f"{path}: argument {name!r} of study() needs a type and a default value")

    @functools.wraps(function)
    def named_errors(*args: Any, **kwargs: Any) -> StudyConfig:
        with _errors_named_by_line(path):
            return function(*args, **kwargs)

    return named_errors


def check_study(study: StudyConfig, where: str) -> StudyConfig:
    """Catch before any work what would fail after hours of it.

    Returns:
        The study with every value in the type of its field (an int given for a float is that float), so that
        it is the same study, with the same run ids, when it is read back from study.json.

    Raises:
        LosslineError: a value of the wrong type, a name that nothing defines, two equal runs, runs that no
            factor tells apart, a model or size that cannot be.
    """
    if not isinstance(study, StudyConfig):
        raise LosslineError(f"{where}: study() returned {type(study).__name__}, not StudyConfig")
    study = from_json(StudyConfig, to_json(study), where)
    try:
        check_ranges(study)
    except LosslineError as error:
        raise LosslineError(f"{where}: {error}") from error
    _check_folder_name(study.name, f"{where}: name")
    if not study.runs or not study.corpora:
        raise LosslineError(f"{where}: the study has no {'corpora' if study.runs else 'runs'}")
    corpora = [corpus.name for corpus in study.corpora]
    for name in corpora:
        _check_folder_name(name, f"{where}: corpus")
    _refuse_duplicates(corpora, "corpus", where)
    _refuse_duplicates([run.run_id for run in study.runs], "run", where)
    _refuse_hidden_differences(study, where)
    _refuse_duplicates(list(study.suite.set_names), "evaluation set", where)
    for run in study.runs:
        needed = [name for name, _ in run.data.mixture] + [getattr(run.tokenizer, "corpus", corpora[0])]
        for name in needed:
            _must_know(name, corpora, f"{where}: run {run.run_id}", "corpus")
        try:
            check_config(run.model)
        except LosslineError as error:
            raise LosslineError(f"{where}: run {run.run_id}: {error}") from error
        _refuse_short_model(study, run, where)
    for item in (*study.suite.validation, *study.suite.cloze):
        _must_know(item.corpus, corpora, f"{where}: evaluation set {item.name}", "corpus")
    for axis in ("x", "y"):
        _must_know(getattr(study, axis), study.suite.set_names, f"{where}: {axis}", "evaluation set")
    if study.x == study.y:
        raise LosslineError(f"{where}: x and y are both {study.x!r}; a line needs two different losses")
    if study.suite.overlap >= study.suite.context_length:
        raise LosslineError(f"{where}: suite.overlap must be less than suite.context_length")
    return study


def _check_folder_name(name: str, where: str) -> None:
    if len(name) > LONGEST_NAME:
        raise LosslineError(
            f"{where} {name[:20]!r}... has {len(name)} characters; {LONGEST_NAME} are the most for a folder"
        )
    if not re.fullmatch(FOLDER_NAME, name):
        raise LosslineError(f"{where} {name!r} cannot be a folder; use letters, digits and . _ -")


def _refuse_short_model(study: StudyConfig, run: RunConfig, where: str) -> None:
    longest = max_context_length(run.model)
    windows = study.suite.for_context(run.context_length).context_length
    for what, length in (("context_length", run.context_length), ("suite.context_length", windows)):
        if longest is not None and length > longest:
            raise LosslineError(
                f"{where}: run {run.run_id}: {what} {length} is more than model.max_positions {longest}"
            )


def open_study(folder: str) -> tuple[StudyConfig, StudyDir]:
    """A study from its folder, by the `study.json` that an earlier command wrote there: data, never code."""
    directory = StudyDir(connect(folder))
    if not directory.study_file.exists():
        raise LosslineError(f"{folder}: no study.json there; name an experiment file or a study's folder")
    mend = "restore it, or write it again from the experiment file: lossline plan STUDY.py --manifest"
    study = read_record(StudyConfig, directory.study_file, mend)
    return check_study(study, str(directory.study_file)), directory


def index_from_environment() -> int | None:
    """The index that an engine gives to one task of an array, by its own variable."""
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "SKYPILOT_JOB_RANK"):
        if name in os.environ:
            try:
                return int(os.environ[name])
            except ValueError as error:
                raise LosslineError(f"{name}={os.environ[name]!r} is not a number; give --index") from error
    return None


def read_manifest(manifest: str) -> tuple[StudyConfig, StudyDir, list[str]]:
    """The study, its folder and the run ids of a manifest, by the manifest's file or by the study's folder.

    The manifest lies in the study's folder beside study.json.

    Raises:
        LosslineError: there is none, or a line of it is not a run.
    """
    path = connect(manifest)
    path = path if path.name.endswith(".jsonl") else path / "manifest.jsonl"
    if not path.exists():
        raise LosslineError(f"{path}: no such manifest; `lossline plan STUDY.py --manifest` writes one")
    run_ids = [_run_of_line(index, *line) for index, line in enumerate(read_lines(path, "manifest"))]
    if not run_ids:
        raise LosslineError(f"{path}: names no run; write it again: lossline plan STUDY.py --manifest")
    study, directory = open_study(str(path.parent))
    if lacking := [run.run_id for run in study.runs if run.run_id not in run_ids]:
        say(f"{path}: lacks {len(lacking)} runs of the study ({lacking[0]}); write it again: lossline plan --manifest")
    return study, directory, run_ids


def _run_of_line(index: int, where: str, line: str) -> str:
    """The run id of a line of a manifest, which stands where it says that it stands."""
    fields = parse_object(line, where)
    if not isinstance(fields.get("run_id"), str) or fields.get("index", index) != index:
        raise LosslineError(f"{where}: this is not run {index} of a manifest; write the manifest again")
    return fields["run_id"]


def read_manifest_run(manifest: str, index: int) -> tuple[StudyConfig, StudyDir, str]:
    """The study, its folder and the run id of line `index` of a manifest, which names runs of that study only."""
    study, directory, run_ids = read_manifest(manifest)
    if not 0 <= index < len(run_ids):
        raise LosslineError(f"{manifest}: --index {index} is outside 0..{len(run_ids) - 1}")
    study.run_by_id(run_ids[index])
    return study, directory, run_ids[index]


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with _errors_named_by_line(str(path)):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _errors_named_by_line(path: str) -> Iterator[None]:
    """Turn whatever the experiment's own code raises into one line that names its file and line."""
    try:
        yield
    except LosslineError:
        raise
    except Exception as error:
        reason = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        raise LosslineError(f"{path}{_line_in(error, path)}: {type(error).__name__}: {reason}") from error


def _line_in(error: BaseException, filename: str) -> str:
    """`:12`, the last line of `filename` that the error passed through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if os.path.abspath(trace.tb_frame.f_code.co_filename) == os.path.abspath(filename):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _refuse_duplicates(names: list[str], what: str, where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise LosslineError(f"{where}: {what} {name!r} is there {names.count(name)} times")


def _refuse_hidden_differences(study: StudyConfig, where: str) -> None:
    """Runs of equal factors are taken for repetitions of one another: they may differ in seed and length only."""
    first_of: dict[str, RunConfig] = {}
    for run in study.runs:
        plain = dataclasses.replace(run, seed=0, tokens=1, num_checkpoints=1, checkpoint_spacing="linear")
        other = first_of.setdefault(json.dumps({**run.factors, "seed": 0}), plain)
        for field in dataclasses.fields(RunConfig):
            mine, theirs = getattr(plain, field.name), getattr(other, field.name)
            if mine != theirs:
                raise LosslineError(
                    f"{where}: run {run.run_id} has the factors of another run but another {field.name} "
                    f"({mine} against {theirs}), which no factor shows; put the two into studies of their own"
                )


def _must_know(name: str, known, where: str, what: str) -> None:
    if name not in known:
        raise LosslineError(
            f"{where}: unknown {what} {name!r}{suggestion(name, known)}; the study defines {sorted(known)}"
        )
