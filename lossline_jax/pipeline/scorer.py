"""Scoring the checkpoints of models, trained here or elsewhere, and keeping the rows.

`Scorers` holds a `CheckpointScorer` for each model of a study; these share the compiled `Evaluators`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from jax.sharding import Mesh
from tqdm import tqdm

from lossline_jax.distributed.preemption import stop_agreed
from lossline_jax.distributed.processes import from_main_process, held_by_main_process, is_distributed, is_main_process
from lossline_jax.errors import Restart, RunFailed
from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.loss_rows import RunFacts, checkpoint_facts, loss_rows, non_finite_sets
from lossline_jax.evaluate.suite import PreparedSuite
from lossline_jax.losses.current_rows import missing_checkpoints
from lossline_jax.losses.table import append_rows, read_loss_rows
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.pipeline.run_context import OpenedStudy
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import UnscoredCheckpoints, checkpoint_steps, read_unscored, write_unscored
from lossline_jax.train.checkpoint import load_checkpoint_params

MAX_EVALUATORS = 2  # each holds the rows of a suite on the devices


class ScoringTarget(Protocol):
    """A model whose checkpoints are scored: a `RunContext`, or an `ImportedContext`."""

    @property
    def run(self) -> RunFacts:
        """What the rows say of the model."""

    @property
    def model(self) -> Model:
        """The model without its parameters."""

    @property
    def suite(self) -> PreparedSuite:
        """The sets that it is scored on, in its tokens."""


class Evaluators:
    """Evaluators by model shape, suite and sets, so that runs of equal shape share one; the latest few are kept."""

    def __init__(self, mesh: Mesh, fsdp: bool | None = None):
        self._mesh, self._fsdp = mesh, fsdp
        self._latest: dict[tuple[Model, str, frozenset[str]], Evaluator] = {}

    def get(self, model: Model, suite: PreparedSuite, names: frozenset[str]) -> Evaluator:
        """The evaluator of these sets of the suite."""
        key = (model, suite.fingerprint, names)
        evaluator = self._latest.pop(key, None) or Evaluator(model, self._mesh, suite, fsdp=self._fsdp, names=names)
        while len(self._latest) >= MAX_EVALUATORS:
            del self._latest[next(iter(self._latest))]
        self._latest[key] = evaluator
        return evaluator

    def load(self, directory: RunDir, step: int, model: Model) -> Params:
        """Return the parameters of a checkpoint, laid out as an evaluator wants them. Raises as
        `load_checkpoint_params` does."""
        return load_checkpoint_params(directory, step, model, self._mesh, fsdp=self._fsdp)


class CheckpointScorer:
    """Scores checkpoints of one model and adds the rows that its file lacks.

    What cannot be scored (a damaged checkpoint, a loss that is not finite) stops nothing else: it is remembered,
    and `raise_failures` tells of it at the end. The caller holds the scoring lock of the run.
    """

    def __init__(self, target: ScoringTarget, study_name: str, folder: StudyDir, evaluators: Evaluators):
        run, model = target.run, target.model
        self._run, self._model, self._suite = run, model, target.suite
        self._study_name, self._folder, self._evaluators = study_name, folder, evaluators
        self._failures: dict[int, str] = {}
        self._rows, self._version = [], None
        self.num_added = 0  # rows
        self.refresh()

    def refresh(self) -> None:
        """Read the rows that are there, if another process may have added some."""
        path = self._folder.loss_rows(self._run.run_id)
        version = path.stat().mtime if path.exists() else None
        if version is None or version != self._version:
            self._rows, self._version = read_loss_rows(path), version

    def __call__(self, step: int, params: Params) -> dict[str, float]:
        """Score the parameters after `step` updates on every set that has no row yet; those sets' nats a token."""
        missing = self.missing([step]).get(step, ())
        if not missing or step in self._failures:
            return {}
        scores = self._evaluators.get(self._model, self._suite, frozenset(missing)).score(params)
        if bad := non_finite_sets(scores):
            self._failures[step] = f"the loss is not finite on {', '.join(bad)}"
        finite = {name: score for name, score in scores.items() if name not in bad}
        config, vocab_size = self._model.config, self._model.vocab_size
        checkpoint = checkpoint_facts(self._study_name, self._run, config, vocab_size, step=step)
        rows = loss_rows(checkpoint, self._suite, finite)
        if is_main_process():
            append_rows(self._folder.loss_rows(self._run.run_id), rows)
        self._rows += rows
        self.num_added += len(rows)
        return {row.eval_set: row.nats_per_token for row in rows}

    def score_missing(self, directory: RunDir, steps: Sequence[int], ended: bool) -> None:
        """Score those of the saved checkpoints among `steps` that lack a row.

        Args:
            ended: whether all of `steps` have been saved, so that one that is not there will not come.
        """
        missing = [step for step in self.missing(steps) if step not in self._failures]
        saved = _saved(directory)
        steps_to_score = [step for step in missing if step in saved]
        for step in tqdm(
            steps_to_score,
            desc=f"score {self._run.run_id}",
            unit="checkpoint",
            disable=None if steps_to_score and is_main_process() else True,
        ):
            try:
                params = self._evaluators.load(directory, step, self._model)
            except (RunFailed, OSError) as failure:
                if is_distributed() and isinstance(failure, OSError):
                    raise  # it may be of this process alone, and the others go on to score together
                if step in _saved(directory):
                    self._failures[step] = str(failure)
                elif ended:  # else its run keeps few checkpoints, and has deleted it meanwhile
                    self._failures[step] = "its checkpoint is gone"
            else:
                self(step, params)
            if is_distributed() and stop_agreed():
                raise Restart("told to stop (SIGTERM); the same command goes on with the next checkpoint")
        if ended:
            self._failures |= dict.fromkeys(set(missing) - set(saved), "its checkpoint is gone")

    def raise_failures(self) -> None:
        """Say what could not be scored, in a file that `lossline-jax status` reads and as an error.

        Raises:
            RunFailed: there was something.
        """
        file = self._folder.unscored_file(self._run.run_id)
        if not self._failures:
            if is_main_process():
                file.unlink(missing_ok=True)
            return
        (step, first), more = min(self._failures.items()), len(self._failures) - 1
        and_more = f" (and {more} more checkpoints)" if more else ""
        message = f"run {self._run.run_id}, step {step}: {first}{and_more}; the other rows are kept"
        unscored = UnscoredCheckpoints(message, {str(k): self._failures[k] for k in sorted(self._failures)})
        if is_main_process() and read_unscored(file) != unscored:
            write_unscored(file, unscored)
        raise RunFailed(message)

    def missing(self, steps: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return the sets that each of the checkpoints lacks a row for; those that lack none are left out."""
        sets_of_step = from_main_process(lambda: missing_checkpoints(self._rows, self._run.run_id, steps, self._suite))
        return {int(step): tuple(names) for step, names in sets_of_step.items()}


class Scorers:
    """The scorers of a study, one a model. They are kept, so that a second look reads only rows that came meanwhile."""

    def __init__(self, opened: OpenedStudy):
        self._study_name, self._folder = opened.study.name, opened.folder
        self._evaluators = Evaluators(opened.mesh, opened.study.execution.fsdp)
        self._by_run_id: dict[str, CheckpointScorer] = {}

    @contextlib.contextmanager
    def locked(self, target: ScoringTarget, wait: bool = False) -> Iterator[CheckpointScorer]:
        """Hold the rows of a model while they are added to, and tell at the end what could not be scored.

        Args:
            target: the model.
            wait: for another process that adds rows of it.

        Raises:
            RunLocked: another process is scoring it, and this one is not to wait.
            RunFailed: at the end, if something of it could not be scored.
        """
        run_id = target.run.run_id
        with held_by_main_process(hold_run_lock(self._folder.scoring_lock(run_id), wait)):
            if run_id in self._by_run_id:
                self._by_run_id[run_id].refresh()
            else:
                self._by_run_id[run_id] = CheckpointScorer(target, self._study_name, self._folder, self._evaluators)
            yield self._by_run_id[run_id]
            self._by_run_id[run_id].raise_failures()

    @property
    def num_added(self) -> int:
        """Rows that were scored in this process."""
        return sum(scorer.num_added for scorer in self._by_run_id.values())


def _saved(directory: RunDir) -> list[int]:
    """Return the steps of the checkpoints, the same in every process: a disk may not show a new file at once."""
    return from_main_process(lambda: checkpoint_steps(directory))
