"""A law and its data as one optimisation problem in search coordinates.

A search coordinate is a parameter on normalised inputs, or its logarithm if the parameter is declared with `log`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.law import Law, Objective, Parameter

# Share of the range of an input: the distance of a `below` bound from the smallest value of the input. A choice.
POINT_MARGIN = 1e-4
# Half widths of the bounds of unscaled parameters: in the logarithm, and as a multiple of the value. Choices that only
# keep the values within float64.
LOG_HALF_WIDTH, RELATIVE_HALF_WIDTH = 50.0, 1e6


@dataclass(frozen=True, eq=False)
class Problem:
    """One law with one data set, ready for the solver.

    Shapes: n points, P parameters, B rows of search coordinates.
    """

    law: Law
    inputs: dict[str, np.ndarray]  # (n,) each, divided by `scales`
    y_n: np.ndarray
    objective: Objective
    scales: dict[str, float]  # by input name; 1 for an input that is not normalised
    lower_P: np.ndarray  # bounds of the search coordinates
    upper_P: np.ndarray
    start_lower_P: np.ndarray  # range of the starts, in search coordinates
    start_upper_P: np.ndarray
    free_P: np.ndarray  # False: the parameter is held at its given value
    fixed: dict[str, float]
    weights_n: np.ndarray  # weights of the points in the objective

    @property
    def num_points(self) -> int:
        """The number of points n."""
        return self.y_n.size

    @property
    def num_free(self) -> int:
        """The number of parameters that are fitted."""
        return int(self.free_P.sum())

    def values(self, u_BP: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters on normalised inputs by name, (B,) each."""
        return {p.name: np.exp(u) if p.log else u for p, u in zip(self.law.parameters, u_BP.T, strict=True)}

    def curve(self, u_BP: np.ndarray) -> np.ndarray:
        """Return the (B, n) values of the law at the points."""
        columns = {name: value[:, None] for name, value in self.values(u_BP).items()}
        return self.law(columns, self.inputs)

    def residuals(self, u_BP: np.ndarray) -> np.ndarray:
        """Return the (B, n) residuals of the objective."""
        curve_Bn = self.curve(u_BP)
        if not self.objective.logarithmic:
            return self.y_n - curve_Bn
        offset_B1 = self.values(u_BP)[self.objective.offset][:, None] if self.objective.offset else 0.0
        with np.errstate(all="ignore"):
            return np.log(self.y_n - offset_B1) - np.log(curve_Bn - offset_B1)

    def natural(self, u_P: np.ndarray) -> dict[str, float]:
        """Return the parameters on the raw inputs by name."""
        normalised = {name: float(value[0]) for name, value in self.values(u_P[None]).items()}
        return {name: float(value) for name, value in self.law.rescale(normalised, self.scales).items()}

    def raw_inputs(self) -> dict[str, np.ndarray]:
        """Return the inputs before they were divided by `scales`, (n,) each."""
        return {name: values * self.scales[name] for name, values in self.inputs.items()}

    def unscaled(self, u_P: np.ndarray) -> "Problem":
        """Return the problem on the raw inputs. The bounds of its scaled parameters are so wide that none is reached.

        Args:
            u_P: search coordinates of this problem, which become the middle of the bounds of the scaled parameters.
        """
        natural = self.natural(u_P)
        lower, upper = self.lower_P.copy(), self.upper_P.copy()
        for k, p in enumerate(self.law.parameters):
            if p.scale is None:
                continue
            value = np.log(natural[p.name]) if p.log else natural[p.name]
            half_width = LOG_HALF_WIDTH if p.log else RELATIVE_HALF_WIDTH * max(abs(value), 1e-300)
            lower[k], upper[k] = value - half_width, value + half_width
        ones = dict.fromkeys(self.scales, 1.0)
        return dataclasses.replace(self, inputs=self.raw_inputs(), scales=ones, lower_P=lower, upper_P=upper)

    def search(self, parameters: Mapping[str, float]) -> np.ndarray:
        """Return the (P,) search coordinates of parameters on the raw inputs: the inverse of `natural`."""
        normalised = self.law.rescale(parameters, {name: 1 / s for name, s in self.scales.items()})
        return np.array([np.log(normalised[p.name]) if p.log else normalised[p.name] for p in self.law.parameters])


def build_problem(
    law: Law,
    inputs: Mapping[str, np.ndarray],
    y: np.ndarray,
    objective: Objective,
    *,
    fixed: Mapping[str, float] | None = None,
    weights: np.ndarray | None = None,
) -> Problem:
    """Build the problem of clean data: normalise the inputs and set the bounds.

    Args:
        law: the law that is fitted.
        inputs: (n,) arrays by input name, without missing values.
        y: (n,) outputs, without missing values.
        objective: the objective that is minimised.
        fixed: parameters held at given values. None: all parameters are fitted.
        weights: (n,) the weights of the points. None: all weights are 1.

    Raises:
        LosslineError: a fixed parameter is unknown to the law, cannot be held, or is out of bounds.
    """
    fixed = dict(fixed or {})
    _require_holdable(law, fixed)
    scales = {
        name: float(np.exp(np.mean(np.log(values)))) if name in law.normalise else 1.0
        for name, values in inputs.items()
    }
    data = {**inputs, law.output: y}
    rows = [_bounds(p, law.output, data, fixed.get(p.name)) for p in law.parameters]
    lower, upper, start_lower, start_upper = np.transpose(rows)
    return Problem(
        law=law,
        inputs={name: np.asarray(values, float) / scales[name] for name, values in inputs.items()},
        y_n=np.asarray(y, float),
        objective=objective,
        scales=scales,
        lower_P=lower,
        upper_P=upper,
        start_lower_P=start_lower,
        start_upper_P=start_upper,
        free_P=np.array([p.name not in fixed for p in law.parameters]),
        fixed=fixed,
        weights_n=np.ones(np.size(y)) if weights is None else weights,
    )


def _require_holdable(law: Law, fixed: Mapping[str, float]) -> None:
    for name, value in fixed.items():
        if name not in law.names or name in law.scaled:
            raise LosslineError(
                f"{law.name}: parameter {name!r} cannot be held fixed; choose among "
                f"{[n for n in law.names if n not in law.scaled]}"
            )
        p = law.parameters[law.names.index(name)]
        if not p.lower <= value <= p.upper:
            raise LosslineError(
                f"{law.name}: {name} is held at {value:g}, outside its bounds {p.lower:g} to {p.upper:g}"
            )


def _bounds(p: Parameter, output: str, data: Mapping[str, np.ndarray], held_at: float | None) -> np.ndarray:
    """Return (4,) the lower and upper bound of a parameter, and of its starts, in search coordinates."""
    low, high = p.lower, p.upper
    first, last = p.start or (low, high)
    if p.below == output:
        last, high = float(np.min(data[output])), float(np.max(data[output]))
    elif p.below:
        smallest = float(np.min(data[p.below]))
        last = high = smallest - POINT_MARGIN * max(float(np.ptp(data[p.below])), 1e-9)
    if held_at is not None:
        low = high = first = last = float(held_at)
    return np.log([low, high, first, last]) if p.log else np.array([low, high, first, last])
