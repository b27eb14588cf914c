"""AutoScale: the best quantities of each domain at a scale, and how they grow with it."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from lossline_jax.errors import LosslineError


def optimal_quantities(a: Sequence[float], b: Sequence[float], total: float, least: float = 0.2) -> np.ndarray:
    """(m,) quantities x >= least of m domains that minimise sum_i (x_i + a_i)^-b_i under sum_i x_i = total.

    The sum is convex, so its minimum is where every domain above `least` has the same slope
    b_i (x_i + a_i)^(-b_i - 1); that slope is found by bisection. The authors descend by gradients
    (arXiv 2407.20177, `least` 0.2 in their code).

    Args:
        a, b: of the domain curves; c does not matter.
        total: in the unit of x, the number of domains for the base's own total.

    Raises:
        LosslineError: the total is too small for `least` of each.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    spare = total - least * a.size
    if spare < 0:
        raise LosslineError(f"{a.size} domains of {least} or more need a total of {least * a.size:g}, not {total:g}")

    def quantities(log_slope):
        return np.maximum(np.exp((np.log(b) - log_slope) / (b + 1)) - a, least)

    # at the first slope every domain is at its least; at the last, one alone is past the total
    at_least = np.log(b) - (b + 1) * np.log(least + a)
    highest, lowest = at_least.max(), (np.log(b) - (b + 1) * np.log(total + a)).min()
    if spare == 0:
        return np.full(a.size, least)
    return quantities(optimize.brentq(lambda s: quantities(s).sum() - total, lowest, highest, xtol=1e-14))


def predict_quantities(first, second, steps: int = 1) -> np.ndarray:
    """N^(3) = N^(2) N^(2) / N^(1), elementwise, `steps` times: each domain grows at its own constant rate."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    return second * (second / first) ** steps


def interpolate_quantities(first, second) -> np.ndarray:
    """sqrt(N^(1) N^(2)), elementwise: the scale half way between two, in logarithms."""
    return np.sqrt(np.asarray(first, float) * np.asarray(second, float))


def mixture_weights(quantities) -> np.ndarray:
    """Quantities -> sampling weights that add up to 1."""
    quantities = np.asarray(quantities, float)
    return quantities / quantities.sum()
