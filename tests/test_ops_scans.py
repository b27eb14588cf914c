"""The chunked scans against the recurrences, in values and gradients; the convolution against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.selective_scan import selective_scan, selective_scan_reference
from lossline_jax.ops.ssd import ssd, ssd_reference

few_examples = settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate])


def ssd_inputs(batch, length, groups, heads_a_group, head_dim, state, dtype="float32", rate=1.0):
    keys = jax.random.split(jax.random.key(length), 5)
    heads = groups * heads_a_group

    def normal(key, *shape):
        return jax.random.normal(key, shape)

    return (
        normal(keys[0], batch, length, heads, head_dim).astype(dtype),
        jax.nn.softplus(normal(keys[1], batch, length, heads)),
        -rate * jnp.exp(normal(keys[2], heads)),
        normal(keys[3], batch, length, groups, state).astype(dtype),
        normal(keys[4], batch, length, groups, state).astype(dtype),
    )


def selective_inputs(batch, length, channels, state, dtype="float32"):
    keys = jax.random.split(jax.random.key(length), 5)

    def normal(key, *shape):
        return jax.random.normal(key, shape)

    return (
        normal(keys[0], batch, length, channels).astype(dtype),
        jax.nn.softplus(normal(keys[1], batch, length, channels)),
        -jnp.exp(normal(keys[2], state, channels)),
        normal(keys[3], batch, length, state).astype(dtype),
        normal(keys[4], batch, length, state).astype(dtype),
    )


def assert_same_values_and_gradients(fast, reference, inputs, tolerance):
    """`reference` sees the inputs in float32.

    Errors are relative to the largest entry, and may grow as the square root of how many entries of x a
    gradient sums up (all positions, for the decay rates).
    """
    weights = jax.random.normal(jax.random.key(0), inputs[0].shape)
    exact = tuple(x.astype(jnp.float32) for x in inputs)

    def run(scan, args):
        def loss(*args):
            return jnp.sum(weights * scan(*args))

        return scan(*args), jax.grad(loss, argnums=tuple(range(5)))(*args)

    ours, theirs = (
        jax.jit(run, static_argnums=0)(fast, inputs),
        jax.jit(run, static_argnums=0)(reference, exact),
    )
    assert ours[0].dtype == inputs[0].dtype
    for mine, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert mine.shape == expected.shape
        error = jnp.max(jnp.abs(mine.astype(jnp.float32) - expected))
        summed = max(1, inputs[0].size // expected.size)
        assert error <= tolerance * summed**0.5 * (1 + jnp.max(jnp.abs(expected)))


@few_examples
@given(
    length=st.integers(1, 40),
    chunk_size=st.integers(1, 48),
    groups=st.integers(1, 2),
    heads_a_group=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
@example(length=37, chunk_size=8, groups=2, heads_a_group=2, dtype="float32")
def test_ssd_equals_its_recurrence(length, chunk_size, groups, heads_a_group, dtype):
    inputs = ssd_inputs(2, length, groups, heads_a_group, 3, 4, dtype)

    def chunked(*args):
        return ssd(*args, chunk_size)

    assert_same_values_and_gradients(chunked, ssd_reference, inputs, 2e-5 if dtype == "float32" else 5e-2)


@few_examples
@given(
    length=st.integers(1, 24),
    chunk_size=st.integers(1, 5),
    state=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
@example(length=23, chunk_size=4, state=5, dtype="float32")
def test_selective_scan_equals_its_recurrence(length, chunk_size, state, dtype):
    inputs = selective_inputs(2, length, 6, state, dtype)

    def chunked(*args):
        return selective_scan(*args, chunk_size)

    tolerance = 2e-5 if dtype == "float32" else 5e-2
    assert_same_values_and_gradients(chunked, selective_scan_reference, inputs, tolerance)


def test_ssd_reference_equals_a_loop_in_numpy():
    x, dt, a, b, c = (np.asarray(z, np.float64) for z in ssd_inputs(1, 5, 1, 2, 3, 4))
    expected = np.zeros_like(x)
    for n in range(2):
        h = np.zeros((3, 4))
        for t in range(5):
            h = np.exp(dt[0, t, n] * a[n]) * h + dt[0, t, n] * np.outer(x[0, t, n], b[0, t, 0])
            expected[0, t, n] = h @ c[0, t, 0]
    np.testing.assert_allclose(ssd_reference(*ssd_inputs(1, 5, 1, 2, 3, 4)), expected, rtol=1e-5, atol=1e-6)


def test_selective_scan_reference_equals_a_loop_in_numpy():
    inputs = selective_inputs(1, 5, 3, 4)
    x, dt, a, b, c = (np.asarray(z, np.float64) for z in inputs)
    h, expected = np.zeros((4, 3)), np.zeros_like(x)
    for t in range(5):
        h = np.exp(dt[0, t] * a) * h + np.outer(b[0, t], dt[0, t] * x[0, t])
        expected[0, t] = c[0, t] @ h
    np.testing.assert_allclose(selective_scan_reference(*inputs), expected, rtol=1e-5, atol=1e-6)


def test_ssd_gradients_are_finite_where_masked_decays_overflow():
    inputs = ssd_inputs(1, 64, 1, 2, 4, 4, rate=100.0)
    gradients = jax.jit(jax.grad(lambda *args: jnp.sum(ssd(*args, 64)), argnums=(0, 1, 2, 3, 4)))(*inputs)
    assert all(bool(jnp.all(jnp.isfinite(gradient))) for gradient in gradients)


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_equals_numpy(bias):
    rng = np.random.default_rng(0)
    x_BTE, kernel_WE, bias_E = rng.normal(size=(2, 9, 3)), rng.normal(size=(4, 3)), rng.normal(size=3)
    expected = np.stack(
        [[np.convolve(x_BTE[b, :, e], kernel_WE[::-1, e])[:9] for e in range(3)] for b in range(2)]
    ).transpose(0, 2, 1)
    out = causal_depthwise_conv(jnp.float32(x_BTE), jnp.float32(kernel_WE), jnp.float32(bias_E) if bias else None)
    np.testing.assert_allclose(out, expected + bias * bias_E, rtol=1e-5, atol=1e-6)
