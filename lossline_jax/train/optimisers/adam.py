"""AdamW, Adam with the L2 penalty in the gradient, and Lion, as steps of an optax chain."""

from typing import Any

import optax

from lossline_jax.config.training import OptimConfig
from lossline_jax.train.optimisers.rule import Steps


def adamw(optim: OptimConfig, learning_rate: optax.Schedule, decayed: Any) -> Steps:
    """Return Adam with decoupled weight decay, scaled by the learning rate as in PyTorch.

    Sources: Kingma & Ba 2015 (arXiv 1412.6980); Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2.
    """
    return _adam(optim), _decay(optim, decayed), optax.scale_by_learning_rate(learning_rate)


def adam_l2(optim: OptimConfig, learning_rate: optax.Schedule, decayed: Any) -> Steps:
    """Return Adam with the L2 penalty in the gradient: the other line of the same algorithm 2."""
    return _decay(optim, decayed), _adam(optim), optax.scale_by_learning_rate(learning_rate)


def lion(optim: OptimConfig, learning_rate: optax.Schedule, decayed: Any) -> Steps:
    """Return Lion: the sign of an interpolation between gradient and momentum (Chen et al. 2023, arXiv 2302.06675).

    `beta1` interpolates and `beta2` decays the momentum. Its updates have size 1 in every coordinate, so it is usually
    given a third to a tenth of AdamW's learning rate, and as many times its weight decay.
    """
    momentum = optax.scale_by_lion(b1=optim.beta1, b2=optim.beta2)
    return momentum, _decay(optim, decayed), optax.scale_by_learning_rate(learning_rate)


def _adam(optim: OptimConfig) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=optim.beta1, b2=optim.beta2, eps=optim.eps)


def _decay(optim: OptimConfig, decayed: Any) -> optax.GradientTransformation:
    return optax.add_decayed_weights(optim.weight_decay, mask=decayed)
