"""The run that a prediction is asked for: its size and tokens, a budget to be split well, or the other loss."""

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.allocation import chinchilla_allocation
from lossline_jax.fit.forecast import Forecast
from lossline_jax.fit.laws.compute import CHINCHILLA
from lossline_jax.fit.series import Rows, Series
from lossline_jax.fit.solve import solve


def rows_of_target(
    forecast: Forecast,
    name: str,
    at_params: tuple[float, ...] = (),
    at_tokens: float | None = None,
    at_flops: float | None = None,
    at_x: float | None = None,
) -> Rows:
    """The one row that `Forecast.predict` needs for the series called `name`.

    Args:
        at_params: a value for each count of parameters of the series, in its order; the first alone will do, and the
            predictors that use another count are left out.
        at_tokens: training tokens.
        at_flops: budget. Without size and tokens it is split as the Chinchilla law of the series finds best.
        at_x: the other loss, for series that are predicted from one. Its budget, by default the largest of the table,
            says how far the prediction reaches.

    Raises:
        LosslineError: what the series needs is not given, or is given and of no use.
    """
    series = next(s for s in forecast.series if s.name == name)
    for label, value in (
        ("at_tokens", at_tokens),
        ("at_flops", at_flops),
        ("at_x", at_x),
        *(("at_params", v) for v in at_params),
    ):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise LosslineError(f"{label}: {value:g} is not a positive number")
    if series.is_line:
        return _of_loss(series, at_params, at_tokens, at_flops, at_x)
    if at_x is not None:
        raise LosslineError("at_x: these losses are predicted from size and tokens; name with x the loss to start from")
    if len(at_params) > len(series.rows.sizes):
        raise LosslineError(f"at_params: {len(at_params)} values for {len(series.rows.sizes)} counts of parameters")
    if bool(at_params) != (at_tokens is not None) or not (at_params or at_flops):
        raise LosslineError("give at_params and at_tokens of the run, or at_flops alone to split a budget")
    if at_params:
        sizes = {count: np.array([value]) for count, value in zip(series.rows.sizes, at_params, strict=False)}
        flops = at_flops or 6.0 * at_params[0] * at_tokens
        return Rows(np.array([flops]), sizes, np.array([at_tokens]))
    size, tokens = _split(series, at_flops)
    return Rows(np.array([at_flops]), {next(iter(series.rows.sizes)): np.array([size])}, np.array([tokens]))


def _of_loss(series: Series, at_params, at_tokens, at_flops, at_x) -> Rows:
    if at_x is None:
        raise LosslineError(f"at_x: {series.name} is predicted from another loss; say what that is for the run")
    if at_params or at_tokens is not None:
        raise LosslineError(
            "at_params and at_tokens are of no use where a loss is predicted from another; give at_flops"
        )
    budget = at_flops or float(series.rows.budget.max())
    unknown = {count: np.array([np.nan]) for count in series.rows.sizes}
    return Rows(np.array([budget]), unknown, np.array([np.nan]), np.array([at_x]))


def _split(series: Series, flops: float) -> tuple[float, float]:
    """Size and tokens of least loss for a budget in the units of the table's budgets."""
    count = next(iter(series.rows.sizes))
    size, tokens = series.rows.sizes[count], series.rows.tokens
    fit = solve(CHINCHILLA, {"N": size, "D": tokens}, series.y, level=None)
    if not fit.has_curve:
        raise LosslineError(f"{series.name}: no law to split a budget by: {fit.status} ({fit.note})")
    per_token = float(np.median(series.rows.budget / (size * tokens)))  # 6 where budgets are counted that way
    best = chinchilla_allocation(fit.parameters, 6.0 * flops / per_token)
    return float(best.N), float(best.D)
