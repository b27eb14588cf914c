"""Fits of laws, predictions and backtests as plain aligned text for the terminal."""

import numpy as np

from lossline_jax.fit.predict.backtest import Backtest
from lossline_jax.fit.predict.forecast import Forecast, Predictions
from lossline_jax.fit.predict.table_forecast import TableForecast
from lossline_jax.formatting import text_table, titled_list


def forecast_text(fitted: TableForecast) -> str:
    """Return the series of a forecast, and what its predictions will rest on."""
    rows = [(each.name, each.kind, each.y.size, f"{each.rows.budget.max():.3g}") for each in fitted.forecast.series]
    table = text_table(("series", "predicted from", "rows", "largest budget, FLOPs"), rows)
    return "\n\n".join([table, *_foundations(fitted.forecast), *titled_list("Notes", fitted.notes)])


def _foundations(forecast: Forecast) -> list[str]:
    """Return a block of weights, and one of the errors that intervals come from."""
    kinds = [f"{kind}: {_weights(weights)}" for kind, weights in forecast.weights.items()]
    counts = [f"{kind}: {number} errors of held-out budgets" for kind, number in forecast.num_folds.items()]
    counts = counts or ["nothing: three budgets and nine errors of held-out runs are the least"]
    titles = (("Predictors and their weights", kinds), ("Intervals from", counts))
    return [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in titles]


def predictions_text(predicted: Predictions) -> str:
    """Return a row a prediction, with the origin of its interval."""
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
    """Means a kind and loss, then each predictor alone, the weights, and what was left out."""
    low, high = backtest.predicted
    span = f"{low:.3g}" if high / low < 1.01 else f"{low:.3g} to {high:.3g}"
    title = f"Fitted up to {backtest.up_to:.3g} FLOPs, predicted {span} ({low / backtest.up_to:.3g}x further)"
    rows = []
    for kind in dict.fromkeys(score.kind for score in backtest.scores):
        of_kind = [score for score in backtest.scores if score.kind == kind]
        for loss in dict.fromkeys(score.loss for score in of_kind):
            scores = [score for score in of_kind if score.loss == loss]
            predictors = {name for score in scores for name in score.errors_of_predictors}
            alone = {
                n: np.mean([s.errors_of_predictors[n] for s in scores if n in s.errors_of_predictors])
                for n in predictors
            }
            best = min(alone, key=alone.get) if alone else "-"
            covered = [score for score in scores if score.coverage is not None]
            rows.append(
                (
                    kind,
                    loss,
                    len(scores),
                    f"{np.mean([score.error for score in scores]):.2%}",
                    f"{np.max([score.error for score in scores]):.2%}",
                    f"{np.mean([score.coverage for score in covered]):.0%}" if covered else "-",
                    f"{np.mean([score.width for score in covered]):.1%}" if covered else "-",
                    f"{best} {alone[best]:.2%}" if alone else "-",
                )
            )
    interval = f"in {backtest.level:.0%} interval"
    header = ("from", "loss", "series", "mean error", "largest", interval, "width", "best alone")
    weights = [f"  {kind}: {_weights(each)}" for kind, each in backtest.weights.items()]
    blocks = [title, text_table(header, rows), "Weights, from the largest budget fitted\n" + "\n".join(weights)]
    return "\n\n".join([*blocks, *titled_list("Notes", backtest.notes)])


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
