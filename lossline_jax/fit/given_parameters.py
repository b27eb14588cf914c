"""Check the parameters that the user holds at given values, or shares between data sets."""

from collections.abc import Mapping, Sequence

import numpy as np

from lossline_jax.errors import ArgumentError, suggestion
from lossline_jax.fit.law import Law


def require_fixed(law: Law, fixed: Mapping[str, float]) -> None:
    """Raise ArgumentError unless all parameters can be held at the given values.

    Args:
        law: the law that is fitted.
        fixed: parameters held at given values.
    """
    for name, value in fixed.items():
        if name not in law.names:
            hint, known = suggestion(name, law.names), ", ".join(law.names)
            raise ArgumentError(
                "{fixed}: {law} has no parameter {name!r}{hint}; its parameters are {known}",
                law=law.name, name=name, hint=hint, known=known,
            )  # fmt: skip
        if name in law.scaled:
            free = ", ".join(free for free in law.names if free not in law.scaled)
            raise ArgumentError(
                "{fixed}: {name} of {law} depends on the unit of its inputs and cannot be held; choose among {free}",
                name=name, law=law.name, free=free,
            )  # fmt: skip
        p = law.parameters[law.names.index(name)]
        if not (np.isfinite(value) and p.lower <= value <= p.upper):
            raise ArgumentError(
                "{fixed}: {name} is held at {value:g}, outside its range from {lower:g} to {upper:g}",
                name=name, value=value, lower=p.lower, upper=p.upper,
            )  # fmt: skip


def require_shared(law: Law, shared: Sequence[str], fixed: Mapping[str, float]) -> None:
    """Raise ArgumentError unless all shared parameters are different free parameters of the law.

    Args:
        law: the law that is fitted.
        shared: names of the shared parameters.
        fixed: the parameters that are held.
    """
    for number, name in enumerate(shared):
        if name not in law.names:
            known = ", ".join(law.names)
            hint = suggestion(name, law.names)
            raise ArgumentError(
                "{shared}: {law} has no parameter {name!r}{hint}; its parameters are {known}",
                law=law.name, name=name, hint=hint, known=known,
            )  # fmt: skip
        if name in fixed:
            raise ArgumentError(
                "{shared}: {name} is held at {value:g} by {fixed}; give only one of the two",
                name=name, value=fixed[name],
            )  # fmt: skip
        if name in shared[:number]:
            raise ArgumentError("{shared}: {name} is given twice; keep one", name=name)
