"""Parameters that many laws share: an irreducible value, a positive amount, a positive exponent."""

import functools
from collections.abc import Callable

import numpy as np

from lossline_jax.fit.law import Parameter, Values, float64


def irreducible(name: str, output: str) -> Parameter:
    """What is left with infinite resources: additive, not negative, bounded by the data."""
    return Parameter(name, f"unit of {output}", 0.0, np.inf, linear=True, below=output)


def amount(
    name: str,
    unit: str,
    scale: Callable[[Values, Values], float] | None = None,
    *,
    linear: bool = True,
    lower: float = 1e-9,
    upper: float = 1e6,
    start: tuple[float, float] = (1e-3, 10.0),
) -> Parameter:
    """A positive coefficient; the default range is for inputs divided by their geometric mean."""
    return Parameter(name, unit, lower, upper, start=start, linear=linear, log=True, scale=scale)


def exponent(
    name: str, lower: float = 0.01, upper: float = 3.0, start: tuple[float, float] = (0.1, 1.2), unit: str = "1"
) -> Parameter:
    """A positive exponent, or another positive number of no unit."""
    return Parameter(name, unit, lower, upper, start=start, log=True)


def signed_number(
    name: str, limit: float = 5.0, start: tuple[float, float] = (-1.0, 1.0), unit: str = "1"
) -> Parameter:
    """An exponent, or another number of no unit, of either sign."""
    return Parameter(name, unit, -limit, limit, start=start)


def in_float64(function: Callable) -> Callable[..., np.ndarray]:
    """The same in float64 on numbers and numpy arrays, whatever jax's default precision. Not for tracing."""

    @functools.wraps(function)
    def wrapped(*arguments):
        with float64():
            return np.asarray(function(*arguments), np.float64)

    return wrapped
