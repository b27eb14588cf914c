"""Rounding of weights to few bits, with a gradient that ignores the rounding."""

import jax
import jax.numpy as jnp


def fake_quantise(weight: jax.Array, bits: int, num_contracted: int) -> jax.Array:
    """Round a weight to 2^bits - 1 equally spaced values, symmetric about 0, per output channel.

    The largest value of a channel is its largest absolute weight. The gradient is that of the weight itself (the
    straight-through estimator, Bengio et al. 2013, arXiv 1308.3432), as in Kumar et al. 2024 (arXiv 2411.04330).

    Args:
        weight: [I..., O...].
        bits: at least 2.
        num_contracted: the number of axes I, over which an output channel sums.
    """
    axes = tuple(range(num_contracted))
    largest = 2 ** (bits - 1) - 1
    scale = jnp.max(jnp.abs(weight), axis=axes, keepdims=True) / largest
    rounded = jnp.round(weight / jnp.maximum(scale, jnp.finfo(weight.dtype).tiny)) * scale
    return weight + jax.lax.stop_gradient(rounded - weight)
