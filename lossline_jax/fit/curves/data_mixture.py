"""AutoScale: the best quantity of each domain at one scale, and the growth of the quantities with the scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossline_jax.errors import LosslineError


def optimal_quantities(a: Sequence[float], b: Sequence[float], total: float, least: float = 0.2) -> np.ndarray:
    """Return the (m,) quantities x >= least that minimise sum_i (x_i + a_i)^-b_i under sum_i x_i = total.

    The sum is convex. At its minimum, all domains above `least` have the same slope b_i (x_i + a_i)^(-b_i - 1). This
    slope is found by bisection. The authors descend by gradients (arXiv 2407.20177).

    Args:
        a: (m,) the shift a of each domain curve. The offset c of the curves does not matter.
        b: (m,) the exponent b of each domain curve.
        total: the sum of the quantities, in the unit of x. The total of the base is the number of domains.
        least: the smallest quantity of a domain, in the unit of x. The default 0.2 is from the authors' code.

    Raises:
        LosslineError: the total is too small for `least` of each domain.
    """
    shift, exponent = np.asarray(a, float), np.asarray(b, float)
    num_domains = shift.size
    spare = total - least * num_domains
    if spare < 0:
        raise LosslineError(
            f"{num_domains} domains of {least} or more need a total of {least * num_domains:g}, not {total:g}"
        )
    if spare == 0:
        return np.full(num_domains, least)

    def log_slope_at(quantity: float) -> np.ndarray:
        return np.log(exponent) - (exponent + 1) * np.log(quantity + shift)

    def quantities(log_slope: Any) -> np.ndarray:
        return np.maximum(np.exp((np.log(exponent) - log_slope) / (exponent + 1)) - shift, least)

    # At the highest slope every domain has its least quantity. At the lowest, one domain alone has the whole total.
    lowest, highest = log_slope_at(total).min(), log_slope_at(least).max()
    import scipy.optimize  # takes half a second, and most commands do not need it

    return quantities(scipy.optimize.brentq(lambda s: quantities(s).sum() - total, lowest, highest, xtol=1e-14))


def predict_quantities(first: Any, second: Any, steps: int = 1) -> np.ndarray:
    """Return N^(3) = N^(2) N^(2) / N^(1), elementwise, `steps` times: each domain grows at a constant rate.

    Args:
        first: (m,) quantities N^(1) at the smaller scale.
        second: (m,) quantities N^(2) at the larger scale.
        steps: the number of steps beyond the larger scale.
    """
    smaller, larger = np.asarray(first, float), np.asarray(second, float)
    return larger * (larger / smaller) ** steps


def interpolate_quantities(first: Any, second: Any) -> np.ndarray:
    """Return sqrt(N^(1) N^(2)), elementwise: the quantities half way between two scales, in logarithms.

    Args:
        first: (m,) quantities N^(1) at one scale.
        second: (m,) quantities N^(2) at the other scale.
    """
    return np.sqrt(np.asarray(first, float) * np.asarray(second, float))


def mixture_weights(quantities: Any) -> np.ndarray:
    """Return sampling weights that add up to 1, in proportion to the quantities."""
    amounts = np.asarray(quantities, float)
    return amounts / amounts.sum()
