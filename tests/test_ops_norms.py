"""RMSNorm and rotary positions against numpy written from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.rope import apply_rope, rope_tables


def test_rms_norm_equals_the_formula():
    rng = np.random.default_rng(0)
    x_BTD, scale_D = rng.normal(size=(2, 3, 8)), rng.normal(size=8)
    expected = x_BTD / np.sqrt((x_BTD**2).mean(-1, keepdims=True) + 1e-5) * scale_D
    np.testing.assert_allclose(rms_norm(jnp.float32(x_BTD), jnp.float32(scale_D), 1e-5), expected, rtol=1e-5)


def test_rms_norm_of_bfloat16_is_computed_in_float32():
    x_BD = jnp.float32(np.random.default_rng(1).normal(size=(4, 64)) * 100).astype(jnp.bfloat16)
    out = rms_norm(x_BD, jnp.ones(64), 1e-5)
    exact = rms_norm(x_BD.astype(jnp.float32), jnp.ones(64), 1e-5)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


def test_rope_is_a_rotation_of_complex_pairs():
    length, head_dim, theta = 7, 6, 100.0
    x_BTNH = np.random.default_rng(2).normal(size=(2, length, 3, head_dim))
    pairs = x_BTNH[..., : head_dim // 2] + 1j * x_BTNH[..., head_dim // 2 :]
    frequency = theta ** (-2 * np.arange(head_dim // 2) / head_dim)
    rotated = pairs * np.exp(1j * np.arange(length)[:, None] * frequency)[None, :, None, :]
    out = apply_rope(jnp.float32(x_BTNH), *rope_tables(length, head_dim, theta))
    np.testing.assert_allclose(out, np.concatenate([rotated.real, rotated.imag], -1), atol=1e-5)


@pytest.mark.parametrize("shift", [1, 5])
def test_rope_scores_depend_on_the_distance_alone(shift):
    q, k = jax.random.normal(jax.random.key(3), (2, 1, 1, 1, 16))
    tables = rope_tables(20, 16, 10_000.0)

    def at(x, position):
        return apply_rope(x, *(table[position : position + 1] for table in tables))

    score = jnp.vdot(at(q, 9), at(k, 2))
    np.testing.assert_allclose(jnp.vdot(at(q, 9 + shift), at(k, 2 + shift)), score, rtol=1e-4)
