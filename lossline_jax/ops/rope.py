"""Rotary position embedding (Su et al. 2021), in the rotate-half layout of Hugging Face's Llama."""

import jax
import jax.numpy as jnp


def rope_tables(num_positions: int, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of `position * theta^(-2i / head_dim)`, float32 of shape [T, H/2]."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = jnp.arange(num_positions, dtype=jnp.float32)[:, None] * frequencies[None, :]
    return jnp.cos(angles), jnp.sin(angles)


def apply_rope(x_BTNH: jax.Array, cosine_TF: jax.Array, sine_TF: jax.Array) -> jax.Array:
    """Rotate the pairs (i, i + H/2) of every head by the angles of its position.

    Args:
        x_BTNH: queries or keys; H even.
        cosine_TF, sine_TF: from `rope_tables`, F = H/2.

    Returns:
        The dtype and shape of `x_BTNH`; the rotation is computed in float32.
    """
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    cosine, sine = cosine_TF[None, :, None, :], sine_TF[None, :, None, :]
    rotated = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate(rotated, axis=-1).astype(x_BTNH.dtype)
