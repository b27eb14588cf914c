"""What a fit says: parameters by name, how it was found, whether to believe it."""

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

INTERVAL_LEVEL = 0.9  # of intervals for which no other level is asked

Status = Literal["converged", "iteration cap", "bound hit", "not identified", "too few points", "failed"]


@dataclass(frozen=True)
class FitResult:
    """A fitted law. Without parameters (`has_curve` False) the status and the note say why.

    Status, the first that applies: `too few points` (fewer than free parameters), `failed` (no start gave a
    finite objective, or the data cannot be fitted), `iteration cap` (the best start was still going down),
    `not identified` (a parameter's profile interval reaches a bound, or the Jacobian is numerically singular:
    the curve may be used, the parameter may not), `bound hit` (a parameter ended on its bound, with an
    interval shorter than half its range), `converged`.
    """

    law: str
    status: Status
    note: str  # one line, empty when there is nothing to say
    objective_name: str = field(metadata={"formerly": "loss"})  # what was summed: "least squares", "log Huber", ...
    delta: float | None  # of Huber
    num_points: int
    num_dropped: int  # rows with a missing value, or outside the law's domain when a parameter is given
    num_runs: int | None  # distinct clusters; None: not told
    num_starts: int
    parameters: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # profile likelihood
    interval_level: float | None = INTERVAL_LEVEL  # None: no intervals were asked for
    not_identified: tuple[str, ...] = ()
    bounds_hit: tuple[str, ...] = ()
    fixed: dict[str, float] = field(default_factory=dict)  # given by the user, not fitted
    objective: float | None = None  # sum over points of r^2 / 2 or of Huber(r)
    rmse: float | None = None  # in the unit of the output, on the output itself whatever the loss
    r_squared: float | None = None  # the same; None where the output is constant
    share_of_starts: float | None = None  # that came within .1% of the best (Huber: of the wider search)
    condition_number: float | None = None  # of the Jacobian in search coordinates, columns scaled to 1
    domain: dict[str, tuple[float, float]] = field(default_factory=dict)  # range of each input fitted
    conventions: dict[str, str] = field(default_factory=dict)  # what N and D count, units
    minimised: Objective | None = None  # the one called `objective_name`; None: read from a file that has only the name

    def __post_init__(self):
        for name in ("intervals", "domain"):  # JSON hands back lists
            pairs = {key: (float(low), float(high)) for key, (low, high) in getattr(self, name).items()}
            object.__setattr__(self, name, pairs)

    @property
    def has_curve(self) -> bool:
        return bool(self.parameters)

    def with_note(self, text: str) -> "FitResult":
        """The same with `text` added to the note."""
        return dataclasses.replace(self, note=f"{self.note}; {text}" if self.note else text)

    def predict(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Evaluate the fitted curve: `fit.predict(N=3e9, D=6e10)`, or `fit.predict(3.2)` for a law of one input.

        Args:
            values: the values of a law's only input, or all inputs in one mapping or table.
            law: needed for a law that is not in `laws.LAWS`.
            inputs: numbers or arrays that broadcast, one for each input of the law.

        Returns:
            float64 in the broadcast shape of the inputs.

        Raises:
            LosslineError: no curve was fitted, an input is missing or unknown, or the law has no value there
                (for the shifted power law: x at or below E_x).
        """
        law = find_law(self.law, law)
        if not self.has_curve:
            raise LosslineError(f"{self.law}: nothing to predict with, the fit is {self.status!r} ({self.note})")
        values = law.named(values, **inputs)
        defined = self.defined(values, law=law)
        if not np.all(defined):
            at = {name: float(np.broadcast_to(v, defined.shape)[~defined][0]) for name, v in values.items()}
            raise LosslineError(
                f"{self.law}: no value at {at} ({law.formula} with {_short(self.parameters)}); "
                "predict inside the domain"
            )
        return law(self.parameters, values)

    def defined(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Return the mask of where the fitted curve has a value. The arguments are those of `predict`."""
        law = find_law(self.law, law)
        values = law.named(values, **inputs)
        inside = inside_domain(law, values)
        return inside if law.defined is None else inside & np.asarray(law.defined(self.parameters, values))

    def extrapolates(self, values: Any = None, /, *, law: Law | None = None, **inputs: Any) -> np.ndarray:
        """Return the mask of where any input is outside the range fitted. The arguments are those of `predict`."""
        values = find_law(self.law, law).named(values, **inputs)
        outside = [(values[name] < low) | (values[name] > high) for name, (low, high) in self.domain.items()]
        return np.any(np.broadcast_arrays(*outside), axis=0)

    def to_json(self) -> dict[str, Any]:
        return serialise.to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "fit") -> "FitResult":
        """Raises LosslineError where `value` is not what `to_json` wrote."""
        return serialise.from_json(cls, value, where)


def _short(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in parameters.items())
