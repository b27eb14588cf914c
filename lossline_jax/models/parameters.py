"""Parameters as an architecture declares them: shape, logical axes, start values, weight decay. No jax.

A model's parameters are a nested dict of `ParameterSpec`. The same tree drives the initialisation, Linen's
declarations, the shardings, the weight decay mask, and the counts and estimates of a plan.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

Params = dict[str, Any]  # nested, of arrays
Declaration = dict[str, Any]  # nested, of Parameter


@dataclass(frozen=True)
class Normal:
    """Normal values with mean 0 and deviation `sigma`, truncated at 3 sigma."""

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
    """log(1), ..., log(S) along the axis before the last: the real S4D start (Gu et al. 2022, arXiv 2206.11893)."""


@dataclass(frozen=True)
class StepBias:
    """Inverse softplus of step sizes that are log-uniform in [dt_min, dt_max] (Gu & Dao 2023, arXiv 2312.00752)."""

    dt_min: float
    dt_max: float


Start = Normal | Uniform | Constant | LogUniform | LogIndex | StepBias


@dataclass(frozen=True)
class ParameterSpec:
    """One leaf.

    Attributes:
        shape: the sizes of its axes.
        axes: the logical name of each axis, after which meshes split it; None: never split.
        start: its values before training.
        is_decayed: whether weight decay applies to it.
        num_contracted: how many leading axes a matrix product with every token sums over. 0: the leaf takes part in no
            such product.

    Raises:
        ValueError: as many axes as `shape` has are not named.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    start: Start
    is_decayed: bool = True
    num_contracted: int = 0

    def __post_init__(self):
        if len(self.shape) != len(self.axes):
            raise ValueError(f"Parameter: shape {self.shape} and axes {self.axes} differ in length; name every axis")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def output_size(self) -> int:
        """Numbers that its product with one token gives; 0 where there is none."""
        return math.prod(self.shape[self.num_contracted :]) if self.num_contracted else 0


def stack_layers(block: Declaration, num_layers: int) -> Declaration:
    """Return the declaration of `num_layers` blocks stacked on axis 0."""
    return {
        name: replace(leaf, shape=(num_layers, *leaf.shape), axes=("layers", *leaf.axes))
        for name, leaf in block.items()
    }
