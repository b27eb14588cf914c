"""Kinds of parameters that many laws share: an irreducible value, a positive amount, a positive exponent."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lossline_jax.fit.law import Parameter, Values, float64


def irreducible(name: str, output: str) -> Parameter:
    """Declare the value that infinite resources leave over. It is additive, not negative, and bounded by the data.

    Args:
        name: the name of the parameter.
        output: the name of the law's output, whose unit the parameter has.
    """
    return Parameter(name, f"unit of {output}", 0.0, np.inf, linear=True, below=output)


def amount(
    name: str,
    unit: str,
    scale: Callable[[Values, Values], Any] | None = None,
    *,
    linear: bool = True,
    lower: float = 1e-9,
    upper: float = 1e6,
    start: tuple[float, float] = (1e-3, 10.0),
) -> Parameter:
    """Declare a positive coefficient. The default range is for inputs divided by their geometric mean.

    Args:
        name: the name of the parameter.
        unit: its unit, as text.
        scale: see `Parameter.scale`. None: normalisation does not change the value.
        linear: the law is affine in the parameter.
        lower: the lower bound of the search.
        upper: the upper bound of the search.
        start: the range of the starts of the search.
    """
    return Parameter(name, unit, lower, upper, start=start, linear=linear, log=True, scale=scale)


def exponent(
    name: str, lower: float = 0.01, upper: float = 3.0, start: tuple[float, float] = (0.1, 1.2), *, unit: str = "1"
) -> Parameter:
    """Declare a positive exponent, or another positive number that no normalisation changes.

    Args:
        name: the name of the parameter.
        lower: the lower bound of the search.
        upper: the upper bound of the search.
        start: the range of the starts of the search.
        unit: its unit, as text; "1" for a pure number.
    """
    return Parameter(name, unit, lower, upper, start=start, log=True)


def signed_number(
    name: str, limit: float = 5.0, start: tuple[float, float] = (-1.0, 1.0), unit: str = "1"
) -> Parameter:
    """Declare an exponent, or another number that no normalisation changes, of either sign.

    Args:
        name: the name of the parameter.
        limit: the largest absolute value of the search.
        start: the range of the starts of the search.
        unit: its unit, as text; "1" for a pure number.
    """
    return Parameter(name, unit, -limit, limit, start=start)


def in_float64(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Make a function compute in float64 on numbers and numpy arrays, whatever jax's default precision.

    The result is a numpy array, so the function cannot be traced by jax.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> np.ndarray:
        with float64():
            return np.asarray(function(*arguments), np.float64)

    return wrapped
