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
    """The run to trace, and how many of its steps."""

    run_id: str
    steps: int


class StudyRunner:
    """Trains and scores the runs of a prepared study.

    Attributes:
        opened: the study, its folder, its prepared data and the mesh.
        scorers: of its runs and imported models.
        imported: the models from elsewhere that it scores too.
    """

    def __init__(self, opened: OpenedStudy, contexts: Mapping[str, RunContext], profile: ProfileRequest | None = None):
        self.opened, self.study = opened, opened.study
        self.scorers = Scorers(opened)
        self.imported = ImportedModels(opened, self.scorers)
        self._contexts, self._profile = contexts, profile
        self._sound_stores: set[epath.Path] = set()  # folders whose tokens this process has checked

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
            study: prepared in `folder`.
            folder: of the study.
            runs: to work on.
            processes: that work on them together.
            profile: steps to trace, of the first of the runs that is not done.

        Raises:
            LosslineError: nothing is prepared for this study, the mesh does not fit the devices, or a run cannot
                be trained as it is configured.
        """
        if profile is not None and profile < 1:
            raise LosslineError(f"--profile: {profile} is no number of steps to trace; give 1 or more")
        opened = open_on_devices(study, folder, processes)
        if is_main_process():
            remove_leftovers(
                *(folder.losses, folder.losses / "rows", folder.losses / "unscored", folder.fits_file.parent),
                *(folder.report, folder.report / "figures", *(folder.run(run.run_id).root for run in runs)),
            )
        request = None if profile is None else _request_profile(folder, runs, profile)
        return cls(opened, open_runs(opened, runs), request)

    def context(self, run: RunConfig) -> RunContext:
        """Return what one of the opened runs is trained and scored with."""
        return self._contexts[run.run_id]

    def train(self, run: RunConfig) -> None:
        """Train one run to its end."""
        context = self.context(run)
        with _locked_for_training(context):
            self._train(context)

    def evaluate(self, run: RunConfig) -> None:
        """Score the checkpoints of one run that lack a row, if it has begun; another process may be training it.

        Raises:
            RunLocked: another process is scoring it.
            RunFailed: something of it cannot be scored.
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
            run: one of those that were opened.
            wait: for a process that works on it, and take up what that leaves.
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
        traced = profile is not None and profile.run_id == context.run.run_id
        train_run(job, on_checkpoint, profile_steps=profile.steps if traced else 0)

    def _check_tokens(self, context: RunContext) -> None:
        """Raise LosslineError if tokens that the run still has to read are not those that were prepared."""
        if from_main_process(context.directory.done_file.exists):
            return
        for store in self.opened.prepared.run_stores(context.run).values():
            if store.folder not in self._sound_stores:
                from_main_process(store.verify_changed)
                self._sound_stores.add(store.folder)


@contextlib.contextmanager
def _locked_for_training(context: RunContext, wait: bool = False) -> Iterator[None]:
    """Hold the run, refuse one that is not this study's, and write down why it failed if it does."""
    directory = context.directory
    with held_by_main_process(hold_run_lock(directory.lock_file, wait)):
        check_claim(context)
        reason = from_main_process(lambda: _failure_reason(directory)) if wait else None
        if reason is not None:  # in the hands of the other
            raise RunFailed(f"run {context.run.run_id}: {reason}")
        try:
            yield
        except RunFailed as failure:
            ended = directory.failed_file.exists() or directory.done_file.exists()
            if is_main_process() and not ended:
                write_failure(directory, str(failure))
            raise
        if is_main_process() and directory.done_file.exists():
            directory.failed_file.unlink(missing_ok=True)


def _failure_reason(directory: RunDir) -> str | None:
    failure = read_failure(directory)
    return None if failure is None else failure.reason


def _request_profile(folder: StudyDir, runs: Sequence[RunConfig], steps: int) -> ProfileRequest | None:
    """Return a request to trace the first of the runs that is not done; None: every run is."""
    for run in runs:
        if not folder.run(run.run_id).done_file.exists():
            return ProfileRequest(run.run_id, steps)
    logs.info("--profile: nothing to trace, every run is done")
    return None
