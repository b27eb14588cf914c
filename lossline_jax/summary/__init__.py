"""Show plans, statuses, fits and predictions as text, for a terminal and a notebook.

`show` prints the text and returns nothing. `as_text` returns the text. The formatters of fits are imported when the
first fit is shown, because they need jax. Read this file first; each of the other files formats one kind of value.
"""

import functools

from lossline_jax import logs
from lossline_jax.formatting import fold
from lossline_jax.plan.plan import MeshPlan, StudyPlan
from lossline_jax.status.leftovers import Leftovers
from lossline_jax.status.study import StudyStatus
from lossline_jax.summary.leftovers import leftovers_text
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


def as_text(value: object) -> str:
    """Return the text that `show` prints, in lines of at most `formatting.TABLE_WIDTH` columns.

    Args:
        value: the value to format.

    Raises:
        TypeError: there is no text for a value of this type.
    """
    return fold(_text_of(value))


@functools.singledispatch
def _text_of(value: object) -> str:
    _register_fits()  # the type may be one of `fit`, whose formatters are not registered yet
    formatter = _text_of.dispatch(type(value))
    if formatter is _text_of.dispatch(object):
        raise TypeError(
            f"show: there is no text for a {type(value).__name__}; show a plan, a status, fits, comparisons, "
            "predictions, a backtest or a law"
        )
    return formatter(value)


_text_of.register(StudyPlan, plan_text)
_text_of.register(MeshPlan, mesh_plan_text)
_text_of.register(StudyStatus, status_text)
_text_of.register(Leftovers, leftovers_text)


def _register_fits() -> None:
    """Register the formatters of the results of `fit`, which needs jax."""
    from lossline_jax.fit.compare.comparison import FactorComparison
    from lossline_jax.fit.law import Law
    from lossline_jax.fit.predict.backtest import Backtest
    from lossline_jax.fit.predict.forecast import Predictions
    from lossline_jax.fit.predict.table_forecast import TableForecast
    from lossline_jax.fit.result import FitResult
    from lossline_jax.fit.speedup.speedups import ComputeComparison
    from lossline_jax.fit.study.results import Comparisons, StudyFits
    from lossline_jax.fit.study.table_laws import LawFits
    from lossline_jax.summary import comparisons, fits, forecasts, laws, speedups

    _text_of.register(StudyFits, fits.fits_text)
    _text_of.register(Comparisons, comparisons.comparisons_text)
    _text_of.register(FactorComparison, comparisons.comparison_text)
    _text_of.register(ComputeComparison, speedups.speedups_text)
    _text_of.register(Predictions, forecasts.predictions_text)
    _text_of.register(TableForecast, forecasts.forecast_text)
    _text_of.register(Backtest, forecasts.backtest_text)
    _text_of.register(LawFits, laws.law_fits_text)
    _text_of.register(FitResult, laws.fit_text)
    _text_of.register(Law, laws.law_text)
    _text_of.register(dict, laws.laws_text)
