"""One fitted law after another: compute to loss, then loss to accuracy."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves import Law
from lossline_jax.fit.result import FitResult, find_law


def chain(
    first: FitResult, second: FitResult, *, first_law: Law | None = None, second_law: Law | None = None
) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """A function of the first law's inputs that gives the second law's output.

    As in OLMo's model ladders: L(N, D), then accuracy from loss. The second law must have one input, the first
    law's output; both losses must be of the same text and unit.

    Args:
        first_law, second_law: needed for laws that are not in LAWS.

    Raises:
        LosslineError: the second law has more than one input.
    """
    inputs = tuple(find_law(second.law, second_law).inputs)
    if len(inputs) != 1:
        raise LosslineError(f"{second.law} has the inputs {list(inputs)}; a chain needs a law of one")
    return lambda values: second.predict({inputs[0]: first.predict(values, first_law)}, second_law)
