"""RMSNorm, LayerNorm and rotary positions equal numpy code that follows the formulas."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.ops.norms import layer_norm, rms_norm
from lossline_jax.ops.rope import apply_rope, llama3_scaled_frequencies, rope_tables

LLAMA_31 = SimpleNamespace(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192)


def test_rms_norm_equals_the_formula():
    rng = np.random.default_rng(0)
    x_BTD, scale_D = rng.normal(size=(2, 3, 8)), rng.normal(size=8)
    expected = x_BTD / np.sqrt((x_BTD**2).mean(-1, keepdims=True) + 1e-5) * scale_D
    np.testing.assert_allclose(rms_norm(jnp.float32(x_BTD), jnp.float32(scale_D), 1e-5), expected, rtol=1e-5)


def test_layer_norm_equals_the_formula_far_from_zero_too():
    rng = np.random.default_rng(0)
    x_BTD, scale_D, bias_D = 1000 + rng.normal(size=(2, 3, 8)), rng.normal(size=8), rng.normal(size=8)
    x_BTD = np.float32(x_BTD).astype(np.float64)
    centred = x_BTD - x_BTD.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale_D + bias_D
    out = layer_norm(jnp.float32(x_BTD), jnp.float32(scale_D), jnp.float32(bias_D), 1e-5)
    np.testing.assert_allclose(out, expected, atol=2e-4)


def without_bias(x_BTD, scale_D, eps):
    return layer_norm(x_BTD, scale_D, jnp.zeros_like(scale_D), eps)


@pytest.mark.parametrize("norm", [rms_norm, without_bias])
def test_norms_of_bfloat16_are_computed_in_float32(norm):
    x_BD = jnp.float32(np.random.default_rng(1).normal(size=(4, 64)) * 100).astype(jnp.bfloat16)
    out = norm(x_BD, jnp.ones(64), 1e-5)
    exact = norm(x_BD.astype(jnp.float32), jnp.ones(64), 1e-5)
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


def test_partial_rope_rotates_the_first_channels_and_passes_the_rest():
    x_BTNH = jax.random.normal(jax.random.key(4), (2, 7, 3, 12)).astype(jnp.bfloat16)
    tables = rope_tables(7, 4, 100.0)
    out = apply_rope(x_BTNH, *tables)
    np.testing.assert_array_equal(out[..., :4], apply_rope(x_BTNH[..., :4], *tables))
    np.testing.assert_array_equal(out[..., 4:], x_BTNH[..., 4:])


def test_llama3_scaling_equals_the_formula_by_wavelength():
    frequencies_F = 500_000.0 ** (-np.arange(0, 128, 2) / 128)
    expected = []
    for frequency in frequencies_F:  # as in transformers, modeling_rope_utils._compute_llama3_parameters
        wavelength = 2 * math.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(frequency)
        elif wavelength > 8192 / 1.0:
            expected.append(frequency / 8.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
    scaled_F = llama3_scaled_frequencies(jnp.float32(frequencies_F), LLAMA_31)
    np.testing.assert_allclose(scaled_F, expected, rtol=1e-6)
    kept = np.asarray(expected) / frequencies_F
    assert sum(kept == 1) > 10
    assert sum(kept == 0.125) > 10
    assert sum((kept < 0.99) & (kept > 0.13)) > 3
    cosine_TF, _ = rope_tables(3, 128, 500_000.0, LLAMA_31)
    np.testing.assert_allclose(cosine_TF[2], np.cos(2 * np.float32(expected)), atol=1e-6)
