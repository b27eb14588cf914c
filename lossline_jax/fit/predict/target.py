"""The run that a prediction is asked for: its size and tokens, a budget to be split well, or the other loss."""

import numpy as np

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.arguments import require_positive
from lossline_jax.fit.curves.compute_law import FLOPS_PER_PARAMETER_AND_TOKEN, chinchilla_allocation, fit_compute_law
from lossline_jax.fit.predict.forecast import Forecast
from lossline_jax.fit.predict.series import LossSeries, RunPoints

ROUNDING_SLACK = 1.05  # a budget written with two digits is that near to the exact one
SHAPE_SLACK = 2.0  # attention and embeddings change the FLOPs of a token by less


def rows_of_target(
    forecast: Forecast,
    name: str,
    params: tuple[float, ...] = (),
    tokens: float | None = None,
    flops: float | None = None,
    x: float | None = None,
) -> RunPoints:
    """The one row that `Forecast.predict` needs for the series called `name`.

    Args:
        params: a value for each count of parameters of the series, in its order; the first alone will do, and the
            predictors that use another count are left out.
        tokens: training tokens.
        flops: budget. Without size and tokens it is split as the Chinchilla law of the series finds best.
        x: the other loss, for series that are predicted from one. Its budget says how far the prediction reaches; by
            default the largest of the table, where x lies among those of the fitted runs, else unknown.

    Raises:
        ArgumentError: what the series needs is not given, or is given and of no use.
    """
    check_target(params, tokens, flops, x)
    series = next(s for s in forecast.series if s.name == name)
    if series.is_line:
        return _of_loss(series, params, tokens, flops, x)
    if x is not None:
        raise ArgumentError(
            "{at_x}: these losses are predicted from size and tokens; give the forecast {x}, the loss to start from"
        )
    if len(params) > len(series.rows.sizes):
        raise ArgumentError(
            "{at_params}: {given} values for {known} counts of parameters; give one of each, or the first alone",
            given=len(params),
            known=len(series.rows.sizes),
        )
    if params:
        sizes = {count: np.array([value]) for count, value in zip(series.rows.sizes, params, strict=False)}
        _require_one_budget(series, params[0], tokens, flops)
        flops = flops or _flops_of_a_token(series) * params[0] * tokens
        return RunPoints(np.array([flops]), sizes, np.array([tokens]))
    size, tokens = _split(series, flops)
    return RunPoints(np.array([flops]), {next(iter(series.rows.sizes)): np.array([size])}, np.array([tokens]))


def check_target(params: tuple[float, ...], tokens: float | None, flops: float | None, x: float | None) -> None:
    """Check of a run what can be checked before anything is fitted.

    Raises:
        ArgumentError: a number is not positive, or nothing is told of the run.
    """
    for name, value in (
        ("at_tokens", tokens),
        ("at_flops", flops),
        ("at_x", x),
        *(("at_params", each) for each in params),
    ):
        if value is not None:
            require_positive(name, value)
    if x is None and (bool(params) != (tokens is not None) or not (params or flops)):
        raise ArgumentError("give {at_params} and {at_tokens} of the run, or {at_flops} alone to split a budget")


def _require_one_budget(series: LossSeries, size: float, tokens: float, flops: float | None) -> None:
    """Raises ArgumentError where a budget is not what size and tokens make, as the table counts FLOPs.

    A table that counts the same for every run, as 6 times parameters times tokens, is followed to 5%. Else the count
    changes with the shape of a model, and a factor of two beyond the table's is believed.
    """
    if flops is None:
        return
    counted = _flops_of_tokens(series)
    counted = counted[np.isfinite(counted)]
    low, high = float(counted.min()), float(counted.max())
    slack = ROUNDING_SLACK if high < low * ROUNDING_SLACK else SHAPE_SLACK
    if not low / slack <= flops / (size * tokens) <= high * slack:
        raise ArgumentError(
            "{at_flops}: {flops:.4g} is not what {at_params} and {at_tokens} make, {made:.4g} ({each:.3g} FLOPs for a "
            "parameter and token in the table); leave one of them out",
            flops=flops,
            made=np.median(counted) * size * tokens,
            each=np.median(counted),
        )


def _of_loss(
    series: LossSeries, params: tuple[float, ...], tokens: float | None, flops: float | None, x: float | None
) -> RunPoints:
    if x is None:
        raise ArgumentError(
            "{at_x}: {name} is predicted from another loss; say what that is for the run", name=series.name
        )
    if params or tokens is not None:
        raise ArgumentError(
            "{at_params} and {at_tokens} are of no use where a loss is predicted from another; give {at_flops}"
        )
    inside = series.rows.x.min() <= x <= series.rows.x.max()
    budget = flops or (float(series.rows.budget.max()) if inside else np.nan)
    unknown = {count: np.array([np.nan]) for count in series.rows.sizes}
    return RunPoints(np.array([budget]), unknown, np.array([np.nan]), np.array([x]))


def _split(series: LossSeries, flops: float) -> tuple[float, float]:
    """Size and tokens of least loss for a budget in the units of the table's budgets."""
    size = next(iter(series.rows.sizes.values()))
    fit = fit_compute_law(series.y, N=size, D=series.rows.tokens, form="chinchilla")
    if fit.status not in ("converged", "bound hit"):
        raise ArgumentError(
            "{name}: a budget cannot be split, the law of size and tokens is {status!r} ({note}); "
            "give {at_params} and {at_tokens}",
            name=series.name,
            status=fit.status,
            note=fit.note,
        )
    best = chinchilla_allocation(fit.parameters, FLOPS_PER_PARAMETER_AND_TOKEN * flops / _flops_of_a_token(series))
    return float(best.N), float(best.D)


def _flops_of_a_token(series: LossSeries) -> float:
    """FLOPs for a parameter and token, in the unit of the table's budgets: 6 where they are counted so."""
    return float(np.median(_flops_of_tokens(series)))


def _flops_of_tokens(series: LossSeries) -> np.ndarray:
    """(n,) FLOPs for a parameter and token, row by row."""
    return series.rows.budget / (next(iter(series.rows.sizes.values())) * series.rows.tokens)
