"""Declarations of parameters: shape, logical axes, initial values and weight decay. No jax here.

An architecture declares its parameters as a nested dict of `ParameterSpec`. The initialisation, Linen's declarations,
the shardings, the weight decay mask, and the counts and estimates of a plan all come from this tree.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

Params = dict[str, Any]  # nested dict of arrays
Declaration = dict[str, Any]  # nested dict of ParameterSpec


@dataclass(frozen=True)
class Normal:
    """Normal values with mean 0 and standard deviation `sigma`, truncated at 3 sigma."""

    sigma: float


@dataclass(frozen=True)
class Uniform:
    """Uniform values in [low, high]."""

    low: float
    high: float


@dataclass(frozen=True)
class Constant:
    """One value everywhere."""

    value: float


@dataclass(frozen=True)
class LogUniform:
    """Logarithms of values that are uniform in [low, high]."""

    low: float
    high: float


@dataclass(frozen=True)
class LogIndex:
    """log(1), ..., log(S) along the last but one axis: S4D's real initialisation (Gu et al. 2022, arXiv 2206.11893)."""


@dataclass(frozen=True)
class StepBias:
    """Inverse softplus of step sizes that are log-uniform in [dt_min, dt_max] (Gu & Dao 2023, arXiv 2312.00752)."""

    dt_min: float
    dt_max: float


Start = Normal | Uniform | Constant | LogUniform | LogIndex | StepBias


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter: one leaf of a declaration.

    Attributes:
        shape: the sizes of its axes.
        axes: the logical name of each axis, which decides how a mesh splits it. None: the axis is never split.
        start: its initial values.
        is_decayed: whether weight decay applies to it.
        num_contracted: number of leading axes that the matrix product with every token sums over. 0: the parameter
            takes part in no such product.

    Raises:
        ValueError: the number of names is not the number of axes.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    start: Start
    is_decayed: bool = True
    num_contracted: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"Parameter: shape {self.shape} and axes {self.axes} differ in length; name every axis")

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def output_size(self) -> int:
        """The number of values of its product with one token. 0: it takes part in no such product."""
        return math.prod(self.shape[self.num_contracted :]) if self.num_contracted else 0


def stack_layers(block: Declaration, num_layers: int) -> Declaration:
    """Return the declaration of `num_layers` blocks stacked on axis 0."""
    return {
        name: replace(leaf, shape=(num_layers, *leaf.shape), axes=("layers", *leaf.axes))
        for name, leaf in block.items()
    }
