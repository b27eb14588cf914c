"""Loss-to-loss: y = K (x - E_x)^kappa + E_y, with each irreducible loss free or given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves import SHIFTED_POWER
from lossline_jax.fit.problem import LEAST_SQUARES, LOG_LOG_LEAST_SQUARES
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import solve

Irreducible = float | Literal["free"]


@dataclass(frozen=True)
class TransferPrediction:
    """Losses read off a fitted line; y is None where the line has no value."""

    x: tuple[float, ...]
    y: tuple[float | None, ...]
    below_domain: tuple[bool, ...]  # x is at or below E_x
    extrapolated: tuple[bool, ...]  # x is outside the range that was fitted


def fit_shifted_power(
    x: Any,
    y: Any,
    clusters: Sequence | None = None,
    *,
    e_x: Irreducible = "free",
    e_y: Irreducible = "free",
    residual: Literal["plain", "log-log"] = "plain",
    num_starts: int = 64,
    level: float | None = 0.9,
    unit: str = "nats/token",
) -> FitResult:
    """Fit the line of losses y over losses x.

    Args:
        x, y: (n,) losses of the same checkpoints (or of runs paired by N and D), same unit.
        clusters: (n,) the run that each point comes from.
        e_x, e_y: "free", or the irreducible loss, say from a compute law.
        residual: "plain" sums squares of y - f; "log-log" is ordinary least squares of ln(y - E_y) on
            ln(x - E_x) and needs both given (how arXiv 2411.12925 fits train-to-train). Rows at or below a
            given E_x are dropped and counted.
        level: of the profile intervals; None: none.

    Raises:
        LosslineError: log-log with a free irreducible loss, or arrays that do not fit together.
    """
    fixed = {name: float(value) for name, value in (("E_x", e_x), ("E_y", e_y)) if value != "free"}
    if residual == "log-log" and len(fixed) < 2:
        raise LosslineError("a log-log fit needs both e_x and e_y given; leave residual='plain' to fit them")
    return solve(
        SHIFTED_POWER,
        {"x": x},
        y,
        loss=LOG_LOG_LEAST_SQUARES if residual == "log-log" else LEAST_SQUARES,
        fixed=fixed,
        clusters=clusters,
        num_starts=num_starts,
        level=level,
        conventions={"x": unit, "y": unit, "E_x": _said(e_x), "E_y": _said(e_y)},
    )


def predict_transfer(fit: FitResult, x: Any) -> TransferPrediction:
    """Read the line at x, flagging instead of giving NaN where x is at or below E_x.

    Raises:
        LosslineError: the fit has no curve, or x is not finite.
    """
    x = np.atleast_1d(np.asarray(x, float))
    if not fit.has_curve:
        raise LosslineError(f"{fit.law}: nothing to predict with, the fit is {fit.status!r} ({fit.note})")
    if not np.all(np.isfinite(x)):
        raise LosslineError(f"{fit.law}: x must be finite to predict at")
    defined = fit.defined({"x": x})
    y = np.full(x.shape, np.nan)
    y[defined] = fit.predict({"x": x[defined]})
    return TransferPrediction(
        x=tuple(x.tolist()),
        y=tuple(value if ok else None for value, ok in zip(y.tolist(), defined, strict=True)),
        below_domain=tuple((~defined).tolist()),
        extrapolated=tuple(fit.extrapolates({"x": x}).tolist()),
    )


def _said(value: Irreducible) -> str:
    return "free" if value == "free" else "given"
