"""The result of a comparison of compute: speedups of levels against the reference level, with their verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lossline_jax.config import serialise
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.formatting import shown_tree

ComputeVerdict = Literal["saves compute", "costs compute", "depends", "no difference", "cannot tell"]
CurveKind = Literal["measured", "power law"]


@dataclass(frozen=True)
class SpeedupAt:
    """A speedup at one loss: the compute of the reference over the compute of the level."""

    loss: float
    reference_compute: float  # compute with which the reference reaches the loss
    level_compute: float  # compute with which the level reaches the loss
    speedup: float
    interval: tuple[float, float] | None  # 90%; None: nothing tells how runs vary


@dataclass(frozen=True)
class PairSpeedup:
    """The speedup of one matched pair of settings: a level and the reference level, all other factors equal."""

    matched_on: str  # the levels that distinguish this pair from other pairs
    speedup: float  # as in `LevelSpeedup`
    interval: tuple[float, float] | None
    losses: tuple[float, float]  # lowest and highest loss that both settings reach
    num_runs: int
    num_reference_runs: int
    by_loss: tuple[SpeedupAt, ...]  # from the highest common loss to the lowest
    by_budget: tuple[SpeedupAt, ...]  # at the loss that the level reaches with each budget; empty: no common budgets
    parameters: dict[str, float] = field(default_factory=dict)  # of the power laws; empty: measured curves


@dataclass(frozen=True)
class LevelSpeedup:
    """The speedup of a level of a factor, as the mean over its matched pairs. None: nothing was measured."""

    level: str
    verdict: ComputeVerdict
    note: str
    speedup: float | None = None  # geometric mean over the lower half of the common losses
    interval: tuple[float, float] | None = None  # 90%, Student's t with runs as units
    p: float | None = None  # of "the speedup is 1"; None: nothing was repeated
    p_holm: float | None = None  # `p` corrected over all levels of all factors (Holm 1979)
    noise: float | None = None  # deviation of ln(compute at equal loss) between repeated runs
    noise_freedom: float = 0.0  # degrees of freedom behind the noise
    noise_share: float | None = None  # noise / |ln(speedup)|
    highest: float | None = None  # speedup at the highest common loss
    highest_interval: tuple[float, float] | None = None
    lowest: float | None = None  # speedup at the lowest common loss
    lowest_interval: tuple[float, float] | None = None
    num_runs: int = 0
    num_reference_runs: int = 0
    pairs: tuple[PairSpeedup, ...] = ()


@dataclass(frozen=True)
class FactorSpeedup:
    """The speedups of the levels of one factor on one loss."""

    factor: str
    reference: str  # the level that all other levels are compared with
    loss: str  # evaluation set or column
    unit: str  # loss column of a long table; "": the loss is a column
    note: str
    curve: CurveKind
    margin: float  # a ratio: an interval within 1/margin and margin is no difference
    levels: tuple[LevelSpeedup, ...]
    far_runs: tuple[str, ...] = ()  # runs far from the others of their setting, which no verdict rests on

    def level(self, name: str) -> LevelSpeedup:
        """Return the speedup of a level.

        Args:
            name: the level.

        Raises:
            LosslineError: the level is not compared.
        """
        known = [item.level for item in self.levels]
        if name not in known:
            hint = suggestion(name, known)
            raise LosslineError(f"level {name!r} is not compared{hint}; compared are: {', '.join(known)}")
        return self.levels[known.index(name)]


@dataclass(frozen=True)
class ComputeComparison:
    """All speedups of a table: one item for each factor and loss."""

    factors: tuple[FactorSpeedup, ...]
    compute: str  # the source of the compute, such as a column
    failures: tuple[str, ...] = ()  # one line for each thing that was left out, with the reason
    conventions: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(item.factor for item in self.factors)) or "nothing"
        losses = ", ".join(dict.fromkeys(item.loss for item in self.factors))
        return f"<ComputeComparison of {names} on {losses}; show() prints it>"

    def factor(self, name: str, loss: str | None = None) -> FactorSpeedup:
        """Return the speedups of a factor.

        Args:
            name: the factor.
            loss: evaluation set or column. None: the first one.

        Raises:
            LosslineError: the factor is not compared on this loss.
        """
        found = [item for item in self.factors if item.factor == name and loss in (None, item.loss)]
        if not found:
            known = list(dict.fromkeys(item.factor for item in self.factors))
            on = "" if loss is None else f" on {loss!r}"
            names = ", ".join(known) or "none"
            raise LosslineError(f"factor {name!r} is not compared{on}{suggestion(name, known)}; compared are: {names}")
        return found[0]

    def as_shown(self) -> "ComputeComparison":
        """Return the result with every name as it may be shown (`formatting.shown`)."""
        return ComputeComparison.from_json(shown_tree(self.to_json()), "speedups")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values without NaN or infinity."""
        return serialise.to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "speedups.json") -> "ComputeComparison":
        """Read what `to_json` wrote.

        Args:
            value: the JSON object.
            where: name of its source, for errors.

        Raises:
            LosslineError: a field is missing, unknown or of the wrong type.
        """
        return serialise.from_json(cls, value, where)
