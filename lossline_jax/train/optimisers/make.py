"""Build the update rule of a run from its config."""

import optax

from lossline_jax.config.check_optimiser import check_optimiser, check_width_rates
from lossline_jax.config.custom import CustomOptimiser
from lossline_jax.config.training import Optimiser
from lossline_jax.models.model import Model
from lossline_jax.train.optimisers.adam import adam_l2, adamw, lion
from lossline_jax.train.optimisers.muon import muon
from lossline_jax.train.optimisers.rule import UpdateRule, from_optax
from lossline_jax.train.optimisers.sam import sharpness_aware
from lossline_jax.train.optimisers.schedule_free import schedule_free
from lossline_jax.train.optimisers.width_rates import begin_by_width, scale_with_width

_OF_GRADIENT = {"adamw": adamw, "adam_l2": adam_l2, "lion": lion}


def make_update_rule(optim: Optimiser, learning_rate: optax.Schedule, model: Model) -> UpdateRule:
    """Build the optimiser of a run. Every optimiser of lossline clips the gradient by its global norm first.

    Args:
        optim: the optimiser and its constants.
        learning_rate: schedule over optax's count.
        model: the model, which says which parameters are matrices and which are decayed.

    Raises:
        LosslineError: a constant is out of range, or two settings cannot be combined.
    """
    if isinstance(optim, CustomOptimiser):
        return optim.update_rule(learning_rate, model)
    check_optimiser(optim)
    decayed = model.weight_decay_mask()
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm > 0 else optax.identity()
    if optim.name == "schedule_free":
        return schedule_free(optim, learning_rate, decayed, clip)
    if optim.name == "muon":
        steps = muon(optim, learning_rate, decayed, model.declaration())
    else:
        steps = _OF_GRADIENT[optim.name](optim, learning_rate, decayed)
    factor = None if optim.mup_base_width is None else optim.mup_base_width / model.config.d_model
    if factor is not None:
        check_width_rates(model.config)
        steps += (scale_with_width(model.declaration(), factor),)
    transformation = optax.chain(clip, *steps)
    rule = sharpness_aware(transformation, optim.sam_radius) if optim.sam_radius else from_optax(transformation)
    if factor is None:
        return rule
    return rule._replace(begin=lambda params: begin_by_width(params, model.declaration(), factor))
