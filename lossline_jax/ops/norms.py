"""RMS normalisation (Zhang & Sennrich 2019) and layer normalisation (Ba et al. 2016)."""

import jax
import jax.numpy as jnp


def rms_norm(x_BTD: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """Return `x / sqrt(mean(x^2) + eps) * scale` over the last axis, computed in float32.

    Args:
        x_BTD: inputs with any number of leading axes.
        scale_D: shaped like the last axis of `x_BTD`, or like its last axes if each row has its own scale.
        eps: added to the mean square.

    Returns:
        The dtype and shape of `x_BTD`.
    """
    x = x_BTD.astype(jnp.float32)
    inverse_rms = jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)
    return (x * inverse_rms * _last_axes(scale_D, x.ndim)).astype(x_BTD.dtype)


def layer_norm(x_BTD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, eps: float) -> jax.Array:
    """Return `(x - mean(x)) / sqrt(var(x) + eps) * scale + bias` over the last axis, computed in float32.

    Args:
        x_BTD: inputs with any number of leading axes.
        scale_D: as long as the last axis of `x_BTD`.
        bias_D: as long as the last axis of `x_BTD`.
        eps: added to the variance, which divides by D (not D - 1), as in PyTorch.

    Returns:
        The dtype and shape of `x_BTD`.
    """
    x = x_BTD.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse_deviation = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + eps)
    scale, bias = _last_axes(scale_D, x.ndim), _last_axes(bias_D, x.ndim)
    return (centred * inverse_deviation * scale + bias).astype(x_BTD.dtype)


def _last_axes(scale_D: jax.Array, ndim: int) -> jax.Array:
    return scale_D.astype(jnp.float32).reshape((1,) * (ndim - scale_D.ndim) + scale_D.shape)
