"""The interface of an optimiser: it may ask for the gradient anywhere, and returns new parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from lossline_jax.models.parameters import Params
from lossline_jax.train.gradient import LossSums

# parameters -> (sums of the loss over the batch, gradient of the mean loss), at these parameters
GradientAt = Callable[[Params], tuple[LossSums, Params]]
# The transformations of a gradient, in the order in which they are chained. The checkpoints of a run have their states
# in this order, so a chain may grow at its end only.
Steps = tuple[optax.GradientTransformation, ...]


class Updated(NamedTuple):
    """The result of one update.

    Attributes:
        params: the new parameters. They are the model that is scored and saved.
        opt_state: the new state of the optimiser.
        sums: sums of the loss over the batch, at the parameters where the gradient was taken first.
        gradient: the gradient there, before clipping.
    """

    params: Params
    opt_state: Any
    sums: LossSums
    gradient: Params


def _unchanged(params: Params) -> Params:
    return params


class UpdateRule(NamedTuple):
    """An optimiser.

    Attributes:
        init: parameters -> the initial state. optax recognises the leaves that are shaped like parameters.
        update: (gradient_at, parameters, state) -> `Updated`.
        begin: the model's initial parameters -> the parameters that training begins from.
    """

    init: Callable[[Any], Any]
    update: Callable[[GradientAt, Params, Any], Updated]
    begin: Callable[[Params], Params] = _unchanged


def from_optax(transformation: optax.GradientTransformation) -> UpdateRule:
    """Return the rule that takes the gradient at the parameters, and adds the updates of an optax transformation."""

    def update(gradient_at: GradientAt, params: Params, opt_state: Any) -> Updated:
        sums, gradient = gradient_at(params)
        updates, opt_state = transformation.update(gradient, opt_state, params)
        return Updated(optax.apply_updates(params, updates), opt_state, sums, gradient)  # pyright: ignore[reportArgumentType]

    return UpdateRule(transformation.init, update)
