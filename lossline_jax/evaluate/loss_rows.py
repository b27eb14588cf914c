"""From scores to rows of the losses table, and which rows are still missing."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lossline_jax.losses.loss_row import CheckpointFacts, LossRow, SetScore
from lossline_jax.models.accounting import count_parameters, train_flops_per_token

if TYPE_CHECKING:
    from lossline_jax.config.model import ModelConfig
    from lossline_jax.evaluate.suite import PreparedSuite


class RunFacts(Protocol):
    """What the table says of a run; `study.RunConfig` and `imported_model.ImportedModel` are such."""

    @property
    def run_id(self) -> str: ...

    @property
    def context_length(self) -> int: ...

    @property
    def factors(self) -> Mapping[str, str | int]: ...

    def tokens_at(self, step: int) -> int | None: ...


def non_finite_sets(scores: Mapping[str, SetScore]) -> tuple[str, ...]:
    """The sets on which some number is NaN or infinite."""
    return tuple(
        name
        for name, score in scores.items()
        if not all(value is None or math.isfinite(value) for value in dataclasses.astuple(score))
    )


def checkpoint_facts(
    study_name: str, run: RunFacts, model_config: "ModelConfig", vocab_size: int, step: int
) -> CheckpointFacts:
    """Return what the table says of the checkpoint after `step` updates of a run."""
    tokens_seen = run.tokens_at(step)
    counts = count_parameters(model_config, vocab_size)
    flops_per_token = train_flops_per_token(model_config, vocab_size, run.context_length)
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
        train_flops=None if tokens_seen is None else flops_per_token * tokens_seen,
    )


def loss_rows(checkpoint: CheckpointFacts, suite: "PreparedSuite", scores: Mapping[str, SetScore]) -> list[LossRow]:
    """Return one row for each score of one checkpoint, in the order of the suite.

    Args:
        scores: by set name; sets of the suite that are not in it get no row.
    """
    return [
        LossRow(
            **dataclasses.asdict(checkpoint),
            eval_set=each.name,
            eval_kind=each.kind,
            eval_fingerprint=each.fingerprint,
            loss_definition=each.definition,
            **dataclasses.asdict(scores[each.name]),
        )
        for each in suite.sets
        if each.name in scores
    ]
