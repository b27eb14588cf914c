"""Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), with its average as the parameters of the model."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lossline_jax.config.training import OptimConfig
from lossline_jax.models.parameters import Params
from lossline_jax.train.optimisers.rule import GradientAt, Updated, UpdateRule


def schedule_free(
    optim: OptimConfig, learning_rate: optax.Schedule, decayed: Any, clip: optax.GradientTransformation
) -> UpdateRule:
    """Return schedule-free AdamW. `beta1` is the interpolation, and `beta2` decays the second moment.

    optax trains y, where the gradient is taken, and keeps z, which takes the steps. The model that is scored and saved
    is their average x, and y = beta1 x + (1 - beta1) z. The state of the run has x in the place of y.

    Args:
        optim: the constants. Weight decay is that of y.
        learning_rate: schedule over optax's count. It should have a warm-up and no decay.
        decayed: tree of bools in the structure of the parameters. False: no weight decay.
        clip: clips the gradient.
    """
    steps = optax.chain(
        clip,
        optax.scale_by_rms(decay=optim.beta2, eps=optim.eps, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(learning_rate),
    )
    # optax counts from 1 here, and from 0 elsewhere.
    averaged = optax.contrib.schedule_free(steps, lambda count: learning_rate(count - 1), b1=optim.beta1)

    def update(gradient_at: GradientAt, params: Params, opt_state: Any) -> Updated:
        y = jax.tree.map(lambda x, z: optim.beta1 * x + (1 - optim.beta1) * z, params, opt_state.z)
        sums, gradient = gradient_at(y)
        updates, opt_state = averaged.update(gradient, opt_state, y)
        moved = jax.tree.map(jnp.add, y, updates)
        return Updated(optax.contrib.schedule_free_eval_params(opt_state, moved), opt_state, sums, gradient)

    return UpdateRule(averaged.init, update)
