"""The result of a fit: parameters by name, the search that found them, and a status that tells how far to trust them.

A failed fit is a result too: it has a status and a note, and no parameters.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lossline_jax.config import serialise
from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import inside_domain
from lossline_jax.fit.law import Law, Objective
from lossline_jax.fit.laws import find_law

INTERVAL_LEVEL = 0.9  # the default level of intervals, a share between 0 and 1. A choice.

Status = Literal["converged", "iteration cap", "bound hit", "not identified", "too few points", "failed"]


@dataclass(frozen=True)
class FitResult:
    """A fitted law. If it has no parameters (`has_curve` is False), the status and the note say why.

    The status is the first of these that applies:

    - `too few points`: there are fewer points than free parameters.
    - `failed`: no start gave a finite objective, or the data cannot be fitted.
    - `iteration cap`: the best start was still going down when the iterations ended.
    - `not identified`: the profile interval of a parameter reaches a bound, or the Jacobian is numerically singular.
      The curve may be used, the parameter may not.
    - `bound hit`: a parameter ended on its bound, with an interval shorter than half its range.
    - `converged`.
    """

    law: str
    status: Status
    note: str  # one line; empty: no remark
    objective_name: str = field(metadata={"formerly": "loss"})  # "least squares", "log Huber", ...
    delta: float | None  # of Huber's function, in the unit of the residual. None: the objective is least squares
    num_points: int
    num_dropped: int  # rows with a missing value, or outside the law's domain if a parameter is held fixed
    num_runs: int | None  # distinct clusters. None: the runs are not known
    num_starts: int
    parameters: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # their kind: `conventions`
    interval_level: float | None = INTERVAL_LEVEL  # None: the caller asked for no intervals
    not_identified: tuple[str, ...] = ()
    bounds_hit: tuple[str, ...] = ()
    fixed: dict[str, float] = field(default_factory=dict)  # parameters that the caller held at given values
    objective: float | None = None  # sum over points of r^2 / 2 or of Huber(r). None: not fitted
    rmse: float | None = None  # of the output itself and in its unit, whatever the objective. None: not fitted
    r_squared: float | None = None  # of the output itself. None: not fitted, or the output is constant
    # Share of the starts that came within 0.1% of the best objective (Huber: of the search with a wider delta).
    # None: not fitted.
    share_of_starts: float | None = None
    # Of the Jacobian in search coordinates, columns scaled to length 1. None: not fitted, or not finite.
    condition_number: float | None = None
    domain: dict[str, tuple[float, float]] = field(default_factory=dict)  # fitted range of each input
    conventions: dict[str, str] = field(default_factory=dict)  # units, and what inputs such as N and D count
    shared: tuple[str, ...] = ()  # parameters that have one value in several data sets
    minimised: Objective | None = None  # called `objective_name`. None: read from a file that has only the name
    noise_x: float | None = None  # noise in x that a line is corrected for. None: x is taken as exact

    def __post_init__(self) -> None:
        for name in ("intervals", "domain"):  # JSON has no tuples and gives lists
            pairs = {key: (float(low), float(high)) for key, (low, high) in getattr(self, name).items()}
            object.__setattr__(self, name, pairs)

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters.items())
        return f"<FitResult {self.law}: {parameters or 'no curve'}; {self.status}, {self.num_points} points>"

    @property
    def has_curve(self) -> bool:
        """True if the fit has parameters, so that its curve can be evaluated."""
        return bool(self.parameters)

    def with_note(self, text: str) -> "FitResult":
        """Return the fit with `text` added to the note."""
        return dataclasses.replace(self, note=f"{self.note}; {text}" if self.note else text)

    def predict(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Evaluate the fitted curve: `fit.predict(N=3e9, D=6e10)`, or `fit.predict(3.2)` for a law of one input.

        Args:
            values: the values of a law's only input, or all inputs in one mapping or table.
            law: the law of the fit, needed if it is not in `laws.LAWS`. None: the declared law of that name.
            inputs: numbers or arrays that broadcast, one for each input of the law.

        Returns:
            float64 in the broadcast shape of the inputs.

        Raises:
            LosslineError: no curve was fitted, an input is missing or unknown, or the law has no value at some input
                (for the shifted power law: x at or below E_x).
        """
        law = find_law(self.law, law)
        if not self.has_curve:
            raise LosslineError(f"{self.law}: nothing to predict with, the fit is {self.status!r} ({self.note})")
        arrays = law.named(values, **inputs)
        defined = self.defined(arrays, law=law)
        if not np.all(defined):
            at = {name: float(np.broadcast_to(v, defined.shape)[~defined][0]) for name, v in arrays.items()}
            fitted = ", ".join(f"{name} {value:.4g}" for name, value in self.parameters.items())
            raise LosslineError(
                f"{self.law}: no value at {at} ({law.formula} with {fitted}); predict inside the domain"
            )
        return law(self.parameters, arrays)

    def defined(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Return the mask of the inputs at which the fitted curve has a value. The arguments are those of `predict`.

        Args:
            values: see `predict`.
            law: see `predict`. None: the declared law of the fit's name.
            inputs: see `predict`.
        """
        law = find_law(self.law, law)
        arrays = law.named(values, **inputs)
        inside = inside_domain(law, arrays)
        return inside if law.defined is None else inside & np.asarray(law.defined(self.parameters, arrays))

    def extrapolates(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Return the mask of the points with an input outside its fitted range. The arguments are those of `predict`.

        Args:
            values: see `predict`.
            law: see `predict`. None: the declared law of the fit's name.
            inputs: see `predict`.
        """
        arrays = find_law(self.law, law).named(values, **inputs)
        outside = [(arrays[name] < low) | (arrays[name] > high) for name, (low, high) in self.domain.items()]
        return np.any(np.broadcast_arrays(*outside), axis=0)

    def to_json(self) -> dict[str, Any]:
        """Return the result as a value that can be written as JSON."""
        return serialise.to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "fit") -> "FitResult":
        """Read a result that `to_json` wrote.

        Args:
            value: the JSON value.
            where: the name of the value in error messages.

        Raises:
            LosslineError: `to_json` did not write this value.
        """
        return serialise.from_json(cls, value, where)
