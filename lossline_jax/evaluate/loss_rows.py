"""From scores to rows of the losses table, and which rows are still missing."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lossline_jax.losses.table import LossRow

if TYPE_CHECKING:
    from lossline_jax.evaluate.scores import SetScore
    from lossline_jax.evaluate.suite import PreparedSuite
    from lossline_jax.models.accounting import ParameterCounts


class RunFacts(Protocol):
    """What the table says of a run; `study.RunConfig` and `imported_model.ImportedModel` are such."""

    @property
    def run_id(self) -> str: ...

    @property
    def context_length(self) -> int: ...

    @property
    def factors(self) -> Mapping[str, str | int]: ...

    def tokens_at(self, step: int) -> int | None: ...


def non_finite_sets(scores: "Mapping[str, SetScore]") -> tuple[str, ...]:
    """The sets on which some number is NaN or infinite."""
    return tuple(
        name
        for name, score in scores.items()
        if not all(value is None or math.isfinite(value) for value in dataclasses.astuple(score))
    )


def loss_rows(
    study_name: str,
    run: RunFacts,
    counts: "ParameterCounts",
    train_flops_per_token: float,
    vocab_size: int,
    step: int,
    suite: "PreparedSuite",
    scores: "Mapping[str, SetScore]",
) -> list[LossRow]:
    """One row for each score of one checkpoint, in the order of the suite.

    Args:
        train_flops_per_token: of this run at its training context (`models.accounting`).
        step: of the checkpoint.
        scores: by set name; sets of the suite that are not in it get no row.
    """
    tokens_seen = run.tokens_at(step)
    return [
        LossRow(
            study=study_name,
            run_id=run.run_id,
            **run.factors,
            params_total=counts.total,
            params_embedding=counts.embedding,
            params_non_embedding=counts.non_embedding,
            vocab_size=vocab_size,
            step=step,
            tokens_seen=tokens_seen,
            train_flops=None if tokens_seen is None else train_flops_per_token * tokens_seen,
            eval_set=each.name,
            eval_kind=each.kind,
            eval_fingerprint=each.fingerprint,
            loss_definition=each.definition,
            **dataclasses.asdict(scores[each.name]),
        )
        for each in suite.sets
        if each.name in scores
    ]
