"""Draw a law, a prediction or a backtest into matplotlib axes: `ll.draw(value, ax=axes)`."""

import functools
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossline_jax.errors import LosslineError
from lossline_jax.fit.predict.backtest import Backtest
from lossline_jax.fit.predict.forecast import Prediction, Predictions
from lossline_jax.fit.predict.series import LossSeries
from lossline_jax.fit.predict.table_forecast import TableForecast
from lossline_jax.fit.resampling import Band, Bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.report.figures.axes import curve, label_axes
from lossline_jax.report.figures.compute_axes import log_scale
from lossline_jax.report.figures.palette import MOST_KEYED, LevelStyle, level_style
from lossline_jax.report.figures.style import INK, MUTED, RC
from lossline_jax.report.figures.svg import new_figure, render

SIZE = (5.2, 3.6)  # width and height of a new figure, inches
GRID = 100  # points of a curve
FORECAST_GRID = 24  # budgets of the curve of a forecast
BEYOND = 10.0  # times the largest budget: the end of that curve
CURVE = LevelStyle("base", marker="None")


def draw(value: object, ax: Axes | None = None) -> Axes:
    """Draw a fitted curve, a bootstrap with its band, a forecast, predictions, or a backtest.

    A law of one input is drawn over its fitted range. A forecast is drawn as the least loss at each budget, with its
    band, up to ten times the largest budget. Predictions are drawn against training FLOPs, above the runs that
    they are based on, with their intervals. A backtest is drawn as predicted loss against actual loss.

    Args:
        value: a `FitResult` or a `Bootstrap` of a law of one input, a `TableForecast`, `Predictions`, or a `Backtest`.
        ax: the axes to draw into. None: new axes.

    Raises:
        LosslineError: the law has several inputs, or there is nothing to draw.
        TypeError: there is no figure for a value of this type.
    """
    with matplotlib.rc_context(RC):
        axes = new_figure(*SIZE).add_subplot() if ax is None else ax
        _draw(value, axes)
    return axes


def render_axes(axes: Axes, file_format: str) -> bytes:
    """Return the bytes of the figure of some axes.

    Args:
        axes: axes of a whole figure, as `draw` makes them.
        file_format: "png", "pdf" or "svg".
    """
    figure = axes.figure
    if not isinstance(figure, Figure):
        raise TypeError("render_axes: the axes belong to a subfigure; render the whole figure")
    return render(figure, file_format)


@functools.singledispatch
def _draw(value: object, axes: Axes) -> None:
    raise TypeError(
        f"draw: there is no figure for a {type(value).__name__}; draw a fit, a bootstrap, a forecast, "
        "predictions or a backtest"
    )


@_draw.register
def _(value: FitResult, axes: Axes) -> None:
    if not value.has_curve:
        raise LosslineError(f"{value.law}: nothing to draw, the fit is {value.status!r} ({value.note})")
    x = _range(value)
    curve(axes, "curve", x, value.predict(x), style=CURVE, run_ids=(), width=1.6)
    label_axes(axes, next(iter(value.domain)), value.law)


@_draw.register
def _(value: Bootstrap, axes: Axes) -> None:
    _draw_band(value.band(_range(value.fit)), axes)
    label_axes(axes, next(iter(value.fit.domain)), value.fit.law)


@_draw.register
def _draw_band(value: Band, axes: Axes) -> None:
    band = (np.asarray(value.lower), np.asarray(value.upper))
    x, estimate = np.asarray(value.x), np.asarray(value.estimate)
    curve(axes, "curve", x, estimate, style=CURVE, run_ids=(), band=band, width=1.6)


def _range(fit: FitResult) -> np.ndarray:
    if len(fit.domain) != 1:
        raise LosslineError(
            f"{fit.law}: a curve needs a law of one input, this has {', '.join(fit.domain)}; "
            "draw a forecast (`ll.fit.forecast`) against compute instead"
        )
    return np.linspace(*next(iter(fit.domain.values())), GRID)


@_draw.register
def _(value: TableForecast, axes: Axes) -> None:
    series = [item for item in value.forecast.series if not item.is_line]
    if not series:
        raise LosslineError("the forecast has only lines of one loss against another, and none against compute")
    budgets = np.concatenate([item.rows.budget for item in series])
    grid = np.geomspace(budgets.min(), BEYOND * budgets.max(), FORECAST_GRID)
    by_series: dict[str, list[Prediction]] = {}
    for budget in grid:
        for prediction in value.predict(flops=float(budget)).predictions:
            by_series.setdefault(prediction.series, []).append(prediction)
    for k, item in enumerate(series):
        style, predicted = level_style(k), by_series[item.name]
        _draw_runs(axes, item, style)
        x = float(item.rows.budget.max()) * np.array([prediction.reach for prediction in predicted])
        estimate = np.array([prediction.estimate for prediction in predicted])
        low, high = (np.array([getattr(p, end) for p in predicted], dtype=float) for end in ("lower", "upper"))
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0)
        axes.plot(x, estimate, color=style.colour, linewidth=1.4, label=item.name)
    _compute_axes(axes, series)


@_draw.register
def _(value: Predictions, axes: Axes) -> None:
    if not value.predictions:
        raise LosslineError("no series was predicted, so there is nothing to draw")
    series = {item.name: item for item in value.forecast.series}
    names = list(dict.fromkeys(prediction.series for prediction in value.predictions))
    for k, name in enumerate(names):
        style = level_style(k)
        label = None if name in axes.get_legend_handles_labels()[1] else name  # its curve may be drawn already
        _draw_runs(axes, series[name], style)
        largest = float(series[name].rows.budget.max())
        for prediction in (item for item in value.predictions if item.series == name):
            at, estimate = largest * prediction.reach, prediction.estimate
            if np.isnan(at):
                raise LosslineError(f"{name}: the budget of the predicted run is not known, so it has no place")
            if prediction.lower is not None and prediction.upper is not None:
                axes.plot([at, at], [prediction.lower, prediction.upper], color=style.colour, linewidth=2.0)
            axes.plot([at], [estimate], "D", color=style.colour, markersize=6.5, markeredgecolor=INK, label=label)
            label = None
    _compute_axes(axes, [series[name] for name in names])


def _compute_axes(axes: Axes, series: Sequence[LossSeries]) -> None:
    losses = {item.loss for item in series}
    log_scale(axes)
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel(losses.pop() if len(losses) == 1 else "loss")
    _key(axes)


def _draw_runs(axes: Axes, series: LossSeries, style: LevelStyle) -> None:
    axes.plot(series.rows.budget, series.y, style.marker, color=style.colour, markersize=3.2, alpha=0.6, linestyle="")


@_draw.register
def _(value: Backtest, axes: Axes) -> None:
    points = [score for score in value.scores if score.actual]
    if not points:
        raise LosslineError("the backtest has no predicted rows, so there is nothing to draw")
    ends = pd.concat([pd.Series(score.actual + score.predicted) for score in points])
    low, high = float(ends.min()), float(ends.max())
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1.0)
    for k, loss in enumerate(dict.fromkeys(score.loss for score in points)):
        style = level_style(k)
        for number, score in enumerate(score for score in points if score.loss == loss):
            if score.lower:
                axes.vlines(score.actual, score.lower, score.upper, color=style.colour, linewidth=1.2, alpha=0.6)
            label = loss if number == 0 else None
            axes.plot(
                score.actual,
                score.predicted,
                style.marker,
                color=style.colour,
                markersize=4.0,
                linestyle="",
                label=label,
            )
    label_axes(axes, "actual loss", f"loss predicted from runs up to {value.up_to:.2g} FLOPs")
    _key(axes)


def _key(axes: Axes) -> None:
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) == 1:
        axes.set_title(labels[0])
    elif len(labels) <= MOST_KEYED:
        axes.legend()
