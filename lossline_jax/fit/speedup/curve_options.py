"""Choose the curves of loss against compute, and the margin of a speedup."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lossline_jax.errors import ArgumentError, suggestion
from lossline_jax.fit.option_types import require_field_types
from lossline_jax.fit.speedup.power_problem import NAMES

MARGIN = 1.1  # a ratio: a speedup within 1/1.1 and 1.1 is no difference. A convention


@dataclass(frozen=True)
class CurveOptions:
    """The curves of loss against compute, and the margin.

    Args:
        curve: "measured": the curve of each run through its checkpoints. "power law": L = E + A / C^alpha with an A for
            each level. "auto": measured where half of the runs have four checkpoints or more, and neither `fix` nor
            `share` is given; else the power law.
        fix: given values of E and alpha of the power law, by name.
        share: which of E and alpha have one value for all levels. None: both, unless the exponents differ (5%).
        last: True: use only the last checkpoint of each run.
        frontier: True: use only the point of least loss at each budget of a setting.
        margin: a ratio above 1: a speedup whose interval lies within 1/margin and margin is no difference.

    Raises:
        ArgumentError: a field has a value of a wrong type.
    """

    curve: Literal["auto", "measured", "power law"] = "auto"
    fix: Mapping[str, float] = field(default_factory=dict)
    share: tuple[str, ...] | None = None
    last: bool = False
    frontier: bool = False
    margin: float = MARGIN

    def __post_init__(self) -> None:
        require_field_types(self)


def require_curve_options(curves: CurveOptions) -> None:
    """Raise ArgumentError for options that mean nothing or do not belong together.

    Args:
        curves: the options.
    """
    if not (curves.margin > 1 and math.isfinite(curves.margin)):
        raise ArgumentError("{margin}: {value:g} is not a ratio above 1, such as 1.1", value=curves.margin)
    for argument, names in (("fix", curves.fix), ("share", curves.share or ())):
        for name in names:
            if name not in NAMES:
                hint = suggestion(name, NAMES)
                raise ArgumentError(
                    f"{{{argument}}}: {{name!r}} is not a parameter of L = E + A / C^alpha that levels share{{hint}}; "
                    "these are E and alpha",
                    name=name,
                    hint=hint,
                )
    for name, value in curves.fix.items():
        if not math.isfinite(value) or value < 0 or (name == "alpha" and value == 0):
            raise ArgumentError("{fix}: {name}={value:g} is not a positive number", name=name, value=value)
        if name in (curves.share or ()):
            raise ArgumentError("{share}: {name} has a given value, which all levels share; leave it out", name=name)
    if curves.curve == "measured" and (curves.fix or curves.share is not None):
        raise ArgumentError("{fix}, {share}: belong to the power law, and {curve} is measured; leave {curve} out")
    if curves.curve == "measured" and curves.last:
        raise ArgumentError("{last}: leaves one point of each run, which is no measured curve; leave {curve} out")
