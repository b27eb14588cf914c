"""RMS normalisation (Zhang & Sennrich 2019)."""

import jax
import jax.numpy as jnp


def rms_norm(x_BTD: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """`x / sqrt(mean(x^2) + eps) * scale` over the last axis, computed in float32.

    Args:
        x_BTD: any number of leading axes.
        scale_D: as long as the last axis of `x_BTD`.
        eps: added to the mean square.

    Returns:
        The dtype and shape of `x_BTD`.
    """
    x = x_BTD.astype(jnp.float32)
    inverse_rms = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    scale = scale_D.astype(jnp.float32).reshape((1,) * (x.ndim - 1) + (-1,))
    return (x * inverse_rms * scale).astype(x_BTD.dtype)
