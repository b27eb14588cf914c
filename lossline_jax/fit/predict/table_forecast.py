"""Forecast and backtest a table of losses.

`forecast` reads the series of a table, fits their predictors, and predicts any run:

    forecast(losses, "val_loss", params="params", tokens="tokens").predict(flops=1e21)

`backtest` takes the same columns. It predicts the largest budgets of the table from the smaller ones.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.predict.backtest import Backtest, backtest_series
from lossline_jax.fit.predict.forecast import Forecast, Prediction, Predictions, forecast_series
from lossline_jax.fit.predict.series import RunPoints
from lossline_jax.fit.predict.table_series import Columns, series_of_table
from lossline_jax.fit.predict.target import rows_of_target
from lossline_jax.fit.result import INTERVAL_LEVEL
from lossline_jax.fit.tables.rows import as_names

NUM_NAMES_SHOWN = 8  # names of series in an error, by convention


@dataclass(frozen=True, eq=False)
class TableForecast:
    """A forecast that is fitted to the series of a table; `predict` predicts a run that nobody has trained."""

    forecast: Forecast
    notes: tuple[str, ...]  # one line for each group of rows, or series, that was left out

    def predict(
        self,
        *,
        params: float | Sequence[float] = (),
        tokens: float | None = None,
        flops: float | None = None,
        x: float | None = None,
        only: Sequence[str] = (),
    ) -> Predictions:
        """Predict one run in every series.

        Args:
            params: parameter counts of the run, in the order of the columns `params` of the forecast. Empty: not given.
            tokens: training tokens of the run. None: not given.
            flops: training budget, FLOPs. Without size and tokens it is split as the Chinchilla law of the series finds
                best. None: not given.
            x: the loss that a series starts from, where the forecast has one. None: not given.
            only: parts of names: only series with one of them in their name are predicted. Empty: all series.

        Raises:
            ArgumentError: an argument that a series needs is missing, an argument is of no use to it, or no series has
                such a name.
        """
        sizes: tuple[Any, ...] = (
            tuple(params) if isinstance(params, Iterable) and not isinstance(params, str) else (params,)
        )
        predictions: list[Prediction] = []
        for name in self._chosen(only):
            rows = rows_of_target(self.forecast, name, params=sizes, tokens=tokens, flops=flops, x=x)
            predictions += [_with_size(prediction, rows) for prediction in self.forecast.predict(name, rows)]
        return Predictions(self.forecast, tuple(predictions), self.notes)

    def _chosen(self, only: Sequence[str]) -> list[str]:
        """Return the names of the series with a part of `only` in their name; all where it is empty."""
        names = [series.name for series in self.forecast.series]
        parts = as_names(only)
        chosen = [name for name in names if not parts or any(part in name for part in parts)]
        if not chosen:
            parts_given, names_known = " or ".join(parts), _shortened(names)
            raise ArgumentError(
                "{only}: no series has {parts} in its name; there are {names}", parts=parts_given, names=names_known
            )
        return chosen


def forecast(
    table: pd.DataFrame,
    losses: str | Iterable[str],
    *,
    level: float = INTERVAL_LEVEL,
    merge_copies: bool = False,
    **columns: Any,
) -> TableForecast:
    """Fit predictors to every series of a table, weight them by backtests and calibrate their intervals.

    Args:
        table: a wide table, or a long table that lossline wrote.
        losses: the losses to predict: columns, or evaluation sets of a long table.
        level: level of the intervals.
        merge_copies: True: count a run of one group that has two names once.
        columns: the other fields of `Columns`: `params`, `tokens`, `x`, `by`, `across`, `flops`, `unit`, `cluster`.

    Raises:
        LosslineError: a column is missing, or there is no series that a predictor can be fitted to.
    """
    table_series = series_of_table(table, _columns(losses, columns), merge_copies, budgets_optional=True)
    fitted = forecast_series(table_series.series, level)
    return TableForecast(fitted, (*table_series.notes, *fitted.left_out))


def backtest(
    table: pd.DataFrame,
    losses: str | Iterable[str],
    *,
    up_to: float | None = None,
    level: float = INTERVAL_LEVEL,
    merge_copies: bool = False,
    **columns: Any,
) -> Backtest:
    """Fit on the runs of a table with budgets up to `up_to`, and predict its largest budget.

    Args:
        table: as for `forecast`.
        losses: as for `forecast`.
        up_to: largest training budget that is fitted, FLOPs. None: all levels of budget but the largest.
        level: as for `forecast`.
        merge_copies: as for `forecast`.
        columns: as for `forecast`.

    Raises:
        LosslineError: as for `forecast`, or no run lies on one side of `up_to`.
    """
    table_series = series_of_table(table, _columns(losses, columns), merge_copies)
    return backtest_series(table_series.series, up_to, level=level, notes=table_series.notes)


def _columns(losses: str | Iterable[str], columns: dict[str, Any]) -> Columns:
    """Return the columns of a call. A single name is allowed for a field that takes several."""
    known = [field.name for field in dataclasses.fields(Columns)][1:]
    for name in columns:
        if name not in known:
            raise LosslineError(
                f"{name} is not an argument of a forecast{suggestion(name, known)} ({', '.join(known)})"
            )
    fields: dict[str, Any] = dict(columns)
    fields.update({name: as_names(columns[name]) for name in ("params", "by") if name in columns})
    return Columns(as_names(losses), **fields)


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - NUM_NAMES_SHOWN
    return "; ".join(names[:NUM_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _with_size(prediction: Prediction, rows: RunPoints) -> Prediction:
    """Add the size and the tokens of the run to the note, unless it is predicted from another loss."""
    if rows.x is not None:
        return prediction
    size = f"N {float(next(iter(rows.sizes.values()))[0]):.4g}, D {float(rows.tokens[0]):.4g}"
    return dataclasses.replace(prediction, note="; ".join(part for part in (size, prediction.note) if part))
