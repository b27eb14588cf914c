"""Scaling laws fitted to tables of losses: laws, one solver, uncertainty, predictions. Needs jax, numpy, scipy, pandas.

    from lossline_jax import fit

    law = fit.solve(fit.LAWS["chinchilla"], {"N": params, "D": tokens}, loss)     # parameters, intervals, status
    line = fit.fit_shifted_power(x_loss, y_loss, e_x=law)                         # loss to loss
    found = fit.backtest(fit.series_of_table(frame, fit.Columns(("val_loss",), ("params",), "tokens")).series)

docs/fitting.md walks through all of it on a published table.
"""

from lossline_jax.fit.allocation import Allocation, chinchilla_allocation, kaplan_allocation
from lossline_jax.fit.backtest import Backtest, backtest
from lossline_jax.fit.compute import fit_compute_law
from lossline_jax.fit.crossings import find_crossings
from lossline_jax.fit.curves import Law, Parameter, power
from lossline_jax.fit.few_runs import PairedRuns, predict_from_few_runs
from lossline_jax.fit.forecast import Forecast, Prediction, forecast
from lossline_jax.fit.law_fits import fit_law_table
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.objective import LEAST_SQUARES, LOG_HUBER, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES, Loss
from lossline_jax.fit.pairing import best_by_compute, pair_by_columns
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.series import Rows, Series
from lossline_jax.fit.solve import Points, solve, solve_many
from lossline_jax.fit.table_fits import fit_table
from lossline_jax.fit.table_series import Columns, series_of_table
from lossline_jax.fit.transfer import fit_shifted_power, predict_transfer, translate
from lossline_jax.fit.uncertainty import Bootstrap, bootstrap

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
