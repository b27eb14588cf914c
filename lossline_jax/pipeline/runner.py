"""Train and score the runs of a prepared study on this machine's devices."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from etils import epath

from lossline_jax import logs
from lossline_jax.config.execution import ALONE, ProcessesConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.distributed.processes import from_main_process, held_by_main_process, is_main_process
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.pipeline.imported_models import ImportedModels
from lossline_jax.pipeline.preflight import check_claim, open_runs
from lossline_jax.pipeline.run_context import OpenedStudy, RunContext, open_on_devices
from lossline_jax.pipeline.scorer import Scorers
from lossline_jax.storage.leftovers import remove_leftovers
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import read_failure, write_failure
from lossline_jax.train.job import TrainingJob
from lossline_jax.train.loop import OnCheckpoint, train_run


@dataclass(frozen=True)
class ProfileRequest:
    """The run to trace, and the number of its steps to trace."""

    run_id: str
    steps: int


class StudyRunner:
    """A runner that trains and scores the runs of a prepared study.

    Attributes:
        opened: the study, its folder, its prepared data and the mesh.
        scorers: the scorers of the study's runs and imported models.
        imported: the models from elsewhere that are scored too.
    """

    def __init__(
        self, opened: OpenedStudy, contexts: Mapping[str, RunContext], profile: ProfileRequest | None = None
    ) -> None:
        self.opened, self.study = opened, opened.study
        self.scorers = Scorers(opened)
        self.imported = ImportedModels(opened, self.scorers)
        self._contexts, self._profile = contexts, profile
        self._verified_stores: set[epath.Path] = set()  # folders whose tokens this process has checked

    @classmethod
    def open(
        cls,
        study: StudyConfig,
        folder: StudyDir,
        runs: Sequence[RunConfig],
        processes: ProcessesConfig = ALONE,
        *,
        profile: int | None = None,
    ) -> "StudyRunner":
        """Open the prepared data, and check that every run can be begun on the devices of all processes.

        Args:
            study: the study, prepared in `folder`.
            folder: the study's folder.
            runs: the runs to work on.
            processes: the processes that work on the runs together.
            profile: number of steps to trace, in the first run that is not done. None: no trace.

        Raises:
            LosslineError: nothing is prepared for this study, the mesh does not fit the devices, or a run cannot
                be trained as it is configured.
        """
        if profile is not None and profile < 1:
            raise LosslineError(f"--profile: {profile} is not a valid number of steps; give 1 or more")
        opened = open_on_devices(study, folder, processes)
        if is_main_process():
            remove_leftovers(
                *(folder.losses, folder.losses / "rows", folder.losses / "unscored", folder.fits_file.parent),
                *(folder.report, folder.report / "figures", *(folder.run(run.run_id).root for run in runs)),
            )
        request = None if profile is None else _request_profile(folder, runs, profile)
        return cls(opened, open_runs(opened, runs), request)

    def context(self, run: RunConfig) -> RunContext:
        """Return the context of one of the opened runs."""
        return self._contexts[run.run_id]

    def train(self, run: RunConfig) -> None:
        """Train one run to its last step."""
        context = self.context(run)
        with _locked_for_training(context):
            self._train(context)

    def evaluate(self, run: RunConfig) -> None:
        """Score the checkpoints of one run that have no row yet. Another process may be training the run.

        A run that has not begun is skipped.

        Raises:
            RunLocked: another process is scoring the run.
            RunFailed: a checkpoint cannot be scored.
        """
        context = self.context(run)
        if context.has_begun():
            check_claim(context)
            with self.scorers.locked(context) as scorer:
                ended = from_main_process(context.directory.done_file.exists)
                scorer.score_missing(context.directory, run.checkpoint_steps, ended)

    def train_and_evaluate(self, run: RunConfig, wait: bool = False) -> None:
        """Train one run, scoring each checkpoint while its parameters are in memory.

        Args:
            run: one of the opened runs.
            wait: if another process works on the run, wait for it and continue from its checkpoints. False: raise.

        Raises:
            RunLocked: another process works on the run, and `wait` is False.
            RunFailed: training failed, or a checkpoint cannot be scored.
        """
        context = self.context(run)
        with _locked_for_training(context, wait), self.scorers.locked(context, wait=True) as scorer:
            self._train(context, on_checkpoint=scorer)
            scorer.score_missing(context.directory, run.checkpoint_steps, ended=True)

    def _train(self, context: RunContext, on_checkpoint: OnCheckpoint | None = None) -> None:
        self._check_tokens(context)
        job = TrainingJob(
            run=context.run,
            model=context.model,
            source=context.source,
            run_dir=context.directory,
            execution=context.execution,
            mesh=self.opened.mesh,
        )
        profile = self._profile
        profile_steps = profile.steps if profile is not None and profile.run_id == context.run.run_id else 0
        train_run(job, on_checkpoint, profile_steps=profile_steps)

    def _check_tokens(self, context: RunContext) -> None:
        """Check the token stores that the run still has to read.

        Raises:
            LosslineError: the tokens have changed since `prepare` wrote them.
        """
        if from_main_process(context.directory.done_file.exists):
            return
        for store in self.opened.prepared.run_stores(context.run).values():
            if store.folder not in self._verified_stores:
                from_main_process(store.verify_changed)
                self._verified_stores.add(store.folder)


@contextlib.contextmanager
def _locked_for_training(context: RunContext, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run while it is trained. If training fails, write the reason to failed.json.

    Raises:
        RunLocked: another process holds the lock, and `wait` is False.
        RunFailed: training failed, here or in the process that was waited for.
        LosslineError: the folder belongs to another configuration.
    """
    directory = context.directory
    with held_by_main_process(hold_run_lock(directory.lock_file, wait)):
        check_claim(context)
        reason = from_main_process(lambda: _failure_reason(directory)) if wait else None
        if reason is not None:  # it failed in the process that was waited for
            raise RunFailed(f"run {context.run.run_id}: {reason}")
        try:
            yield
        except RunFailed as failure:
            has_ended = directory.failed_file.exists() or directory.done_file.exists()
            if is_main_process() and not has_ended:
                write_failure(directory, str(failure))
            raise
        if is_main_process() and directory.done_file.exists():
            directory.failed_file.unlink(missing_ok=True)


def _failure_reason(directory: RunDir) -> str | None:
    failure = read_failure(directory)
    return None if failure is None else failure.reason


def _request_profile(folder: StudyDir, runs: Sequence[RunConfig], steps: int) -> ProfileRequest | None:
    """Return a request to trace the first run that is not done. None: every run is done."""
    for run in runs:
        if not folder.run(run.run_id).done_file.exists():
            return ProfileRequest(run.run_id, steps)
    logs.info("--profile: nothing to trace, every run is done")
    return None
