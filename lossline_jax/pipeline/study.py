"""One function a verb: the whole study reads top to bottom here.

    experiments/*.py -> Study -> prepare -> train -> evaluate -> fit -> report

Each function reads only what stands left of it, writes only its own folder, skips what is already there and can
be killed at any moment.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lossline_jax.config.execution import ALONE, ProcessesConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.errors import LosslineError, RunBusy, StartAgain
from lossline_jax.logs import say, show
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import Registered, registered

if TYPE_CHECKING:
    from lossline_jax.pipeline.runner import Workshop
from lossline_jax.pipeline.failures import _each, _raise_failures
from lossline_jax.pipeline.report import fit, report
from lossline_jax.pipeline.study_files import save_study


def check(study: StudyConfig, topology: str, only: Sequence[str] = ()) -> str:
    """Compile the programs of the runs for a TPU slice that is not there; returns what they take, as a table.

    Raises:
        LosslineError: one does not fit or breaks a rule of `plan.compiler.rules`.
    """
    from lossline_jax.plan.compiler.check import check_study

    return check_study(study, topology, _chosen(study, only), say)


def prepare(study: StudyConfig, folder: StudyDir) -> None:
    """Corpora, tokenizers, token stores and evaluation sets."""
    _raise_failures({}, _prepare(study, folder))


def _prepare(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Returns why sets cannot be scored, by name."""
    from lossline_jax.pipeline.prepare import make_prepared

    save_study(study, folder)
    return make_prepared(study, folder, say).problems


def train(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train the runs, each from its newest checkpoint; `profile`: steps of the first one to trace."""
    runs = _chosen(study, only)
    workshop = _open(study, folder, runs, processes, profile)
    _raise_failures(_each(runs, workshop.train))


def evaluate(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    models: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
) -> None:
    """Score every checkpoint that lacks a row, then write the losses table.

    Args:
        only: ids of the runs to score; none: all runs, and the models that were imported earlier.
        models: folders of models from elsewhere, to score these alone.
    """
    from lossline_jax.distributed.processes import from_first, several

    runs = [] if models and not only else _chosen(study, only)
    workshop = _open(study, folder, runs, processes)
    if models and several():
        raise LosslineError(
            "--checkpoint: models from elsewhere are taken in by one process; several may score them later"
        )
    entries = [_add_imported(workshop, model) for model in models]
    failures = _each(runs, workshop.evaluate)
    if not (only or models):
        entries = registered(folder)
    failures |= _evaluate_imported(workshop, entries)
    table = from_first(workshop.write_losses)
    if table is not None:
        say(table)
    _raise_failures(failures, workshop.problems)
    if table is None:
        raise LosslineError(f"{folder.root}: no checkpoint has been scored; run `lossline-jax train` first")
    waiting = [run.run_id for run in runs if not workshop.has_begun(run)]
    if waiting and only:
        raise LosslineError(f"{waiting[0]}: not begun, so nothing of it was scored; run `lossline-jax train` first")
    if waiting:
        say(f"{len(waiting)} of {len(runs)} runs are not begun, so nothing of them was scored: {waiting[0]}, ...")


def follow(
    study: StudyConfig, folder: StudyDir, only: Sequence[str], poll_seconds: float, processes: ProcessesConfig = ALONE
) -> None:
    """Score the checkpoints of runs that other processes train, as they come, until every run has ended."""
    from lossline_jax.pipeline.follow import follow_runs
    from lossline_jax.pipeline.runner import Workshop

    runs = _chosen(study, only)
    workshop = Workshop.open(study, folder, runs, processes)
    failures = follow_runs(workshop, runs, poll_seconds, say)
    _raise_failures(failures, workshop.problems)


def run_one(
    study: StudyConfig,
    folder: StudyDir,
    run_id: str,
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train and evaluate one run of a prepared study: a task of an engine's array of jobs."""
    from lossline_jax.pipeline.runner import Workshop

    run = study.run_by_id(run_id)
    workshop = Workshop.open(study, folder, [run], processes, profile)
    _raise_failures(_each([run], workshop.train_and_evaluate), workshop.problems)


def run(study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE, profile: int | None = None) -> None:
    """The whole road. A failed run, or a set that cannot be scored, is left out and named at the end."""
    from lossline_jax.distributed.processes import from_first, is_first
    from lossline_jax.pipeline.runner import Workshop, start_devices

    start_devices(study.execution, processes)
    problems = from_first(lambda: _prepare(study, folder))
    if axes := {study.x, study.y} & problems.keys():
        _raise_failures({}, {name: problems[name] for name in axes})  # before hours of training for no line
    workshop = Workshop.open(study, folder, study.runs, profile=profile)
    failures = _each(study.runs, workshop.train_and_evaluate)
    failures |= _take_up(workshop, failures) | _evaluate_imported(workshop, registered(folder))
    failures = {run_id: failure for run_id, failure in failures.items() if failure is not None}
    if is_first():
        _show(study, folder, workshop, failures)
    _raise_failures(failures, workshop.problems)


def _take_up(workshop: "Workshop", failures: Mapping[str, LosslineError]) -> dict[str, LosslineError | None]:
    """Look again at the runs that were in the hands of another process, and wait for those that still are.

    Returns:
        What went wrong with each; None: it is done. Several processes on one run do not wait: the first would hold
        up the others for longer than they wait for each other.
    """
    from lossline_jax.distributed.processes import several

    busy = [run for run in workshop.study.runs if isinstance(failures.get(run.run_id), RunBusy)]
    if several() or not busy:
        return {}
    for run in busy:
        say(f"another process works on {run.run_id}; waiting until it is done")
    found = _each(busy, lambda run: workshop.train_and_evaluate(run, wait=True))
    return {run.run_id: found.get(run.run_id) for run in busy}


def _show(study: StudyConfig, folder: StudyDir, workshop: "Workshop", failures: Mapping[str, LosslineError]) -> None:
    """The last part of the road: losses table, fits, report."""
    try:
        say(workshop.write_losses() or f"{folder.root}: no checkpoint has been scored")
        lines, page = fit(study, folder), report(study, folder)  # both made before anything is shown
        show(f"{lines}\n\nreport: {page}")
    except LosslineError as error:
        if not failures:
            raise
        say(str(error))  # a consequence: the failed runs are the news


def _add_imported(workshop: "Workshop", source: str) -> Registered:
    from lossline_jax.weights import exchange

    imported, weights = exchange.fetch(workshop.folder, source)
    made_for = imported.context_length
    windows = workshop.study.suite.for_context(made_for).context_length
    if windows > made_for:
        say(f"note: {imported.name} was trained with {made_for} tokens of context and is scored with {windows}")
    return workshop.add_imported(imported, weights)


def _evaluate_imported(workshop: "Workshop", entries: Sequence[Registered]) -> dict[str, LosslineError]:
    """Score models from elsewhere; returns what went wrong, by run id."""
    failures: dict[str, LosslineError] = {}
    for entry in entries:
        say(f"imported {entry.model.run_id}")
        try:
            workshop.evaluate_imported(entry)
        except StartAgain:
            raise
        except LosslineError as failure:
            failures[entry.model.run_id] = failure
            say(f"left out: {failure}")
    return failures


def _open(
    study: StudyConfig,
    folder: StudyDir,
    runs: Sequence[RunConfig],
    processes: ProcessesConfig,
    profile: int | None = None,
) -> "Workshop":
    """A workshop of the study as the command line has it, which its folder says from now on."""
    from lossline_jax.distributed.processes import is_first
    from lossline_jax.pipeline.runner import Workshop

    workshop = Workshop.open(study, folder, runs, processes, profile)
    if is_first():
        save_study(study, folder)
    return workshop


def _chosen(study: StudyConfig, only: Sequence[str]) -> Sequence[RunConfig]:
    return [study.run_by_id(run_id) for run_id in only] or study.runs
