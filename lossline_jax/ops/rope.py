"""Rotary position embedding (Su et al. 2021), in the rotate-half layout of Hugging Face's Llama."""

import math
from typing import Protocol

import jax
import jax.numpy as jnp

from lossline_jax.ops.prefix_tree import PrefixTree


class Llama3Scaling(Protocol):
    """The fields of a config that `llama3_scaled_frequencies` reads."""

    @property
    def factor(self) -> float:
        """The factor by which long waves are stretched."""
        ...

    @property
    def low_freq_factor(self) -> float:
        """Waves with fewer turns than this in the original context are stretched by the full factor."""
        ...

    @property
    def high_freq_factor(self) -> float:
        """Waves with more turns than this in the original context are not stretched."""
        ...

    @property
    def original_context_length(self) -> int:
        """The number of positions of the pretraining."""
        ...


def rope_tables(
    num_positions: int,
    head_dim: int,
    theta: float,
    scaling: Llama3Scaling | None = None,
    *,
    tree: PrefixTree | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return cosine and sine of `position * theta^(-2i / head_dim)`, float32 [T, F], or [B, T, F] with a tree.

    Args:
        num_positions: T.
        head_dim: number of channels that are rotated, even. F is half of it. For partial rotary, it is smaller than
            the head.
        theta: the base of the wavelengths.
        scaling: the settings of `llama3_scaled_frequencies`. None: the frequencies are not scaled.
        tree: the positions that texts share. Each text is rotated as if it were alone. None: each row is one text.
    """
    frequencies_F = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    if scaling is not None:
        frequencies_F = llama3_scaled_frequencies(frequencies_F, scaling)
    if tree is None:
        angles_TF = jnp.arange(num_positions, dtype=jnp.float32)[:, None] * frequencies_F[None, :]
        return jnp.cos(angles_TF), jnp.sin(angles_TF)
    angles_BTF = tree.depth_BT.astype(jnp.float32)[:, :, None] * frequencies_F[None, None, :]
    return jnp.cos(angles_BTF), jnp.sin(angles_BTF)


def llama3_scaled_frequencies(frequencies_F: jax.Array, scaling: Llama3Scaling) -> jax.Array:
    """Return the long-context frequencies of Llama 3.1 (Hugging Face's `_compute_llama3_parameters`).

    A wave with less than `low_freq_factor` turns in the original context is slowed by `factor`. A wave with more than
    `high_freq_factor` turns stays as it is. In between, the frequency is linear in the number of turns.

    Args:
        frequencies_F: radians per position.
        scaling: see `Llama3Scaling`.
    """
    turns_F = scaling.original_context_length * frequencies_F / (2 * math.pi)
    kept_F = (turns_F - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept_F = jnp.clip(kept_F, 0.0, 1.0)
    return frequencies_F * (kept_F + (1 - kept_F) / scaling.factor)


def apply_rope(x_BTNH: jax.Array, cosine_TF: jax.Array, sine_TF: jax.Array) -> jax.Array:
    """Rotate the pairs (i, i + F) of the first 2F channels of every head by the angles of the position.

    Args:
        x_BTNH: queries or keys; H is at least 2F. Channels from 2F on stay unchanged (partial rotary).
        cosine_TF: from `rope_tables`; may have an axis of rows in front.
        sine_TF: from `rope_tables`; may have an axis of rows in front.

    Returns:
        The dtype and shape of `x_BTNH`; the rotation is computed in float32.
    """
    num_rotated = 2 * cosine_TF.shape[-1]
    first, second = jnp.split(x_BTNH[..., :num_rotated].astype(jnp.float32), 2, axis=-1)
    same_for_all_heads = (-1, x_BTNH.shape[1], 1, num_rotated // 2)
    cosine, sine = cosine_TF.reshape(same_for_all_heads), sine_TF.reshape(same_for_all_heads)
    rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    rotated = rotated.astype(x_BTNH.dtype)
    if num_rotated == x_BTNH.shape[-1]:
        return rotated
    return jnp.concatenate([rotated, x_BTNH[..., num_rotated:]], axis=-1)
