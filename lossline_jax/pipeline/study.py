"""The verbs of a study, one function each. Read `run` first: it calls the verbs in their order.

    experiments/*.py -> Study -> prepare -> train -> evaluate -> fit -> report

Each verb reads only the results of the verbs to its left, and writes only its own folder. A verb skips work that
is already done, and can be killed at any moment.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from etils import epath

from lossline_jax import logs
from lossline_jax.config.custom import require_code
from lossline_jax.config.execution import ALONE, ProcessesConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.distributed.processes import from_main_process, is_distributed, is_main_process
from lossline_jax.errors import LosslineError, RunLocked, suggestion
from lossline_jax.fit.study.results import Comparisons, StudyFits
from lossline_jax.pipeline import experiment, shipped
from lossline_jax.pipeline import report as losses_verbs
from lossline_jax.pipeline.failures import for_each_run, raise_failures
from lossline_jax.pipeline.follow import follow_runs
from lossline_jax.pipeline.losses_table import sets_left_out, write_losses
from lossline_jax.pipeline.preflight import check_devices
from lossline_jax.pipeline.prepare import make_study_data, prepare
from lossline_jax.pipeline.run_context import start_devices
from lossline_jax.pipeline.runner import StudyRunner
from lossline_jax.pipeline.study_files import open_study, save_study
from lossline_jax.plan.plan import StudyPlan, plan_study
from lossline_jax.plan.storage_and_epochs import require_files
from lossline_jax.status.study import StudyStatus, read_status
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import StudyDir
from lossline_jax.weights.registry import scored_models

if TYPE_CHECKING:
    from lossline_jax.report.figures.paper import Axes


def check(study: StudyConfig, topology: str, only: Sequence[str] = ()) -> str:
    """Compile the programs of the runs for a TPU slice, on a machine that does not have the slice.

    Args:
        study: the study.
        topology: name of the TPU slice, such as `v5e:4x4`.
        only: ids of the runs to check. Empty: all runs.

    Returns:
        A table of the bytes that each program needs on one device.

    Raises:
        LosslineError: a program does not fit the slice, or breaks a rule of `plan.compiler.rules`.
    """
    from lossline_jax.plan.compiler.check import compile_check

    return compile_check(study, topology, _chosen(study, only), logs.info)


def train(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    *,
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train the runs, each from its newest checkpoint.

    Args:
        study: the study.
        folder: its folder, which `prepare` has filled.
        only: ids of the runs to train. Empty: all runs.
        processes: the processes that train together.
        profile: number of steps to trace, in the first run that is not done. None: no trace.
    """
    runs = _chosen(study, only)
    require_code(runs, study.code)
    runner = _open(study, folder, runs, processes, profile=profile)
    raise_failures(for_each_run(runs, runner.train))


def evaluate(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    processes: ProcessesConfig = ALONE,
) -> None:
    """Score every checkpoint that has no row yet, then write the losses table.

    Args:
        study: the study.
        folder: its folder, which `prepare` has filled.
        only: ids of the runs to score. Empty: all runs, and the models that were imported earlier.
        models: folders of models that were trained elsewhere. With `models` and no `only`, only these are added.
        processes: the processes that score together.
    """
    runs = [] if models and not only else _chosen(study, only)
    runner = _open(study, folder, runs, processes)
    if models and is_distributed():
        raise LosslineError(
            "--checkpoint: only a single process can add a model from elsewhere; several processes may score it later"
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
        raise LosslineError(f"{waiting[0]}: not begun, so nothing was scored; run `lossline-jax train` first")
    if waiting:
        logs.info(f"{len(waiting)} of {len(runs)} runs are not begun and were not scored: {waiting[0]}, ...")


def follow(
    study: StudyConfig,
    folder: StudyDir,
    only: Sequence[str],
    *,
    poll_seconds: float,
    processes: ProcessesConfig = ALONE,
) -> None:
    """Score new checkpoints of runs that other processes train, until every run has ended.

    Args:
        study: the study.
        folder: its folder, which `prepare` has filled.
        only: ids of the runs to follow. Empty: all runs.
        poll_seconds: pause between two looks for new checkpoints, in seconds.
        processes: the processes that score together.
    """
    runs = _chosen(study, only)
    runner = StudyRunner.open(study, folder, runs, processes)
    failures = follow_runs(runner, runs, poll_seconds, logs.info)
    raise_failures(failures, sets_left_out(runner.opened, runner.imported))


def run_one(
    study: StudyConfig,
    folder: StudyDir,
    run_id: str,
    *,
    processes: ProcessesConfig = ALONE,
    profile: int | None = None,
) -> None:
    """Train and evaluate one run of a prepared study, as one task of a job array does.

    Args:
        study: the study.
        folder: its folder, which `prepare` has filled.
        run_id: id of the run.
        processes: the processes that work on the run together.
        profile: number of steps to trace. None: no trace.
    """
    run = study.run_by_id(run_id)
    require_code([run], study.code)
    runner = StudyRunner.open(study, folder, [run], processes, profile=profile)
    raise_failures(for_each_run([run], runner.train_and_evaluate), sets_left_out(runner.opened, runner.imported))


@dataclass(frozen=True)
class StudyOutcome:
    """The results of the runs that worked, and the errors of the runs that failed.

    Attributes:
        fits: the fitted lines. None: there are no results, or process 0 has them and this is another process.
        finding: the answer of the study in some sentences, as the page has it. Empty: `fits` is None.
        report: path of the HTML page. None: as for `fits`.
        failures: errors, by run id.
        problems: reasons why evaluation sets were left out, by the name of the set.
    """

    fits: StudyFits | None
    finding: str
    report: epath.Path | None
    failures: Mapping[str, LosslineError]
    problems: Mapping[str, str]

    def raise_failures(self) -> None:
        """Raise an error if a run failed or an evaluation set was left out."""
        raise_failures(dict(self.failures), self.problems)


def run(
    study: StudyConfig, folder: StudyDir, processes: ProcessesConfig = ALONE, profile: int | None = None
) -> StudyOutcome:
    """Prepare, train, evaluate, fit and report.

    A failed run, or an evaluation set that cannot be scored, is left out. The outcome names it.

    Args:
        study: the study.
        folder: its folder.
        processes: the processes that work together.
        profile: number of steps to trace, in the first run that is not done. None: no trace.
    """
    require_code(study.runs, study.code)
    start_devices(study.execution, processes)
    check_devices(study)
    problems = from_main_process(lambda: make_study_data(study, folder))
    if axes := {study.x, study.y} & problems.keys():
        raise_failures({}, {name: problems[name] for name in axes})  # without x or y no line can be fitted
    runner = StudyRunner.open(study, folder, study.runs, profile=profile)
    failures = for_each_run(study.runs, runner.train_and_evaluate)
    finished, new_failures = _retry_locked_runs(runner, failures)
    failures = {run_id: failure for run_id, failure in failures.items() if run_id not in finished}
    failures |= new_failures | runner.imported.evaluate_each(scored_models(folder))
    results = _results(study, folder, runner, failures) if is_main_process() else (None, "", None)
    return StudyOutcome(*results, failures, sets_left_out(runner.opened, runner.imported))


def _retry_locked_runs(
    runner: StudyRunner, failures: Mapping[str, LosslineError]
) -> tuple[set[str], dict[str, LosslineError]]:
    """Try again the runs that another process had locked, and wait for each lock.

    Several processes that share a run do not wait. Process 0 would wait for the lock longer than its peers wait for
    process 0.

    Returns:
        The ids of the runs that are now done, and the errors of the runs that failed, by run id.
    """
    locked = [run for run in runner.study.runs if isinstance(failures.get(run.run_id), RunLocked)]
    if is_distributed() or not locked:
        return set(), {}
    for run in locked:
        logs.info(f"another process works on {run.run_id}; waiting until it is done")
    new_failures = for_each_run(locked, lambda run: runner.train_and_evaluate(run, wait=True))
    return {run.run_id for run in locked} - new_failures.keys(), new_failures


def _results(
    study: StudyConfig, folder: StudyDir, runner: StudyRunner, failures: Mapping[str, LosslineError]
) -> tuple[StudyFits | None, str, epath.Path | None]:
    """Write the losses table, the fits and the report. Return the fits, the finding and the path of the page."""
    try:
        logs.info(write_losses(runner.opened, runner.imported) or f"{folder.root}: no checkpoint has been scored")
        fits = losses_verbs.fit(study, folder)
        page = losses_verbs.report(study, folder)
        return fits, losses_verbs.finding_text(study, folder, fits), page
    except LosslineError as error:
        if not failures:
            raise
        logs.info(str(error))  # the failed runs caused this error, and the caller reports those
        return None, "", None


def _open(
    study: StudyConfig,
    folder: StudyDir,
    runs: Sequence[RunConfig],
    processes: ProcessesConfig,
    *,
    profile: int | None = None,
) -> StudyRunner:
    """Open a runner, and write the study of the command line to the folder's study.json."""
    runner = StudyRunner.open(study, folder, runs, processes, profile=profile)
    if is_main_process():
        save_study(study, folder)
    return runner


def _chosen(study: StudyConfig, only: Sequence[str]) -> Sequence[RunConfig]:
    return [study.find_run(name) for name in only] or study.runs


class Study:
    """A study and its folder. Its methods are the verbs of the command line, and return what the verbs print.

        study = Study.from_file("experiments/quickstart.py", tokens=100_000)
        study.plan().runs[0].flops
        study.run()
        study.fit().comparison("data").verdict

    Each verb skips work that is already done, and can be killed at any moment.
    """

    def __init__(self, config: StudyConfig, root: str = "studies", *, folder: StudyDir | None = None) -> None:
        """Open a study in `root`/name, or in `folder`.

        Args:
            config: the study.
            root: parent of the study's folder: a local path or gs://.
            folder: the study's own folder. None: `root`/name.
        """
        self.config = config
        self.folder = folder or StudyDir(reachable_path(root) / config.name)

    @classmethod
    def from_file(cls, path: str, root: str = "studies", **knobs: Any) -> "Study":
        """Return the study of an experiment file. The file is executed, so name only files that you trust.

        Args:
            path: the experiment file, or the name of an experiment that comes with lossline, such as `quickstart`.
            root: parent of the study's folder: a local path or gs://.
            **knobs: arguments of the function `study` in the file.

        Raises:
            LosslineError: the file or a knob does not exist, or the study is not valid.
        """
        function = experiment.load_study_function(shipped.experiment_path(path))
        known = inspect.signature(function).parameters
        for name in knobs:
            if name not in known:
                raise LosslineError(f"{path}: study() has no argument {name!r}{suggestion(name, known)}")
        return cls(validate_study(function(**knobs), path), root)

    @classmethod
    def open(cls, folder: str, experiment: str | None = None) -> "Study":
        """Return the study of a folder in which an earlier verb has written `study.json`.

        Args:
            folder: the study's own folder: a local path or gs://.
            experiment: the experiment file of a study with an objective, an algorithm or an optimiser of its own. It
                is executed. None: nothing is executed, and such a study cannot be trained.

        Raises:
            LosslineError: study.json is missing or damaged, or the classes of the experiment have changed.
        """
        config, directory = open_study(folder, experiment)
        return cls(config, folder=directory)

    def plan(self) -> StudyPlan:
        """Return the FLOPs, tokens and parameters of the runs, before any of them is trained.

        Raises:
            LosslineError: the study is not prepared, and a glob of a corpus matches no file.
        """
        require_files(self.config, self.folder)
        return plan_study(self.config)

    def prepare(self) -> None:
        """Make the corpora, tokenizers, token stores and evaluation sets."""
        prepare(self.config, self.folder)

    def train(self, only: Sequence[str] = ()) -> None:
        """Train the runs, each from its newest checkpoint.

        Args:
            only: ids of the runs to train. Empty: all runs.
        """
        train(self.config, self.folder, only)

    def evaluate(self, only: Sequence[str] = ()) -> None:
        """Score every checkpoint that has no row yet, then write the losses table.

        Args:
            only: ids of the runs to score. Empty: all runs and all imported models.
        """
        evaluate(self.config, self.folder, only)

    def run(self) -> StudyOutcome:
        """Prepare, train, evaluate, fit and report.

        Raises:
            LosslineError: a run failed, or an evaluation set cannot be scored. The results of the runs that worked
                have been written.
        """
        outcome = run(self.config, self.folder)
        outcome.raise_failures()
        return outcome

    def losses(self) -> pd.DataFrame:
        """Return the losses table, with one row per run, checkpoint and evaluation set."""
        return losses_verbs.losses(self.config, self.folder)

    def fit(self, merge_copies: bool = False) -> StudyFits:
        """Fit and compare the lines of the losses table, and write the fits to the folder.

        Args:
            merge_copies: count a run that the table has under two names once. False: such a run is refused.
        """
        return losses_verbs.fit(self.config, self.folder, merge_copies)

    def compare(self, merge_copies: bool = False) -> Comparisons:
        """Compare the lines of the losses table, and return which factor moves the line. Nothing is written.

        Args:
            merge_copies: as for `fit`.
        """
        return losses_verbs.compare(self.config, self.folder, merge_copies)

    def report(self, out: str | None = None) -> epath.Path:
        """Write one HTML page with figures and tables, and return its path.

        Args:
            out: folder for the page. None: the study's own folder.
        """
        return losses_verbs.report(self.config, self.folder, out)

    def figure(self, name: str = "residual", ax: "Axes | None" = None, panel: int = 1) -> "Axes":
        """Draw one panel of a figure of the report, and return its axes.

        Args:
            name: name of the figure: residual, forest, line, training, or another stem of the files in report/figures.
            ax: matplotlib axes to draw into. None: new axes.
            panel: number of the panel, from 1.

        Raises:
            LosslineError: there is no such figure or panel, or there are no fits yet.
        """
        from lossline_jax.report.figures.paper import draw_panel

        (plot,) = losses_verbs.figures(self.config, self.folder).named([name])
        return draw_panel(plot, ax, panel)

    def status(self) -> StudyStatus:
        """Return the progress of every run, read from the folder alone."""
        return read_status(self.config, self.folder)
