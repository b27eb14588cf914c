"""A law is a declaration: named parameters with units and bounds, one function, an objective and a source.

The objective is a sum over points of r^2 / 2 or of Huber(r), never a mean. The classes are in the order in which a
declaration uses them: `Objective`, `Parameter`, `Law`.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.errors import LosslineError

SMALLEST_CURVE = 64  # points; a shorter curve is padded to this, so that all short curves share a program
BITS_OF_FOURS = 12  # curves up to two to the power of this are padded to a power of 4. A choice: it costs little time


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Use 64-bit arrays and numpy's broadcasting inside the context, whatever the process has configured."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@dataclass(frozen=True)
class Objective:
    """An objective that a fit minimises: a sum over points of squares or of Huber's function.

    Residuals are y - f, or ln(y - offset) - ln(f - offset) if `logarithmic`. Huber's function is r^2 / 2 up to `delta`
    and delta (|r| - delta / 2) beyond.
    """

    name: str
    logarithmic: bool = False
    delta: float | None = None  # in the unit of the residual. None: least squares
    offset: str | None = None  # the parameter whose value is the offset. None: the offset is 0


LEAST_SQUARES = Objective("least squares")
LOG_LEAST_SQUARES = Objective("log least squares", logarithmic=True)
LOG_LOG_LEAST_SQUARES = Objective("log-log least squares", logarithmic=True, offset="E_y")
LOG_HUBER = Objective("log Huber", logarithmic=True, delta=1e-3)  # Hoffmann et al. 2022, approach 3
HUBER = Objective("Huber, delta 0.01", delta=0.01)  # Frantar et al. 2023 for ViT

OBJECTIVES = {
    objective.name: objective
    for objective in (LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES, LOG_HUBER, HUBER)
}

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a law.

    `lower`, `upper` and `start` are in the units of the data. If the parameter has a `scale`, they are in normalised
    units instead: the inputs are then divided by their geometric mean.
    """

    name: str
    unit: str
    lower: float
    upper: float
    start: tuple[float, float] | None = None  # range of the starts of the search. None: the bounds
    linear: bool = False  # the law is affine in all its linear parameters together
    log: bool = False  # the search uses the logarithm of the parameter; `lower` must be positive
    # The input or output that gives the upper bound. An input: its smallest value. The output: its largest value,
    # because an irreducible loss may lie above the smallest loss of noisy data; starts stay below the smallest value.
    # None: the bound is `upper`.
    below: str | None = None
    # (parameters, scales of the inputs) -> the value on raw inputs / the value on inputs divided by the scales.
    # The function may use only parameters that have no scale. None: normalisation does not change the value.
    scale: Callable[[Values, Values], Any] | None = None


@dataclass(frozen=True, eq=False)
class Law:
    """A curve that can be fitted.

    `function(parameters, inputs)` is written in jax.numpy, works elementwise and broadcasts. The solver calls it with
    parameters of shape (B,) and inputs of shape (n, B). Write powers with `power`. Calling the law itself evaluates
    the curve in float64 for all shapes that broadcast.
    """

    name: str
    formula: str
    inputs: Mapping[str, str]  # name -> what the input counts, with the unit
    output: str
    parameters: tuple[Parameter, ...]
    function: Callable[[Values, Values], Any]
    source: str
    note: str = ""  # open questions of the literature, and traps
    objective: Objective = LEAST_SQUARES  # the objective of the law's authors
    # Positive inputs that the fit divides by their geometric mean. Each parameter whose value depends on the unit of
    # such an input needs a `scale`. A fit refuses a law whose scales do not give the same curve on the raw inputs.
    normalise: tuple[str, ...] = ()
    defined: Callable[[Values, Values], Any] | None = None  # mask of the points with a value. None: all points
    falls: tuple[str, ...] = ()  # positive inputs in which the law can only fall, whatever its parameters
    rises: tuple[str, ...] = ()  # positive inputs in which the law can only rise
    ranges: Mapping[str, str] = field(default_factory=dict)  # input -> its range in the law's unit, such as "[0, 1)"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of their declaration."""
        return tuple(p.name for p in self.parameters)

    @property
    def predicts_losses(self) -> bool:
        """True if the output is a loss, which is a positive number."""
        return self.output == "L"

    @property
    def scaled(self) -> tuple[str, ...]:
        """Names of the parameters whose value depends on the normalisation. They cannot be held fixed."""
        return tuple(p.name for p in self.parameters if p.scale is not None)

    def named(self, values: Any = None, /, **inputs: Any) -> dict[str, np.ndarray]:
        """Return the inputs as float64 arrays by name.

        Args:
            values: the values of a law's only input, or all inputs in one mapping or table.
            inputs: numbers or arrays, one for each input of the law.

        Raises:
            LosslineError: an input is missing, unknown or not a number, or the law has several inputs and `values`
                does not name them.
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
        arrays = {name: self._numbers(name, inputs[name]) for name in names}
        try:
            np.broadcast_shapes(*(array.shape for array in arrays.values()))
        except ValueError:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise LosslineError(f"{self.name}: inputs of these shapes do not go together: {shapes}") from None
        return arrays

    def _numbers(self, name: str, value: Any) -> np.ndarray:
        try:
            return np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise LosslineError(f"{self.name}: {name} takes a number or an array of numbers, not {value!r}") from None

    def __call__(self, parameters: Values, inputs: Values) -> np.ndarray:
        """Evaluate the curve in float64 on inputs that are not normalised. The result is NaN where it has no value."""
        parameters = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
        inputs = {name: np.asarray(value, np.float64) for name, value in inputs.items()}
        shape = np.broadcast_shapes(*(array.shape for array in (*parameters.values(), *inputs.values())))
        size = math.prod(shape)
        padded = padded_curve(size)

        def pad(array: np.ndarray) -> np.ndarray:
            values = np.broadcast_to(array, shape).ravel()
            return np.concatenate([values, np.full(padded - size, values[0] if size else 1.0)])

        with float64():
            curve = _curve(
                self,
                padded,
                {name: pad(array) if array.ndim else array for name, array in parameters.items()},
                # A number alone is padded too, so that it runs in the program of a list and gives the same bits.
                {name: pad(array) for name, array in inputs.items()},
            )
        return np.asarray(curve)[:size].reshape(shape)

    def rescale(self, parameters: Mapping[str, float], scales: Mapping[str, float]) -> dict[str, float]:
        """Convert parameters fitted on inputs divided by `scales` to parameters of the same curve on the raw inputs."""
        return {p.name: parameters[p.name] * (p.scale(parameters, scales) if p.scale else 1.0) for p in self.parameters}


def padded_curve(num_points: int) -> int:
    """Return the number of points to which a curve is padded, so that one program serves curves of many lengths.

    It is a power of 4 up to 4096 points, and a power of two beyond.
    """
    bits = max(num_points - 1, SMALLEST_CURVE - 1).bit_length()
    return 1 << (bits + bits % 2 if bits <= BITS_OF_FOURS else bits)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _curve(law: Law, size: int, parameters: Values, inputs: Values) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(law.function(parameters, inputs), jnp.float64), (size,))


def in_range(span: str, values: np.ndarray) -> np.ndarray:
    """Return the mask of the values within a range such as "[0, 1)"."""
    low, high = (float(end) for end in span[1:-1].split(","))
    above = values >= low if span[0] == "[" else values > low
    return above & (values <= high if span[-1] == "]" else values < high)


def power(base: Any, exponent: Any) -> jax.Array:
    """Return base ** exponent for a positive base as exp(exponent ln base), on CPU three times as fast as jnp.power."""
    return jnp.exp(exponent * jnp.log(base))
