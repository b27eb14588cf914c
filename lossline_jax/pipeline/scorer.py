"""Score the checkpoints of models, trained here or elsewhere, and append their rows to the rows file.

`Scorers` holds one `CheckpointScorer` per model of a study. All scorers share the compiled `Evaluators`. Read
`CheckpointScorer` first.
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
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.losses.table import append_rows, read_loss_rows
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.pipeline.run_context import OpenedStudy
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import UnscoredCheckpoints, checkpoint_steps, read_unscored, write_unscored
from lossline_jax.train.checkpoint import load_checkpoint_params

MAX_EVALUATORS = 2  # kept at once; few, because each holds the token rows of a suite in device memory


class ScoringTarget(Protocol):
    """A model whose checkpoints are scored: a `RunContext` or an `ImportedContext`."""

    @property
    def run(self) -> RunFacts:
        """The columns of the losses table that describe the model."""
        ...

    @property
    def model(self) -> Model:
        """The model without its parameters."""
        ...

    @property
    def suite(self) -> PreparedSuite:
        """The evaluation sets, in the tokens of the model."""
        ...

    def unique_tokens_at(self, step: int) -> int | None:
        """Return the number of distinct training tokens up to a step. None: not known."""
        ...


class Evaluators:
    """A cache of the latest evaluators. Runs that agree in model shape, suite and sets share one evaluator."""

    def __init__(self, mesh: Mesh, fsdp: bool | None = None) -> None:
        self._mesh, self._fsdp = mesh, fsdp
        self._latest: dict[tuple[Model, str, frozenset[str]], Evaluator] = {}

    def get(self, model: Model, suite: PreparedSuite, names: frozenset[str]) -> Evaluator:
        """Return the evaluator that scores the sets `names` of the suite."""
        key = (model, suite.fingerprint, names)
        evaluator = self._latest.pop(key, None) or Evaluator(model, self._mesh, suite, fsdp=self._fsdp, names=names)
        while len(self._latest) >= MAX_EVALUATORS:
            del self._latest[next(iter(self._latest))]
        self._latest[key] = evaluator
        return evaluator

    def load(self, directory: RunDir, step: int, model: Model) -> Params:
        """Return the parameters of a checkpoint, sharded as an evaluator expects.

        Raises:
            RunFailed: the checkpoint is missing or damaged.
            LosslineError: its parameters are not those of `model`.
        """
        return load_checkpoint_params(directory, step, model, self._mesh, fsdp=self._fsdp)


class CheckpointScorer:
    """A scorer that scores the checkpoints of one model, and appends the missing rows to the model's rows file.

    A checkpoint that is damaged, or has a loss that is not finite, does not stop the scoring of other checkpoints.
    `raise_failures` reports such checkpoints at the end. The caller holds the scoring lock of the run.

    Attributes:
        num_added: number of rows that this scorer has added.
    """

    def __init__(self, target: ScoringTarget, study_name: str, folder: StudyDir, evaluators: Evaluators) -> None:
        run, model = target.run, target.model
        self._run, self._model, self._suite = run, model, target.suite
        self._unique_tokens_at = target.unique_tokens_at
        self._study_name, self._folder, self._evaluators = study_name, folder, evaluators
        self._failures: dict[int, str] = {}
        self._rows: list[LossRow] = []
        self._version: float | None = None  # modification time of the rows file; None: not read, or there is no file
        self.num_added = 0
        self.refresh()

    def refresh(self) -> None:
        """Read the rows file again if another process has changed it."""
        path = self._folder.loss_rows(self._run.run_id)
        version = path.stat().mtime if path.exists() else None
        if version is None or version != self._version:
            self._rows, self._version = read_loss_rows(path), version

    def __call__(self, step: int, params: Params) -> dict[str, float]:
        """Score the parameters on every set that has no row for this step.

        Args:
            step: number of updates that made the parameters.
            params: the parameters.

        Returns:
            The loss in nats per token of each set that was scored, by the name of the set.
        """
        missing = self.missing([step]).get(step, ())
        if not missing or step in self._failures:
            return {}
        scores = self._evaluators.get(self._model, self._suite, frozenset(missing)).score(params)
        if bad := non_finite_sets(scores):
            self._failures[step] = f"the loss is not finite on {', '.join(bad)}"
        finite = {name: score for name, score in scores.items() if name not in bad}
        config, vocab_size = self._model.config, self._model.vocab_size
        unique = self._unique_tokens_at(step)
        checkpoint = checkpoint_facts(self._study_name, self._run, config, vocab_size, step=step, unique_tokens=unique)
        rows = loss_rows(checkpoint, self._suite, finite)
        if is_main_process():
            append_rows(self._folder.loss_rows(self._run.run_id), rows)
        self._rows += rows
        self.num_added += len(rows)
        return {row.eval_set: row.nats_per_token for row in rows}

    def score_missing(self, directory: RunDir, steps: Sequence[int], ended: bool) -> None:
        """Score the saved checkpoints that have no row yet.

        Args:
            directory: the folder of the run.
            steps: the steps to score.
            ended: whether the run has saved its last checkpoint. If True, a missing checkpoint is a failure.
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
                    raise  # only this process may have the error, and its peers would wait for it in the scoring
                if step in _saved(directory):
                    self._failures[step] = str(failure)
                elif ended:  # a run that is still training deletes old checkpoints (execution.keep_checkpoints)
                    self._failures[step] = "its checkpoint is gone"
            else:
                self(step, params)
            if is_distributed() and stop_agreed():
                raise Restart("stopped by SIGTERM; run the same command to continue with the next checkpoint")
        if ended:
            self._failures |= dict.fromkeys(set(missing) - set(saved), "its checkpoint is gone")

    def raise_failures(self) -> None:
        """Write the failures to a file that `lossline-jax status` reads, and raise them as one error.

        Raises:
            RunFailed: at least one checkpoint could not be scored.
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
        """Return the names of the sets that have no row, by step. A step with all its rows is left out."""
        sets_of_step = from_main_process(lambda: missing_checkpoints(self._rows, self._run.run_id, steps, self._suite))
        return {int(step): tuple(names) for step, names in sets_of_step.items()}


class Scorers:
    """The scorers of a study, one per model. They are kept, so that the rows file is only read again if it changed."""

    def __init__(self, opened: OpenedStudy) -> None:
        self._study_name, self._folder = opened.study.name, opened.folder
        self._evaluators = Evaluators(opened.mesh, opened.study.execution.fsdp)
        self._by_run_id: dict[str, CheckpointScorer] = {}

    @contextlib.contextmanager
    def locked(self, target: ScoringTarget, wait: bool = False) -> Iterator[CheckpointScorer]:
        """Hold the scoring lock of a model and yield its scorer. Raise the failures at the end.

        Args:
            target: the model.
            wait: if another process scores the model, wait for it. False: raise.

        Raises:
            RunLocked: another process is scoring the model, and `wait` is False.
            RunFailed: at the end, if a checkpoint could not be scored.
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
        """The number of rows that this process has added."""
        return sum(scorer.num_added for scorer in self._by_run_id.values())


def _saved(directory: RunDir) -> list[int]:
    """Return the steps of the saved checkpoints, as process 0 sees them: a shared disk may show new files late."""
    return from_main_process(lambda: checkpoint_steps(directory))
