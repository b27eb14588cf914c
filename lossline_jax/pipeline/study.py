"""One function a verb: the whole study reads top to bottom here.

    experiments/*.py -> Study -> prepare -> train -> evaluate -> fit -> report

Each function reads only what stands left of it, writes only its own folder, skips what is already there and can
be killed at any moment.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from etils import epath

from lossline_jax import logs
from lossline_jax.config.execution import ALONE, ProcessesConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.distributed.processes import from_main_process, is_distributed, is_main_process
from lossline_jax.errors import LosslineError, RunLocked, suggestion
from lossline_jax.fit.study.results import Comparisons, StudyFits
from lossline_jax.pipeline import experiment
from lossline_jax.pipeline import report as losses_verbs
from lossline_jax.pipeline.failures import for_each_run, raise_failures
from lossline_jax.pipeline.follow import follow_runs
from lossline_jax.pipeline.losses_table import sets_left_out, write_losses
from lossline_jax.pipeline.prepare import make_study_data, prepare
from lossline_jax.pipeline.run_context import start_devices
from lossline_jax.pipeline.runner import StudyRunner
from lossline_jax.pipeline.study_files import open_study, save_study
from lossline_jax.plan.plan import StudyPlan, plan_study
from lossline_jax.status.study import StudyStatus, read_status
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models


def check(study: StudyConfig, topology: str, only: Sequence[str] = ()) -> str:
    """Compile the programs of the runs for a TPU slice that is not there; returns what they take, as a table.

    Raises:
        LosslineError: one does not fit or breaks a rule of `plan.compiler.rules`.
    """
    from lossline_jax.plan.compiler.check import compile_check

    return compile_check(study, topology, _chosen(study, only), logs.info)


def train(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train the runs, each from its newest checkpoint; `profile`: steps of the first one to trace."""
    runs = _chosen(study, only)
    runner = _open(study, folder, runs, processes, profile)
    raise_failures(for_each_run(runs, runner.train))


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
    runs = [] if models and not only else _chosen(study, only)
    runner = _open(study, folder, runs, processes)
    if models and is_distributed():
        raise LosslineError(
            "--checkpoint: models from elsewhere are taken in by one process; several may score them later"
        )
    entries = [runner.imported.add(model) for model in models]
    failures = for_each_run(runs, runner.evaluate)
    if not (only or models):
        entries = scored_models(folder)
    failures |= runner.imported.evaluate_each(entries)
    table = from_main_process(lambda: write_losses(runner.opened, runner.imported))
    if table is not None:
        logs.info(table)
    raise_failures(failures, sets_left_out(runner.opened, runner.imported))
    if table is None:
        raise LosslineError(f"{folder.root}: no checkpoint has been scored; run `lossline-jax train` first")
    waiting = [run.run_id for run in runs if not runner.context(run).has_begun()]
    if waiting and only:
        raise LosslineError(f"{waiting[0]}: not begun, so nothing of it was scored; run `lossline-jax train` first")
    if waiting:
        logs.info(f"{len(waiting)} of {len(runs)} runs are not begun, so nothing of them was scored: {waiting[0]}, ...")


def follow(
    study: StudyConfig, folder: StudyDir, only: Sequence[str], poll_seconds: float, processes: ProcessesConfig = ALONE
) -> None:
    """Score the checkpoints of runs that other processes train, as they come, until every run has ended."""
    runs = _chosen(study, only)
    runner = StudyRunner.open(study, folder, runs, processes)
    failures = follow_runs(runner, runs, poll_seconds, logs.info)
    raise_failures(failures, sets_left_out(runner.opened, runner.imported))


def run_one(
    study: StudyConfig,
    folder: StudyDir,
    run_id: str,
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train and evaluate one run of a prepared study: a task of an engine's array of jobs."""
    run = study.run_by_id(run_id)
    runner = StudyRunner.open(study, folder, [run], processes, profile=profile)
    raise_failures(for_each_run([run], runner.train_and_evaluate), sets_left_out(runner.opened, runner.imported))


@dataclass(frozen=True)
class StudyOutcome:
    """What came of a whole study: the results of the runs that worked, and what went wrong with the others."""

    fits: StudyFits | None  # None: there are no results, or another process has them
    report: epath.Path | None  # the page; None: likewise
    failures: Mapping[str, LosslineError]  # by run id
    problems: Mapping[str, str]  # reasons by the name of an evaluation set that was left out

    def raise_failures(self) -> None:
        """Raise what went wrong, if anything did."""
        raise_failures(dict(self.failures), self.problems)


def run(
    study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE, profile: int | None = None
) -> StudyOutcome:
    """Walk the whole road. A failed run, or a set that cannot be scored, is left out and named in the outcome."""
    start_devices(study.execution, processes)
    problems = from_main_process(lambda: make_study_data(study, folder))
    if axes := {study.x, study.y} & problems.keys():
        raise_failures({}, {name: problems[name] for name in axes})  # before hours of training for no line
    runner = StudyRunner.open(study, folder, study.runs, profile=profile)
    failures = for_each_run(study.runs, runner.train_and_evaluate)
    failures |= _take_up(runner, failures) | runner.imported.evaluate_each(scored_models(folder))
    failures = {run_id: failure for run_id, failure in failures.items() if failure is not None}
    fits, page = _results(study, folder, runner, failures) if is_main_process() else (None, None)
    return StudyOutcome(fits, page, failures, sets_left_out(runner.opened, runner.imported))


def _take_up(runner: StudyRunner, failures: Mapping[str, LosslineError]) -> dict[str, LosslineError | None]:
    """Look again at the runs that were in the hands of another process, and wait for those that still are.

    Returns:
        What went wrong with each; None: it is done. Several processes on one run do not wait: the first would hold
        up the others for longer than they wait for each other.
    """
    busy = [run for run in runner.study.runs if isinstance(failures.get(run.run_id), RunLocked)]
    if is_distributed() or not busy:
        return {}
    for run in busy:
        logs.info(f"another process works on {run.run_id}; waiting until it is done")
    new_failures = for_each_run(busy, lambda run: runner.train_and_evaluate(run, wait=True))
    return {run.run_id: new_failures.get(run.run_id) for run in busy}


def _results(
    study: StudyConfig, folder: StudyDir, runner: StudyRunner, failures: Mapping[str, LosslineError]
) -> tuple[StudyFits | None, epath.Path | None]:
    """Make the last part of the road: losses table, fits, report."""
    try:
        logs.info(write_losses(runner.opened, runner.imported) or f"{folder.root}: no checkpoint has been scored")
        return losses_verbs.fit(study, folder), losses_verbs.report(study, folder)
    except LosslineError as error:
        if not failures:
            raise
        logs.info(str(error))  # a consequence: the failed runs are the news
        return None, None


def _open(
    study: StudyConfig,
    folder: StudyDir,
    runs: Sequence[RunConfig],
    processes: ProcessesConfig,
    profile: int | None = None,
) -> StudyRunner:
    """The runner of the study as the command line has it, which its folder says from now on."""
    runner = StudyRunner.open(study, folder, runs, processes, profile=profile)
    if is_main_process():
        save_study(study, folder)
    return runner


def _chosen(study: StudyConfig, only: Sequence[str]) -> Sequence[RunConfig]:
    return [study.run_by_id(run_id) for run_id in only] or study.runs


class Study:
    """A study and its folder, with the verbs of the command line as methods; a method returns what its verb shows.

        study = Study.from_file("experiments/quickstart.py", tokens=100_000)
        study.plan().runs[0].flops
        study.run()
        study.fit().comparison("data").verdict

    Each verb skips what is there already and can be killed at any moment.
    """

    def __init__(self, config: StudyConfig, root: str = "studies", *, folder: StudyDir | None = None):
        """Take a study.

        Args:
            config: the study.
            root: folder that holds the folder of the study: a local path or gs://.
            folder: the folder of the study itself, where it is not `root`/name.
        """
        self.config = config
        self.folder = folder or StudyDir(reachable_path(root) / config.name)

    @classmethod
    def from_file(cls, path: str, root: str = "studies", **knobs: Any) -> "Study":
        """Take the study of an experiment file, which is executed: name only files that you trust.

        Args:
            path: the experiment file.
            root: as for `Study`.
            **knobs: arguments of the file's function `study`.

        Raises:
            LosslineError: there is no such file or knob, or the study is not valid.
        """
        function = experiment.load_study_function(path)
        known = inspect.signature(function).parameters
        for name in knobs:
            if name not in known:
                raise LosslineError(f"{path}: study() has no argument {name!r}{suggestion(name, known)}")
        return cls(validate_study(function(**knobs), path), root)

    @classmethod
    def open(cls, folder: str) -> "Study":
        """Take a study from its folder, by the `study.json` that an earlier verb wrote there.

        Raises:
            LosslineError: there is no study.json, or it is damaged.
        """
        config, directory = open_study(folder)
        return cls(config, folder=directory)

    def plan(self) -> StudyPlan:
        """Return what the runs take, before anything is spent."""
        return plan_study(self.config)

    def prepare(self) -> None:
        """Make corpora, tokenizers, token stores and evaluation sets."""
        prepare(self.config, self.folder)

    def train(self, only: Sequence[str] = ()) -> None:
        """Train the runs, or those with the ids `only`, each from its newest checkpoint."""
        train(self.config, self.folder, only)

    def evaluate(self, only: Sequence[str] = ()) -> None:
        """Score every checkpoint that has no row yet, then write the losses table."""
        evaluate(self.config, self.folder, only)

    def run(self) -> StudyOutcome:
        """Walk the whole road: prepare, train, evaluate, fit, report.

        Raises:
            LosslineError: a run failed, or an evaluation set cannot be scored; the results of the others are made.
        """
        outcome = run(self.config, self.folder)
        outcome.raise_failures()
        return outcome

    def losses(self) -> pd.DataFrame:
        """Return the losses table: a row for each run, checkpoint and evaluation set."""
        return losses_verbs.losses(self.config, self.folder)

    def fit(self, merge_copies: bool = False) -> StudyFits:
        """Fit the lines of the losses table, compare them, and keep the fits in the folder."""
        return losses_verbs.fit(self.config, self.folder, merge_copies)

    def compare(self, merge_copies: bool = False) -> Comparisons:
        """Return the answer of the fits alone: which factor moves the line."""
        return losses_verbs.compare(self.config, self.folder, merge_copies)

    def report(self, out: str | None = None) -> epath.Path:
        """Write one HTML page of figures and tables into the folder, or into `out`; return its path."""
        return losses_verbs.report(self.config, self.folder, out)

    def status(self) -> StudyStatus:
        """Return how far every run is, from the folder alone."""
        return read_status(self.config, self.folder)
