"""Rounded weights take equally spaced values of their own channel, and the gradient ignores the rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.ops.quantise import fake_quantise


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("num_contracted", [1, 2])
def test_each_channel_is_rounded_to_the_nearest_of_its_values(bits, num_contracted):
    weight = np.random.default_rng(bits).normal(size=(6, 4, 5)).astype(np.float32)
    rounded = np.asarray(fake_quantise(jnp.asarray(weight), bits, num_contracted))
    channels = weight.reshape(np.prod(weight.shape[:num_contracted]), -1).T
    for channel, values in zip(channels, rounded.reshape(channels.shape[1], -1).T, strict=True):
        half = 2 ** (bits - 1) - 1
        allowed = np.arange(-half, half + 1) * np.abs(channel).max() / half
        nearest = allowed[np.abs(channel[:, None] - allowed).argmin(axis=1)]
        np.testing.assert_allclose(values, nearest, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_weight_itself():
    weight, factor = jnp.linspace(-1, 1, 12).reshape(4, 3), jnp.arange(12.0).reshape(4, 3)
    grad = jax.grad(lambda w: jnp.sum(factor * fake_quantise(w, 3, 1)))(weight)
    np.testing.assert_array_equal(grad, factor)


def test_a_channel_of_zeros_stays_zero():
    np.testing.assert_array_equal(fake_quantise(jnp.zeros((3, 2)), 4, 1), np.zeros((3, 2)))
