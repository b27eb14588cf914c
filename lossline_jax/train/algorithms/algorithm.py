"""The interface of a training algorithm."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lossline_jax.train.gradient import LossSums, Randomness, TrainingBatch
from lossline_jax.train.state import TrainState


class StepOutcome(NamedTuple):
    """The sums and scalars of one step, measured before its update.

    Attributes:
        sums: sums of the loss over the global batch.
        grad_norm: global norm of the gradient of the mean loss, before clipping.
        extra: further float32 scalars for the log of the run, by name.
    """

    sums: LossSums
    grad_norm: jax.Array
    extra: dict[str, jax.Array]


class Algorithm(NamedTuple):
    """A training algorithm. `TrainState.params` is always the model that is scored, saved and exported.

    Attributes:
        init_extra: parameters -> the initial `TrainState.extra`. None: the algorithm keeps nothing besides.
        update: (state, global batch, randomness of the step or None) -> (new state, outcome). The step counts itself.
    """

    init_extra: Callable[[Any], Any] | None
    update: Callable[[TrainState, TrainingBatch, Randomness | None], tuple[TrainState, StepOutcome]]
