"""Fit scaling laws to tables of losses: the laws, one solver, uncertainty and predictions.

The package needs jax, numpy, scipy and pandas. Read `law.py` first, then `solve.py` and `result.py`.

    from lossline_jax import fit

    law = fit.fit_law("chinchilla", losses.val_loss, N=losses.params, D=losses.tokens)     # parameters, status
    line = fit.fit_line(losses.val_loss, losses.task_loss, e_x=law)                        # loss to loss
    fits = fit.compare_lines(losses, "val_loss", "task_loss", factors=["data"])            # which factor moves it?
    future = fit.forecast(losses, "val_loss", params="params", tokens="tokens").predict(flops=1e21)

docs/fitting.md shows every step on a published table. Each name is loaded when it is first used.
"""

from etils import epy as _epy

with _epy.lazy_api_imports(globals()):
    from lossline_jax.fit.budgets import budgets_of
    from lossline_jax.fit.curves.combine import compose, find_crossings
    from lossline_jax.fit.curves.compute_law import (
        Allocation,
        chinchilla_allocation,
        fit_compute_law,
        kaplan_allocation,
    )
    from lossline_jax.fit.curves.data_mixture import (
        interpolate_quantities,
        mixture_weights,
        optimal_quantities,
        predict_quantities,
    )
    from lossline_jax.fit.curves.line import fit_line, predict_transfer, translate
    from lossline_jax.fit.data_set import DataSet
    from lossline_jax.fit.group_intervals import intervals_by_budget
    from lossline_jax.fit.law import (
        LEAST_SQUARES,
        LOG_HUBER,
        LOG_LEAST_SQUARES,
        LOG_LOG_LEAST_SQUARES,
        Law,
        Objective,
        Parameter,
        power,
    )
    from lossline_jax.fit.laws import LAWS
    from lossline_jax.fit.predict.backtest import Backtest, backtest_series
    from lossline_jax.fit.predict.few_runs import PairedRuns, predict_from_few_runs
    from lossline_jax.fit.predict.forecast import Forecast, Prediction, Predictions, forecast_series
    from lossline_jax.fit.predict.series import LossSeries, RunPoints
    from lossline_jax.fit.predict.table_forecast import TableForecast, backtest, forecast
    from lossline_jax.fit.predict.table_series import Columns, series_of_table
    from lossline_jax.fit.resampling import Bootstrap, bootstrap
    from lossline_jax.fit.result import FitResult
    from lossline_jax.fit.shared_fit import fit_law_sharing
    from lossline_jax.fit.skills.fit import SkillFit, fit_skills, flops_feature, leave_family_out, skill_features
    from lossline_jax.fit.solve import fit_law, fit_law_many
    from lossline_jax.fit.speedup.compare_compute import CurveOptions, compare_compute
    from lossline_jax.fit.speedup.read_compute import ComputeColumns
    from lossline_jax.fit.speedup.speedups import ComputeComparison
    from lossline_jax.fit.study.fit_study import Statistics, compare_lines, fit_study
    from lossline_jax.fit.study.law_request import LawOptions
    from lossline_jax.fit.study.results import StudyFits
    from lossline_jax.fit.study.table_laws import fit_laws
    from lossline_jax.fit.study.table_lines import LineOptions, fit_lines
    from lossline_jax.fit.tables.pairing import best_by_compute, pair_runs

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
    "ComputeColumns",
    "ComputeComparison",
    "CurveOptions",
    "DataSet",
    "FitResult",
    "Forecast",
    "Law",
    "LawOptions",
    "LineOptions",
    "LossSeries",
    "Objective",
    "PairedRuns",
    "Parameter",
    "Prediction",
    "Predictions",
    "RunPoints",
    "SkillFit",
    "Statistics",
    "StudyFits",
    "TableForecast",
    "backtest",
    "backtest_series",
    "best_by_compute",
    "bootstrap",
    "budgets_of",
    "chinchilla_allocation",
    "compare_compute",
    "compare_lines",
    "compose",
    "find_crossings",
    "fit_compute_law",
    "fit_law",
    "fit_law_many",
    "fit_law_sharing",
    "fit_laws",
    "fit_line",
    "fit_lines",
    "fit_skills",
    "fit_study",
    "flops_feature",
    "forecast",
    "forecast_series",
    "interpolate_quantities",
    "intervals_by_budget",
    "kaplan_allocation",
    "leave_family_out",
    "mixture_weights",
    "optimal_quantities",
    "pair_runs",
    "power",
    "predict_from_few_runs",
    "predict_quantities",
    "predict_transfer",
    "series_of_table",
    "skill_features",
    "translate",
]
