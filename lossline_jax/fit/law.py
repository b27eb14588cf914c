"""A law is declared here: named parameters with units and bounds, one function, its objective and its source.

The objective is a sum over points of r^2 / 2 or of Huber(r), never a mean.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.errors import LosslineError


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Arrays of 64 bits and numpy's broadcasting, whatever the process around has chosen."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@dataclass(frozen=True)
class Objective:
    """Residuals are y - f, or ln(y - offset) - ln(f - offset) where `logarithmic`.

    The offset is the value of the parameter of that name (None: 0). Huber is r^2 / 2 up to `delta` and
    delta (|r| - delta / 2) beyond; None: least squares.
    """

    name: str
    logarithmic: bool = False
    delta: float | None = None
    offset: str | None = None


LEAST_SQUARES = Objective("least squares")
LOG_LEAST_SQUARES = Objective("log least squares", logarithmic=True)
LOG_LOG_LEAST_SQUARES = Objective("log-log least squares", logarithmic=True, offset="E_y")
LOG_HUBER = Objective("log Huber", logarithmic=True, delta=1e-3)
HUBER = Objective("Huber, delta 0.01", delta=0.01)

OBJECTIVES = {
    objective.name: objective
    for objective in (LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES, LOG_HUBER, HUBER)
}

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a law.

    `lower`, `upper` and `start` are in normalised units where the parameter has a `scale` (inputs divided by
    their geometric mean), else in the units of the data.
    """

    name: str
    unit: str
    lower: float
    upper: float
    start: tuple[float, float] | None = None  # range of the multi-start; None: the bounds
    linear: bool = False  # the law is affine in all its linear parameters together
    log: bool = False  # searched as its logarithm; `lower` is then positive
    # Upper bound from the data: the smallest value of this input; or, where it names the output, the largest
    # (an irreducible loss may lie above the smallest loss of noisy data), starts staying below the smallest.
    below: str | None = None
    # (parameters, scales of the inputs) -> the factor that the value takes on when inputs are divided by the
    # scales; may use parameters without a scale of their own alone. None: normalisation leaves the value as it is.
    scale: Callable[[Values, Values], Any] | None = None


@dataclass(frozen=True, eq=False)
class Law:
    """A curve that can be fitted.

    `function(parameters, inputs)` is elementwise and broadcasts, in jax.numpy: the solver calls it with
    parameters of shape (B,) and inputs of shape (n, B). Write powers with `power`. Calling the law itself
    evaluates it in float64 on whatever broadcasts.
    """

    name: str
    formula: str
    inputs: Mapping[str, str]  # name -> what it counts, with the unit
    output: str
    parameters: tuple[Parameter, ...]
    function: Callable[[Values, Values], Any]
    source: str
    note: str = ""  # what the literature leaves open, and traps
    objective: Objective = LEAST_SQUARES  # what its authors minimise
    normalise: tuple[str, ...] = ()  # positive inputs that are divided by their geometric mean for the fit
    defined: Callable[[Values, Values], Any] | None = None  # mask of where it has a value; None: everywhere
    falls: tuple[str, ...] = ()  # positive inputs in which the law can only fall, whatever its parameters
    rises: tuple[str, ...] = ()  # positive inputs in which it can only rise
    ranges: Mapping[str, str] = field(default_factory=dict)  # of inputs in the unit of the law: "[0, 1)", "(0, inf)"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def scaled(self) -> tuple[str, ...]:
        """Parameters whose value depends on the normalisation: these cannot be held fixed."""
        return tuple(p.name for p in self.parameters if p.scale is not None)

    def named(self, values: Any = None, /, **inputs: Any) -> dict[str, np.ndarray]:
        """Return the inputs as float64 arrays by name.

        Args:
            values: the values of a law's only input, or all inputs in one mapping or table.
            inputs: numbers or arrays, one for each input of the law.

        Raises:
            LosslineError: an input is missing, unknown or no number, or the law has several inputs and `values` does
                not name them.
        """
        names = list(self.inputs)
        if unknown := [name for name in inputs if name not in self.inputs]:
            raise LosslineError(f"{self.name}: has no input {unknown[0]!r}; its inputs are {', '.join(names)}")
        if values is not None:
            if inputs:
                raise LosslineError(f"{self.name}: give the inputs by name or in one value, not both")
            inputs = values
        if not (isinstance(inputs, Mapping) or hasattr(inputs, "columns")):
            if len(names) > 1:
                example = ", ".join(f"{name!r}: ..." for name in names)
                raise LosslineError(f"{self.name}: has several inputs; give each by its name, {{{example}}}")
            inputs = {names[0]: inputs}
        if missing := [name for name in names if name not in inputs]:
            raise LosslineError(f"{self.name}: predict needs {missing}")
        values = {name: self._numbers(name, inputs[name]) for name in names}
        try:
            np.broadcast_shapes(*(value.shape for value in values.values()))
        except ValueError:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in values.items())
            raise LosslineError(f"{self.name}: inputs of these shapes do not go together: {shapes}") from None
        return values

    def _numbers(self, name: str, value: Any) -> np.ndarray:
        try:
            return np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise LosslineError(f"{self.name}: {name} takes a number or an array of numbers, not {value!r}") from None

    def __call__(self, parameters: Values, inputs: Values) -> np.ndarray:
        """The curve in float64, on the inputs as they are. NaN where it has no value."""
        with float64():
            parameters = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
            inputs = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
            return np.asarray(self.function(parameters, inputs), np.float64)

    def rescale(self, parameters: Mapping[str, float], scales: Mapping[str, float]) -> dict[str, float]:
        """Parameters fitted on inputs divided by `scales` -> the same curve's on the inputs as they are."""
        return {p.name: parameters[p.name] * (p.scale(parameters, scales) if p.scale else 1.0) for p in self.parameters}


def in_range(span: str, values: np.ndarray) -> np.ndarray:
    """Mask of the values within a range such as "[0, 1)"."""
    low, high = (float(end) for end in span[1:-1].split(","))
    above = values >= low if span[0] == "[" else values > low
    return above & (values <= high if span[-1] == "]" else values < high)


def power(base, exponent):
    """base ** exponent for a positive base, as exp(exponent ln base): three times as fast on CPU as jnp.power."""
    return jnp.exp(exponent * jnp.log(base))
