"""Laws as declarations: named parameters with units and bounds, one function, and where it comes from.

A new law is one `Law(...)`: see `CHINCHILLA` for the whole of what it takes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a law.

    `lower`, `upper` and `start` are in normalised units where the law has a `rescale` (inputs divided by
    their geometric mean), else in the units of the data.
    """

    name: str
    unit: str
    lower: float
    upper: float
    start: tuple[float, float] | None = None  # range of the multi-start; None: the bounds
    linear: bool = False  # the law is affine in all its linear parameters together
    log: bool = False  # searched as its logarithm; `lower` is then positive
    below: str | None = None  # the upper bound is the smallest value of this input or output in the data


@dataclass(frozen=True)
class Law:
    """A curve that can be fitted.

    `function(parameters, inputs)` works by numpy broadcasting: parameters (..., 1), inputs (n,) -> (..., n).
    """

    name: str
    formula: str
    inputs: tuple[str, ...]
    output: str
    parameters: tuple[Parameter, ...]
    function: Callable[[Values, Values], np.ndarray]
    source: str
    # parameters fitted on inputs divided by scales -> parameters on the inputs as they are; None: no scaling
    rescale: Callable[[Mapping[str, float], Mapping[str, float]], dict[str, float]] | None = None
    rescaled: tuple[str, ...] = ()  # the parameters that `rescale` changes: these cannot be held fixed
    defined: Callable[[Values, Values], np.ndarray] | None = None  # mask of where it has a value; None: everywhere

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)


def _shifted_power(p: Values, v: Values) -> np.ndarray:
    return p["K"] * (v["x"] - p["E_x"]) ** p["kappa"] + p["E_y"]


def _chinchilla(p: Values, v: Values) -> np.ndarray:
    return p["E"] + p["A"] * v["N"] ** -p["alpha"] + p["B"] * v["D"] ** -p["beta"]


def _kaplan(p: Values, v: Values) -> np.ndarray:
    return p["E"] + ((p["A"] / v["N"]) ** (p["alpha"] / p["beta"]) + p["B"] / v["D"]) ** p["beta"]


def _chinchilla_rescale(p: Mapping[str, float], scale: Mapping[str, float]) -> dict[str, float]:
    return {**p, "A": p["A"] * scale["N"] ** p["alpha"], "B": p["B"] * scale["D"] ** p["beta"]}


def _kaplan_rescale(p: Mapping[str, float], scale: Mapping[str, float]) -> dict[str, float]:
    return {**p, "A": p["A"] * scale["N"], "B": p["B"] * scale["D"]}


SHIFTED_POWER = Law(
    name="shifted power law",
    formula="y = K (x - E_x)^kappa + E_y",
    inputs=("x",),
    output="y",
    parameters=(
        Parameter("K", "y / x^kappa", 1e-9, 1e9, start=(1e-3, 1e3), linear=True, log=True),
        Parameter("kappa", "1", 0.05, 20.0, start=(0.3, 4.0), log=True),
        Parameter("E_x", "unit of x", 0.0, np.inf, below="x"),
        Parameter("E_y", "unit of y", 0.0, np.inf, linear=True, below="y"),
    ),
    function=_shifted_power,
    source="Brandfonbrener et al. 2024 (arXiv 2411.12925); Mayilvahanan et al. 2025 (arXiv 2502.12120)",
    defined=lambda p, v: v["x"] > p["E_x"],
)

CHINCHILLA = Law(
    name="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    inputs=("N", "D"),
    output="L",
    parameters=(
        Parameter("E", "unit of L", 0.0, np.inf, linear=True, below="L"),
        Parameter("A", "unit of L x N^alpha", 1e-9, 1e6, start=(1e-3, 10.0), linear=True, log=True),
        Parameter("B", "unit of L x D^beta", 1e-9, 1e6, start=(1e-3, 10.0), linear=True, log=True),
        Parameter("alpha", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
        Parameter("beta", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
    ),
    function=_chinchilla,
    source="Hoffmann et al. 2022 (arXiv 2203.15556), approach 3; Besiroglu et al. 2024 (arXiv 2404.10102)",
    rescale=_chinchilla_rescale,
    rescaled=("A", "B"),
)

KAPLAN = Law(
    name="kaplan",
    formula="L = E + ((A/N)^(alpha/beta) + B/D)^beta",
    inputs=("N", "D"),
    output="L",
    parameters=(
        Parameter("E", "unit of L", 0.0, np.inf, linear=True, below="L"),
        Parameter("A", "unit of N", 1e-12, 1e12, start=(1e-3, 10.0), log=True),
        Parameter("B", "unit of D", 1e-12, 1e12, start=(1e-3, 10.0), log=True),
        Parameter("alpha", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
        Parameter("beta", "1", 0.01, 3.0, start=(0.1, 1.2), log=True),
    ),
    function=_kaplan,
    source="Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5, with an entropy E; arXiv 2411.12925",
    rescale=_kaplan_rescale,
    rescaled=("A", "B"),
)

LAWS = {law.name: law for law in (SHIFTED_POWER, CHINCHILLA, KAPLAN)}
