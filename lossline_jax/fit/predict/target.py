"""Read the run that a prediction is asked for: its size and tokens, a budget to split, or the other loss."""

import numpy as np

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.arguments import require_positive
from lossline_jax.fit.curves.compute_law import FLOPS_PER_PARAMETER_AND_TOKEN, chinchilla_allocation, fit_compute_law
from lossline_jax.fit.predict.forecast import Forecast
from lossline_jax.fit.predict.series import LossSeries, RunPoints

ROUNDING_SLACK = 1.05  # factor: a budget written with two digits is this near to the exact one
SHAPE_SLACK = 2.0  # factor: attention and embeddings change the FLOPs of a token by less
MISSING_TARGET = "give {at_params} and {at_tokens} of the run, or {at_flops} alone to split a budget"


def rows_of_target(
    forecast: Forecast,
    name: str,
    *,
    params: tuple[float, ...] = (),
    tokens: float | None = None,
    flops: float | None = None,
    x: float | None = None,
) -> RunPoints:
    """Return the one row that `Forecast.predict` needs for a series.

    Args:
        forecast: the fitted forecast.
        name: name of the series.
        params: one value for each parameter count of the series, in its order. The first value alone is enough:
            predictors that use another count are then left out.
        tokens: training tokens. None: not given.
        flops: training budget, FLOPs. Without size and tokens it is split as the Chinchilla law of the series finds
            best. None: not given.
        x: the other loss, for series that are predicted from one. The budget of that run tells how far the prediction
            reaches. Without `flops`, the budget is the largest of the table where x lies within the fitted runs, and
            unknown elsewhere. None: not given.

    Raises:
        ArgumentError: an argument that the series needs is missing, or an argument is of no use to the series.
    """
    check_target(params, tokens, flops, x)
    series = next(s for s in forecast.series if s.name == name)
    if series.is_line:
        return _row_of_loss(series, params=params, tokens=tokens, flops=flops, x=x)
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
    if params and tokens is not None:
        sizes = {count: np.array([value]) for count, value in zip(series.rows.sizes, params, strict=False)}
        _require_one_budget(series, params[0], tokens, flops)
        flops = flops or _median_flops_per_parameter_and_token(series) * params[0] * tokens
        return RunPoints(np.array([flops]), sizes, np.array([tokens]))
    if flops is None:
        raise ArgumentError(MISSING_TARGET)
    size, tokens = _split(series, flops)
    return RunPoints(np.array([flops]), {next(iter(series.rows.sizes)): np.array([size])}, np.array([tokens]))


def check_target(params: tuple[float, ...], tokens: float | None, flops: float | None, x: float | None) -> None:
    """Check the arguments of a target run as far as possible before anything is fitted.

    Args:
        params: parameter counts of the run. Empty: not given.
        tokens: training tokens. None: not given.
        flops: training budget, FLOPs. None: not given.
        x: the other loss. None: not given.

    Raises:
        ArgumentError: a number is not positive, or the arguments do not describe a run.
    """
    for name, value in (
        ("at_tokens", tokens),
        ("at_flops", flops),
        ("at_x", x),
        *(("at_params", size) for size in params),
    ):
        if value is not None:
            require_positive(name, value)
    if x is None and (bool(params) != (tokens is not None) or not (params or flops)):
        raise ArgumentError(MISSING_TARGET)


def _require_one_budget(series: LossSeries, size: float, tokens: float, flops: float | None) -> None:
    """Raise ArgumentError where a budget does not match size and tokens, as the table counts FLOPs.

    Some tables count the same FLOPs for every run, such as 6 times parameters times tokens. The budget must then match
    within 5%. In other tables the count changes with the shape of a model. The budget may then be up to a factor of two
    outside the range of the table.
    """
    if flops is None:
        return
    flops_per_row = _flops_per_parameter_and_token(series)
    counted = flops_per_row[np.isfinite(flops_per_row)]
    low, high = float(counted.min()), float(counted.max())
    slack = ROUNDING_SLACK if high < low * ROUNDING_SLACK else SHAPE_SLACK
    if not low / slack <= flops / (size * tokens) <= high * slack:
        raise ArgumentError(
            "{at_flops}: {flops:.4g} is not what {at_params} and {at_tokens} make, {made:.4g} ({per_unit:.3g} FLOPs "
            "for a parameter and token in the table); leave one of them out",
            flops=flops,
            made=np.median(counted) * size * tokens,
            per_unit=np.median(counted),
        )


def _row_of_loss(
    series: LossSeries, *, params: tuple[float, ...], tokens: float | None, flops: float | None, x: float | None
) -> RunPoints:
    """Return the row of a run for a series that is predicted from another loss."""
    if x is None:
        raise ArgumentError(
            "{at_x}: {name} is predicted from another loss; give the value of that loss for the run", name=series.name
        )
    if params or tokens is not None:
        raise ArgumentError(
            "{at_params} and {at_tokens} are of no use where a loss is predicted from another; give {at_flops}"
        )
    fitted_x = series.rows.other_loss()
    inside = fitted_x.min() <= x <= fitted_x.max()
    budget = flops or (float(series.rows.budget.max()) if inside else np.nan)
    unknown = {count: np.array([np.nan]) for count in series.rows.sizes}
    return RunPoints(np.array([budget]), unknown, np.array([np.nan]), np.array([x]))


def _split(series: LossSeries, flops: float) -> tuple[float, float]:
    """Return the size and tokens of least loss for a budget in the units of the table's budgets."""
    size = next(iter(series.rows.sizes.values()))
    fit = fit_compute_law(series.y, N=size, D=series.rows.tokens, form="chinchilla")
    if fit.status not in ("converged", "bound hit"):
        raise ArgumentError(
            "{name}: a budget cannot be split, because the law of size and tokens is {status!r} ({note}); "
            "give {at_params} and {at_tokens}",
            name=series.name,
            status=fit.status,
            note=fit.note,
        )
    flops_per_unit = _median_flops_per_parameter_and_token(series)
    best = chinchilla_allocation(fit.parameters, FLOPS_PER_PARAMETER_AND_TOKEN * flops / flops_per_unit)
    return float(best.N), float(best.D)


def _median_flops_per_parameter_and_token(series: LossSeries) -> float:
    """Return the median FLOPs per parameter and token, as the table counts budgets. The usual count is 6."""
    return float(np.median(_flops_per_parameter_and_token(series)))


def _flops_per_parameter_and_token(series: LossSeries) -> np.ndarray:
    """Return (n,) FLOPs per parameter and token, row by row."""
    return series.rows.budget / (next(iter(series.rows.sizes.values())) * series.rows.tokens)
