"""A law and its data as one optimisation problem in search coordinates."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves import Law

POINT_MARGIN = 1e-4  # of the range of an input: how close a `below` bound comes to its smallest value


@dataclass(frozen=True)
class Loss:
    """What is summed over points: r^2 / 2, or Huber with this delta. Sums, never means.

    Residuals are y - f, or ln(y - offset) - ln(f - offset) where `logarithmic`, the offset being the value
    of the parameter of that name (none: 0).
    """

    name: str
    logarithmic: bool = False
    delta: float | None = None  # None: least squares
    offset: str | None = None

    def values(self, residuals: np.ndarray) -> np.ndarray:
        """The loss of each residual, same shape."""
        squares = 0.5 * residuals**2
        if self.delta is None:
            return squares
        size = np.abs(residuals)
        return np.where(size <= self.delta, squares, self.delta * (size - 0.5 * self.delta))

    def weights(self, residuals: np.ndarray) -> np.ndarray:
        """Weights of iterated reweighted least squares: psi(r) / r, same shape."""
        if self.delta is None:
            return np.ones_like(residuals)
        return self.delta / np.maximum(np.abs(residuals), self.delta)


LEAST_SQUARES = Loss("least squares")
LOG_LEAST_SQUARES = Loss("log least squares", logarithmic=True)
LOG_LOG_LEAST_SQUARES = Loss("log-log least squares", logarithmic=True, offset="E_y")
LOG_HUBER = Loss("log Huber", logarithmic=True, delta=1e-3)

LOSSES = {loss.name: loss for loss in (LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES, LOG_HUBER)}


@dataclass(frozen=True)
class Problem:
    """Shapes: n points, P parameters, B problems solved side by side."""

    law: Law
    inputs: dict[str, np.ndarray]  # (n,) each, divided by `scales`
    y_n: np.ndarray
    loss: Loss
    scales: dict[str, float]
    lower_P: np.ndarray  # search coordinates: logarithms where the parameter says so
    upper_P: np.ndarray
    start_lower_P: np.ndarray
    start_upper_P: np.ndarray
    free_P: np.ndarray  # False: held at its given value
    fixed: dict[str, float]

    @property
    def num_points(self) -> int:
        return self.y_n.size

    @property
    def num_free(self) -> int:
        return int(self.free_P.sum())

    def values(self, u_BP: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters by name, (B, 1) each, on normalised inputs."""
        return {
            p.name: np.exp(u_BP[:, k : k + 1]) if p.log else u_BP[:, k : k + 1]
            for k, p in enumerate(self.law.parameters)
        }

    def residuals(self, u_BP: np.ndarray, y_n: np.ndarray) -> np.ndarray:
        """(B, n) of any batch of search coordinates; `y_n` is (n,) or (B, n)."""
        values = self.values(u_BP)
        with np.errstate(all="ignore"):
            curve_Bn = self.law.function(values, self.inputs)
            if not self.loss.logarithmic:
                return y_n - curve_Bn
            offset = values[self.loss.offset] if self.loss.offset else 0.0
            return np.log(y_n - offset) - np.log(curve_Bn - offset)

    def jacobian(self, u_BP: np.ndarray, residuals_Bn: np.ndarray, y_n: np.ndarray) -> np.ndarray:
        """(B, n, P) of the residuals by one-sided differences that stay inside the bounds."""
        jacobian = np.zeros((*residuals_Bn.shape, u_BP.shape[1]))
        for k in np.flatnonzero(self.free_P):
            step_B = 1e-7 * np.maximum(np.abs(u_BP[:, k]), 0.1)
            step_B = np.where(u_BP[:, k] + step_B > self.upper_P[k], -step_B, step_B)
            moved = u_BP.copy()
            moved[:, k] += step_B
            jacobian[:, :, k] = (self.residuals(moved, y_n) - residuals_Bn) / step_B[:, None]
        return jacobian

    def natural(self, u_P: np.ndarray) -> dict[str, float]:
        """Parameters by name on the inputs as they were given."""
        normalised = {name: float(value[0, 0]) for name, value in self.values(u_P[None]).items()}
        return self.law.rescale(normalised, self.scales) if self.law.rescale else normalised

    def unscaled(self, u_P: np.ndarray) -> "Problem":
        """The same on the inputs as they were given, the rescaled parameters bounded only by float64."""
        natural = self.natural(u_P)
        lower, upper = self.lower_P.copy(), self.upper_P.copy()
        for name in self.law.rescaled:
            k = self.law.names.index(name)
            lower[k], upper[k] = np.log(natural[name]) - 50.0, np.log(natural[name]) + 50.0
        inputs = {name: values * self.scales[name] for name, values in self.inputs.items()}
        ones = dict.fromkeys(self.scales, 1.0)
        return dataclasses.replace(self, inputs=inputs, scales=ones, lower_P=lower, upper_P=upper)

    def search(self, parameters: Mapping[str, float]) -> np.ndarray:
        """The inverse of `natural`."""
        if self.law.rescale:
            parameters = self.law.rescale(parameters, {name: 1 / s for name, s in self.scales.items()})
        return np.array([np.log(parameters[p.name]) if p.log else parameters[p.name] for p in self.law.parameters])


def build_problem(
    law: Law,
    inputs: Mapping[str, np.ndarray],
    y: np.ndarray,
    loss: Loss,
    fixed: Mapping[str, float] | None = None,
) -> Problem:
    """Normalise clean inputs and lay out the bounds.

    Raises:
        LosslineError: a fixed parameter that the law lacks, that cannot be held, or that is out of bounds.
    """
    fixed = dict(fixed or {})
    for name in fixed:
        if name not in law.names or name in law.rescaled:
            raise LosslineError(
                f"{law.name}: parameter {name!r} cannot be held fixed; choose among "
                f"{[n for n in law.names if n not in law.rescaled]}"
            )
    scales = {name: float(np.exp(np.mean(np.log(values)))) if law.rescale else 1.0 for name, values in inputs.items()}
    data = {**inputs, law.output: y}
    lower, upper, start_lower, start_upper = [], [], [], []
    for p in law.parameters:
        low, high = p.lower, p.upper
        if p.below:
            smallest = float(np.min(data[p.below]))
            high = smallest if p.linear else smallest - POINT_MARGIN * max(float(np.ptp(data[p.below])), 1e-9)
        first, last = p.start or (low, high)
        if p.name in fixed:
            low = high = first = last = float(fixed[p.name])
        row = np.log([low, high, first, last]) if p.log else (low, high, first, last)
        for column, value in zip((lower, upper, start_lower, start_upper), row, strict=True):
            column.append(value)
    return Problem(
        law=law,
        inputs={name: np.asarray(values, float) / scales[name] for name, values in inputs.items()},
        y_n=np.asarray(y, float),
        loss=loss,
        scales=scales,
        lower_P=np.array(lower),
        upper_P=np.array(upper),
        start_lower_P=np.array(start_lower),
        start_upper_P=np.array(start_upper),
        free_P=np.array([p.name not in fixed for p in law.parameters]),
        fixed=fixed,
    )
