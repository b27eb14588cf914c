"""Scoring the checkpoints of one model, trained here or elsewhere, and keeping the rows."""

import functools
from collections.abc import Sequence
from typing import Any

from etils import epath
from jax.sharding import Mesh
from tqdm import tqdm

from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.harvest import NonFiniteLoss, TableRun, loss_rows, missing_checkpoints
from lossline_jax.evaluate.suites import PreparedSuite
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.base import Model
from lossline_jax.rundir import RunDir
from lossline_jax.table import append_rows, read_rows
from lossline_jax.train.checkpoint import checkpoint_steps, load_params


class CheckpointScorer:
    """Scores checkpoints of one model and adds the rows that its file lacks."""

    def __init__(
        self,
        study_name: str,
        run: TableRun,
        model: Model,
        suite: PreparedSuite,
        rows_file: epath.Path,
        mesh: Mesh,
        fsdp: bool | None = None,
    ):
        self._study_name, self._run, self._rows_file = study_name, run, rows_file
        self._model, self._suite, self._mesh, self._fsdp = model, suite, mesh, fsdp
        self._counts = count_parameters(model.config, model.vocab_size)
        self._flops = train_flops_per_token(model.config, model.vocab_size, run.context_length)

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        """Made at the first checkpoint: a finished run needs none."""
        return Evaluator(self._model, self._mesh, self._suite, fsdp=self._fsdp)

    def __call__(self, step: int, params: Any) -> None:
        """Score the parameters after `step` updates on every set that has no row yet.

        Raises:
            NonFiniteLoss: after the rows of the finite sets have been written.
        """
        missing = self.missing([step]).get(step, ())
        if not missing:
            return
        scores = self._evaluator.score(params)
        lacking = {name: score for name, score in scores.items() if name in missing}
        vocab_size = self._model.vocab_size
        try:
            rows = loss_rows(
                self._study_name, self._run, self._counts, self._flops, vocab_size, step, self._suite, lacking
            )
        except NonFiniteLoss as failure:
            append_rows(self._rows_file, failure.rows)
            raise
        append_rows(self._rows_file, rows)

    def score_missing(self, directory: RunDir, steps: Sequence[int]) -> None:
        """Score those of the saved checkpoints among `steps` that lack a row."""
        missing = self.missing([step for step in checkpoint_steps(directory) if step in steps])
        for step in tqdm(missing, desc=f"score {self._run.run_id}", unit="checkpoint", disable=None):
            self(step, load_params(directory, step, self._model, self._mesh, fsdp=self._fsdp))

    def missing(self, steps: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """The sets that each of the checkpoints lacks a row for; those that lack none are left out."""
        return missing_checkpoints(read_rows(self._rows_file), self._run.run_id, steps, self._suite)
