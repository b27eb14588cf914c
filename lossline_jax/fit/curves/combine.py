"""Combine two fitted curves: find the points where they cross, or chain one law after the other."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.result import FitResult

Curve = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Crossing:
    """A point that two curves have in common, where their order changes."""

    x: float  # the value of the input that was varied
    y: float  # the value of both curves
    lower_after: Literal["first", "second"]  # the curve with the lower value at larger x


def find_crossings(
    first: Curve | FitResult,
    second: Curve | FitResult,
    over: Mapping[str, tuple[float, float]],
    at: Mapping[str, float] | None = None,
    *,
    num_grid: int = 400,
) -> tuple[Crossing, ...]:
    """Return all crossings that change the sign of first - second, in increasing order of the input.

    Signs are compared on a grid that is even in the logarithm of the input. Each change is refined to float64. Two
    crossings between neighbouring grid points are not found, nor are curves that touch without crossing.

    An example is the distillation boundary of arXiv 2504.13219. Beyond this boundary, the error with a teacher is
    larger than the error without one.

        boundary = find_crossings(distilled_fit, supervised_fit, over={"D_p": (1e3, 1e7)}, at={"N": 5e6, "D_f": 1e4})

    In this example, `lower_after` "second" means that the teacher no longer helps beyond `x` pretraining samples.

    Args:
        first: the fit of a declared law, or a function of a dict of inputs. For a law that is not in LAWS, give
            `lambda inputs: fit.predict(inputs, law=law)`.
        second: the other curve, in the same form.
        over: the one input that varies, with its positive range.
        at: the values of the other inputs, the same for both curves. None: there are no other inputs.
        num_grid: the number of grid points.

    Raises:
        LosslineError: `over` is not one input with a positive increasing range.
    """
    if len(over) != 1:
        raise LosslineError(f"find_crossings varies one input, not {sorted(over)}; give the other inputs in `at`")
    ((name, (low, high)),) = over.items()
    if not 0 < low < high < np.inf:
        raise LosslineError(f"the range of {name} must be positive and increasing, not {low:g} to {high:g}")

    def value(curve: Curve | FitResult, log_x: np.ndarray) -> np.ndarray:
        inputs = {key: np.full(log_x.shape, v, float) for key, v in (at or {}).items()} | {name: np.exp(log_x)}
        values = curve.predict(inputs) if isinstance(curve, FitResult) else curve(inputs)
        return np.broadcast_to(np.asarray(values, float), log_x.shape)

    def difference(log_x: np.ndarray) -> np.ndarray:
        return value(first, log_x) - value(second, log_x)

    import scipy.optimize  # takes half a second, and most commands do not need it

    grid = np.linspace(np.log(low), np.log(high), num_grid)
    gaps = difference(grid)
    signed = np.flatnonzero(np.isfinite(gaps) & (gaps != 0))  # a zero on the grid lies between its neighbours
    crossings = []
    for left, right in itertools.pairwise(signed):
        if np.sign(gaps[left]) == np.sign(gaps[right]) or not np.all(np.isfinite(gaps[left : right + 1])):
            continue
        log_x = np.array(
            [scipy.optimize.brentq(lambda x: difference(np.array([x]))[0], grid[left], grid[right], xtol=1e-14)], float
        )
        lower = "first" if gaps[right] < 0 else "second"
        crossings.append(Crossing(float(np.exp(log_x[0])), float(value(first, log_x)[0]), lower))
    return tuple(crossings)


def compose(
    first: FitResult, second: FitResult, *, first_law: Law | None = None, second_law: Law | None = None
) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """Return a function of the first law's inputs that gives the second law's output.

    OLMo's model ladders are such a chain: L(N, D), then accuracy from loss. The only input of the second law must be
    the output of the first law. Both losses must be of the same text and in the same unit.

    Args:
        first: the fit that is evaluated first.
        second: the fit that is evaluated on the output of the first.
        first_law: needed for a law that is not in LAWS. None: the declared law of that name.
        second_law: needed for a law that is not in LAWS. None: the declared law of that name.

    Raises:
        LosslineError: the second law has more than one input.
    """
    inputs = tuple(find_law(second.law, second_law).inputs)
    if len(inputs) != 1:
        raise LosslineError(f"{second.law} has the inputs {list(inputs)}; a chain needs a law of one")
    return lambda values: second.predict(first.predict(values, law=first_law), law=second_law)
