"""Format forecasts, predictions and backtests as aligned text."""

from collections.abc import Sequence

import numpy as np

from lossline_jax.fit.predict.backtest import Backtest, SeriesScore
from lossline_jax.fit.predict.forecast import Forecast, Predictions
from lossline_jax.fit.predict.table_forecast import TableForecast
from lossline_jax.formatting import text_table, titled_list


def forecast_text(fitted: TableForecast) -> str:
    """Return the series of a forecast, and the weights and errors that its predictions are based on.

    Args:
        fitted: the forecast.
    """
    rows = [(s.name, s.kind, s.y.size, f"{s.rows.budget.max():.3g}") for s in fitted.forecast.series]
    table = text_table(("series", "predicted from", "rows", "largest budget, FLOPs"), rows)
    return "\n\n".join([table, *_foundations(fitted.forecast), *titled_list("Notes", fitted.notes)])


def _foundations(forecast: Forecast) -> list[str]:
    """Return a block of weights, and a block of the numbers of errors behind the intervals."""
    kinds = [f"{kind}: {_weights(weights)}" for kind, weights in forecast.weights.items()]
    counts = [f"{kind}: {number} errors of held-out budgets" for kind, number in forecast.num_folds.items()]
    counts = counts or ["nothing: at least three budgets and nine errors of held-out runs are needed"]
    titles = (("Predictors and their weights", kinds), ("Intervals from", counts))
    return [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in titles]


def predictions_text(predicted: Predictions) -> str:
    """Return one row for each prediction, and the numbers of errors behind the intervals.

    Args:
        predicted: the predictions.
    """
    forecast = predicted.forecast
    rows = [
        (
            p.series,
            f"{p.estimate:.4f}",
            "none" if p.lower is None else f"[{p.lower:.4f}, {p.upper:.4f}]",
            "?" if np.isnan(p.reach) else f"{p.reach:.3g}x",
            p.note,
        )
        for p in predicted.predictions
    ]
    header = ("series", "predicted", f"{forecast.level:.0%} interval", "beyond the largest budget", "note")
    return "\n\n".join([text_table(header, rows), *_foundations(forecast), *titled_list("Notes", predicted.notes)])


def backtest_text(backtest: Backtest) -> str:
    """Return the mean errors of each kind and loss, the best predictor alone, the weights, and the notes.

    Args:
        backtest: the scores of all series.
    """
    low, high = backtest.predicted
    span = f"{low:.3g}" if high / low < 1.01 else f"{low:.3g} to {high:.3g}"
    title = f"Fitted up to {backtest.up_to:.3g} FLOPs, predicted {span} ({low / backtest.up_to:.3g}x further)"
    rows: list[tuple[object, ...]] = []
    for kind in dict.fromkeys(score.kind for score in backtest.scores):
        of_kind = [score for score in backtest.scores if score.kind == kind]
        for loss in dict.fromkeys(score.loss for score in of_kind):
            scores = [score for score in of_kind if score.loss == loss]
            alone = _mean_errors_of_predictors(scores)
            best = min(alone, key=lambda name: alone[name]) if alone else "-"
            coverages = [score.coverage for score in scores if score.coverage is not None]
            widths = [score.width for score in scores if score.width is not None]
            rows.append(
                (
                    kind,
                    loss,
                    len(scores),
                    f"{np.mean([score.error for score in scores]):.2%}",
                    f"{np.max([score.error for score in scores]):.2%}",
                    f"{np.mean(coverages):.0%}" if coverages else "-",
                    f"{np.mean(widths):.1%}" if widths else "-",
                    f"{best} {alone[best]:.2%}" if alone else "-",
                )
            )
    interval = f"in {backtest.level:.0%} interval"
    header = ("from", "loss", "series", "mean error", "largest", interval, "width", "best alone")
    weights = [f"  {kind}: {_weights(weights_of_kind)}" for kind, weights_of_kind in backtest.weights.items()]
    blocks = [title, text_table(header, rows), "Weights, from the largest budget fitted\n" + "\n".join(weights)]
    return "\n\n".join([*blocks, *titled_list("Notes", backtest.notes)])


def _mean_errors_of_predictors(scores: Sequence[SeriesScore]) -> dict[str, float]:
    """Return the mean error of each predictor alone, over the series that it could predict."""
    names = {name for score in scores for name in score.errors_of_predictors}
    return {
        name: float(np.mean([s.errors_of_predictors[name] for s in scores if name in s.errors_of_predictors]))
        for name in names
    }


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
