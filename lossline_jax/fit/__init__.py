"""Scaling laws fitted to tables of losses: laws, one solver, uncertainty, predictions. Needs jax, numpy, scipy, pandas.

    from lossline_jax import fit

    law = fit.solve(fit.LAWS["chinchilla"], {"N": params, "D": tokens}, loss)     # parameters, intervals, status
    line = fit.fit_shifted_power(x_loss, y_loss, e_x=law)                         # loss to loss
    found = fit.backtest(fit.series_of_table(frame, fit.Columns(("val_loss",), ("params",), "tokens")).series)

docs/fitting.md walks through all of it on a published table.
"""

from lossline_jax.fit.curves.combine import find_crossings
from lossline_jax.fit.curves.compute_law import Allocation, chinchilla_allocation, fit_compute_law, kaplan_allocation
from lossline_jax.fit.curves.line import fit_shifted_power, predict_transfer, translate
from lossline_jax.fit.law import (
    LEAST_SQUARES,
    LOG_HUBER,
    LOG_LEAST_SQUARES,
    LOG_LOG_LEAST_SQUARES,
    Law,
    Loss,
    Parameter,
    power,
)
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.predict.backtest import Backtest, backtest
from lossline_jax.fit.predict.few_runs import PairedRuns, predict_from_few_runs
from lossline_jax.fit.predict.forecast import Forecast, Prediction, forecast
from lossline_jax.fit.predict.series import Rows, Series
from lossline_jax.fit.predict.table_series import Columns, series_of_table
from lossline_jax.fit.resampling import Bootstrap, bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import Points, solve, solve_many
from lossline_jax.fit.study.table_laws import fit_law_table
from lossline_jax.fit.study.table_lines import fit_table
from lossline_jax.fit.tables.pairing import best_by_compute, pair_by_columns

__all__ = [
    "LAWS",
    "LEAST_SQUARES",
    "LOG_HUBER",
    "LOG_LEAST_SQUARES",
    "LOG_LOG_LEAST_SQUARES",
    "Allocation",
    "Backtest",
    "Bootstrap",
    "Columns",
    "FitResult",
    "Forecast",
    "Law",
    "Loss",
    "PairedRuns",
    "Parameter",
    "Points",
    "Prediction",
    "Rows",
    "Series",
    "backtest",
    "best_by_compute",
    "bootstrap",
    "chinchilla_allocation",
    "find_crossings",
    "fit_compute_law",
    "fit_law_table",
    "fit_shifted_power",
    "fit_table",
    "forecast",
    "kaplan_allocation",
    "pair_by_columns",
    "power",
    "predict_from_few_runs",
    "predict_transfer",
    "series_of_table",
    "solve",
    "solve_many",
    "translate",
]
