"""Turn the scores of a checkpoint into rows of the losses table."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from lossline_jax.config.model import DTYPE_BYTES, ModelConfig
from lossline_jax.losses.loss_row import CheckpointFacts, LossRow, SetScore
from lossline_jax.models.accounting import count_parameters, train_flops_per_token

if TYPE_CHECKING:
    from lossline_jax.evaluate.suite import PreparedSuite


class RunFacts(Protocol):
    """A run as the losses table needs it: `study.RunConfig` or `imported_model.ImportedModel`."""

    @property
    def run_id(self) -> str:
        """The id of the run."""
        ...

    @property
    def context_length(self) -> int:
        """The training context, in tokens."""
        ...

    @property
    def factors(self) -> Mapping[str, Any]:
        """The values of the columns `loss_row.FACTOR_COLUMNS`."""
        ...

    @property
    def gradients_per_step(self) -> int:
        """The number of gradients of a training step. 1, unless the optimiser asks for more."""
        ...

    def tokens_at(self, step: int) -> int | None:
        """Return the tokens trained on after `step` steps. None: not known."""
        ...


def non_finite_sets(scores: Mapping[str, SetScore]) -> tuple[str, ...]:
    """Return the names of the sets with a number that is NaN or infinite.

    Args:
        scores: the scores by set name.
    """
    return tuple(
        name
        for name, score in scores.items()
        if not all(value is None or math.isfinite(value) for value in dataclasses.astuple(score))
    )


def checkpoint_facts(
    study_name: str,
    run: RunFacts,
    model_config: ModelConfig,
    vocab_size: int,
    *,
    step: int,
    unique_tokens: int | None = None,
) -> CheckpointFacts:
    """Return the columns of the losses table that describe a checkpoint.

    Args:
        study_name: the name of the study.
        run: the run of the checkpoint.
        model_config: the model of the run.
        vocab_size: the rows of the model's embedding.
        step: the number of updates before the checkpoint.
        unique_tokens: the distinct training tokens before the checkpoint. None: not known.
    """
    tokens_seen = run.tokens_at(step)
    counts = count_parameters(model_config, vocab_size)
    flops_per_token = train_flops_per_token(model_config, vocab_size, run.context_length) * run.gradients_per_step
    train_flops = None if tokens_seen is None else flops_per_token * tokens_seen
    return CheckpointFacts(
        study=study_name,
        run_id=run.run_id,
        **run.factors,
        params_total=counts.total,
        params_embedding=counts.embedding,
        params_non_embedding=counts.non_embedding,
        vocab_size=vocab_size,
        step=step,
        tokens_seen=tokens_seen,
        unique_tokens=unique_tokens,
        train_flops=train_flops,
        # A dense run that began from random parameters has no zeros by design, and no other run behind it.
        params_nonzero=counts.total,
        weight_bits=model_config.weight_bits or 8 * DTYPE_BYTES[model_config.compute_dtype],
        train_flops_lineage=train_flops,
        tokens_lineage=tokens_seen,
    )


def loss_rows(checkpoint: CheckpointFacts, suite: "PreparedSuite", scores: Mapping[str, SetScore]) -> list[LossRow]:
    """Return one row for each score of one checkpoint, in the order of the suite.

    Args:
        checkpoint: the columns that describe the checkpoint.
        suite: the suite that was scored.
        scores: the scores by set name. A set of the suite without a score gets no row.
    """
    return [
        LossRow(
            **dataclasses.asdict(checkpoint),
            eval_set=prepared_set.name,
            eval_kind=prepared_set.kind,
            eval_fingerprint=prepared_set.fingerprint,
            loss_definition=prepared_set.definition,
            **dataclasses.asdict(scores[prepared_set.name]),
        )
        for prepared_set in suite.sets
        if prepared_set.name in scores
    ]
