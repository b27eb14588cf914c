"""The short causal convolution equals numpy, document by document, in values and gradients."""

import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.ops.conv import causal_depthwise_conv
from tests.support.ops_checks import assert_same_values_and_gradients, normals, random_segments


def by_shifts(x_BTE, kernel_WE, bias_E, segments_BT):
    """Compute the convolution tap by tap: position t reads t - shift if both are in one document."""
    positions_T = jnp.arange(x_BTE.shape[1])
    y_BTE = jnp.zeros_like(x_BTE) + bias_E[None, None, :]
    for shift in range(kernel_WE.shape[0]):
        source_T = positions_T - shift
        same_BT = (source_T >= 0)[None] & (segments_BT[:, source_T] == segments_BT)
        y_BTE += jnp.where(same_BT[..., None], x_BTE[:, source_T] * kernel_WE[-1 - shift][None, None], 0)
    return y_BTE


@pytest.mark.slow
@pytest.mark.parametrize(("length", "width", "dtype"), [(9, 4, "float32"), (3, 4, "float32"), (12, 2, "bfloat16")])
@pytest.mark.parametrize("seed", [None, 0])
def test_equals_every_tap_written_out(length, width, dtype, seed):
    inputs = normals(0, [(2, length, 3), (width, 3), (3,)], dtype)
    segments_BT = None if seed is None else random_segments(2, length, seed)
    tolerance = 1e-6 if dtype == "float32" else 3e-2
    assert_same_values_and_gradients(causal_depthwise_conv, by_shifts, inputs, segments_BT, tolerance)


@pytest.mark.parametrize("bias", [False, True])
def test_equals_numpy(bias):
    rng = np.random.default_rng(0)
    x_BTE, kernel_WE, bias_E = rng.normal(size=(2, 9, 3)), rng.normal(size=(4, 3)), rng.normal(size=3)
    expected = np.stack(
        [[np.convolve(x_BTE[b, :, e], kernel_WE[::-1, e])[:9] for e in range(3)] for b in range(2)]
    ).transpose(0, 2, 1)
    out = causal_depthwise_conv(jnp.float32(x_BTE), jnp.float32(kernel_WE), jnp.float32(bias_E) if bias else None)
    np.testing.assert_allclose(out, expected + bias * bias_E, rtol=1e-5, atol=1e-6)
