"""Show plans, statuses, fits and predictions as text, for a terminal and a notebook.

`show` prints the text and returns nothing. `as_text` returns the text. The formatters of fits are imported when the
first fit is shown, because they need jax. Read this file first; each of the other files formats one kind of value.
"""

import functools

from lossline_jax import logs
from lossline_jax.plan.plan import MeshPlan, StudyPlan
from lossline_jax.status.study import StudyStatus
from lossline_jax.summary.mesh_plan import mesh_plan_text
from lossline_jax.summary.plan import plan_text
from lossline_jax.summary.status import status_text


def show(value: object) -> None:
    """Print a plan, a status, fits, comparisons, predictions, a backtest, a fit, fits of a law, a law or the laws.

    Args:
        value: the value to print.

    Raises:
        TypeError: there is no text for a value of this type.
    """
    logs.result(as_text(value))


@functools.singledispatch
def as_text(value: object) -> str:
    """Return the text that `show` prints.

    Args:
        value: the value to format.

    Raises:
        TypeError: there is no text for a value of this type.
    """
    _register_fits()  # the type may be one of `fit`, whose formatters are not registered yet
    formatter = as_text.dispatch(type(value))
    if formatter is as_text.dispatch(object):
        raise TypeError(
            f"show: there is no text for a {type(value).__name__}; show a plan, a status, fits, comparisons, "
            "predictions, a backtest or a law"
        )
    return formatter(value)


as_text.register(StudyPlan, plan_text)
as_text.register(MeshPlan, mesh_plan_text)
as_text.register(StudyStatus, status_text)


def _register_fits() -> None:
    """Register the formatters of the results of `fit`, which needs jax."""
    from lossline_jax.fit.compare.comparison import FactorComparison
    from lossline_jax.fit.law import Law
    from lossline_jax.fit.predict.backtest import Backtest
    from lossline_jax.fit.predict.forecast import Predictions
    from lossline_jax.fit.predict.table_forecast import TableForecast
    from lossline_jax.fit.result import FitResult
    from lossline_jax.fit.study.results import Comparisons, StudyFits
    from lossline_jax.fit.study.table_laws import LawFits
    from lossline_jax.summary import comparisons, fits, forecasts, laws

    as_text.register(StudyFits, fits.fits_text)
    as_text.register(Comparisons, comparisons.comparisons_text)
    as_text.register(FactorComparison, comparisons.comparison_text)
    as_text.register(Predictions, forecasts.predictions_text)
    as_text.register(TableForecast, forecasts.forecast_text)
    as_text.register(Backtest, forecasts.backtest_text)
    as_text.register(LawFits, laws.law_fits_text)
    as_text.register(FitResult, laws.fit_text)
    as_text.register(Law, laws.law_text)
    as_text.register(dict, laws.laws_text)
