"""Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412), around any other optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lossline_jax.models.parameters import Params
from lossline_jax.train.optimisers.rule import GradientAt, Updated, UpdateRule


def sharpness_aware(transformation: optax.GradientTransformation, radius: float) -> UpdateRule:
    """Return the rule that takes its gradient at the highest point near the parameters.

    To first order this point is params + radius g / |g|, where g is the gradient at the parameters (equation 2 of the
    paper, with p = 2 and the global norm). A step costs two gradients.

    Args:
        transformation: what is done with the second gradient.
        radius: the distance of the second point, rho in the paper.
    """

    def update(gradient_at: GradientAt, params: Params, opt_state: Any) -> Updated:
        sums, gradient = gradient_at(params)
        scale = radius / jnp.maximum(optax.tree.norm(gradient), jnp.finfo(jnp.float32).tiny)
        _, climbed = gradient_at(jax.tree.map(lambda param, grad: param + scale * grad, params, gradient))
        updates, opt_state = transformation.update(climbed, opt_state, params)
        return Updated(optax.apply_updates(params, updates), opt_state, sums, gradient)  # pyright: ignore[reportArgumentType]

    return UpdateRule(transformation.init, update)
