"""Combine two fitted curves: one law after another, and the points where two of them cross."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import optimize

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.result import FitResult

Curve = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Crossing:
    """One point at which two curves have the same value."""

    x: float  # the input that was varied
    y: float  # the value of both curves
    lower_after: Literal["first", "second"]  # the curve with the lower value at larger x


def find_crossings(
    first: Curve | FitResult,
    second: Curve | FitResult,
    over: Mapping[str, tuple[float, float]],
    at: Mapping[str, float] | None = None,
    num_grid: int = 400,
) -> tuple[Crossing, ...]:
    """Every crossing that changes the sign of first - second, in increasing order of the input.

    Signs are compared on a grid even in the logarithm of the input, each change is refined to float64. Two
    crossings between neighbouring grid points, and curves that touch without crossing, are not seen.

    Where distillation stops paying (the distillation boundary of arXiv 2504.13219) is where the error with a
    teacher overtakes the error without one:

        boundary = find_crossings(distilled_fit, supervised_fit, over={"D_p": (1e3, 1e7)}, at={"N": 5e6, "D_f": 1e4})

    `lower_after` "second" there means that beyond `x` pretraining samples the teacher no longer helps.

    Args:
        first, second: fits of declared laws, or functions of a dict of inputs; for a law that is not in LAWS,
            `lambda inputs: fit.predict(inputs, law=law)`.
        over: the one input that varies, with its positive range.
        at: values of the other inputs, the same for both curves.

    Raises:
        LosslineError: `over` is not one input with a positive increasing range.
    """
    if len(over) != 1:
        raise LosslineError(f"find_crossings varies one input, not {sorted(over)}; give the others in `at`")
    ((name, (low, high)),) = over.items()
    if not 0 < low < high < np.inf:
        raise LosslineError(f"the range of {name} must be positive and increasing, not {low:g} to {high:g}")

    def value(curve, log_x):
        log_x = np.atleast_1d(log_x)
        inputs = {key: np.full(log_x.shape, v, float) for key, v in (at or {}).items()} | {name: np.exp(log_x)}
        values = curve.predict(inputs) if isinstance(curve, FitResult) else curve(inputs)
        return np.broadcast_to(np.asarray(values, float), log_x.shape)

    def difference(log_x):
        return value(first, log_x) - value(second, log_x)

    grid = np.linspace(np.log(low), np.log(high), num_grid)
    gaps = difference(grid)
    seen = np.flatnonzero(np.isfinite(gaps) & (gaps != 0))  # a zero on the grid lies between its neighbours
    crossings = []
    for left, right in itertools.pairwise(seen):
        if np.sign(gaps[left]) == np.sign(gaps[right]) or not np.all(np.isfinite(gaps[left : right + 1])):
            continue
        root = optimize.brentq(lambda log_x: difference(log_x)[0], grid[left], grid[right], xtol=1e-14)
        lower = "first" if gaps[right] < 0 else "second"
        crossings.append(Crossing(float(np.exp(root)), float(value(first, root)[0]), lower))
    return tuple(crossings)


def compose(
    first: FitResult, second: FitResult, *, first_law: Law | None = None, second_law: Law | None = None
) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """Return a function of the first law's inputs that gives the second law's output.

    As in OLMo's model ladders: L(N, D), then accuracy from loss. The second law must have one input, the first
    law's output; both losses must be of the same text and unit.

    Args:
        first_law, second_law: needed for laws that are not in LAWS.

    Raises:
        LosslineError: the second law has more than one input.
    """
    inputs = tuple(find_law(second.law, second_law).inputs)
    if len(inputs) != 1:
        raise LosslineError(f"{second.law} has the inputs {list(inputs)}; a chain needs a law of one")
    return lambda values: second.predict(first.predict(values, law=first_law), law=second_law)
