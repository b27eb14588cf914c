"""Load an experiment file. It is Python, so it is executed: run only files you trust.

An experiment file defines `def study(...) -> StudyConfig`. The function's arguments are the knobs of the
experiment: each has a type and a default, and each is a flag of the command line. Everything else is derived
from them inside the function, so that no derived number can be overridden out of step with the others.
"""

import importlib.util
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from etils import epath

from lossline_jax.config import from_json, suggestion
from lossline_jax.errors import LosslineError
from lossline_jax.rundir import StudyDir, read_json
from lossline_jax.study import StudyConfig

StudyFunction = Callable[..., StudyConfig]


def load_study_function(path: str) -> StudyFunction:
    """The `study` function of an experiment file.

    Raises:
        LosslineError: no such file, it cannot be executed, it has no `study`, or a knob has no type or default.
    """
    if not Path(path).is_file():
        raise LosslineError(f"{path}: no such experiment file; experiments/ has some to start from")
    module = _execute(Path(path))
    function = getattr(module, "study", None)
    if not callable(function):
        raise LosslineError(f"{path}: needs a function `def study() -> StudyConfig`")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise LosslineError(f"{path}: argument {name!r} of study() needs a type and a default value")
    return function


def check_study(study: StudyConfig, where: str) -> StudyConfig:
    """Catch before any work what would fail after hours of it.

    Raises:
        LosslineError: a name that nothing defines, two equal runs, a size that is not positive.
    """
    if not isinstance(study, StudyConfig):
        raise LosslineError(f"{where}: study() returned {type(study).__name__}, not StudyConfig")
    if not study.runs:
        raise LosslineError(f"{where}: the study has no runs")
    corpora = [corpus.name for corpus in study.corpora]
    _refuse_duplicates(corpora, "corpus", where)
    _refuse_duplicates([run.run_id for run in study.runs], "run", where)
    _refuse_duplicates(list(study.suite.set_names), "evaluation set", where)
    for run in study.runs:
        needed = [name for name, _ in run.data.mixture] + [getattr(run.tokenizer, "corpus", corpora[0])]
        for name in needed:
            _must_know(name, corpora, f"{where}: run {run.run_id}", "corpus")
        for field in ("context_length", "batch_size", "tokens", "num_checkpoints"):
            if getattr(run, field) <= 0:
                raise LosslineError(f"{where}: run {run.run_id}: {field} must be positive")
        if any(weight <= 0 for _, weight in run.data.mixture):
            raise LosslineError(f"{where}: run {run.run_id}: mixture weights must be positive")
    for item in (*study.suite.validation, *study.suite.cloze):
        _must_know(item.corpus, corpora, f"{where}: evaluation set {item.name}", "corpus")
    for axis in ("x", "y"):
        _must_know(getattr(study, axis), study.suite.set_names, f"{where}: {axis}", "evaluation set")
    if study.x == study.y:
        raise LosslineError(f"{where}: x and y are both {study.x!r}; a line needs two different losses")
    if not 0 < study.validation_fraction < 1:
        raise LosslineError(f"{where}: validation_fraction must lie between 0 and 1")
    if not 0 <= study.suite.overlap < study.suite.context_length:
        raise LosslineError(f"{where}: suite.overlap must be at least 0 and less than suite.context_length")
    return study


def open_study(folder: str) -> tuple[StudyConfig, StudyDir]:
    """A study from its folder, by the `study.json` that an earlier command wrote there: data, never code."""
    directory = StudyDir(epath.Path(folder))
    if not directory.study_file.exists():
        raise LosslineError(f"{folder}: no study.json there; name an experiment file or a study's folder")
    study = from_json(StudyConfig, read_json(directory.study_file), str(directory.study_file))
    return check_study(study, str(directory.study_file)), directory


def index_from_environment() -> int | None:
    """The index that an engine gives to one task of an array, by its own variable."""
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "SKYPILOT_JOB_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return None


def read_manifest_run(manifest: str, index: int) -> tuple[StudyConfig, StudyDir, str]:
    """The study, its folder and the run id of line `index` of a manifest.

    The manifest lies in the study's folder beside study.json, and names runs of that study only.
    """
    path = epath.Path(manifest)
    if not path.exists():
        raise LosslineError(f"{manifest}: no such manifest; `lossline plan STUDY.py --manifest` writes one")
    lines = path.read_text().splitlines()
    if not 0 <= index < len(lines):
        raise LosslineError(f"{manifest}: --index {index} is outside 0..{len(lines) - 1}")
    try:
        run_id = json.loads(lines[index])["run_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise LosslineError(f"{manifest}: line {index + 1} is not a run; write the manifest again") from error
    study, directory = open_study(str(path.parent))
    study.run_by_id(run_id)
    return study, directory, run_id


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except LosslineError:
        raise
    except Exception as error:
        line = _line_in(error, str(path))
        raise LosslineError(f"{path}{line}: {type(error).__name__}: {error}") from error
    return module


def _line_in(error: BaseException, filename: str) -> str:
    """`:12`, the last line of `filename` that the error passed through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _refuse_duplicates(names: list[str], what: str, where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise LosslineError(f"{where}: {what} {name!r} is there {names.count(name)} times")


def _must_know(name: str, known, where: str, what: str) -> None:
    if name not in known:
        raise LosslineError(
            f"{where}: unknown {what} {name!r}{suggestion(name, known)}; the study defines {sorted(known)}"
        )
