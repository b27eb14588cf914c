"""The chunked scans equal the recurrences in values and gradients, with packed documents and without."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from lossline_jax.ops.selective_scan import selective_scan, selective_scan_reference
from lossline_jax.ops.ssd import ssd, ssd_reference
from tests.support.ops_checks import (
    assert_same_values_and_gradients,
    few_examples,
    random_segments,
    selective_inputs,
    ssd_inputs,
)

TOLERANCES = {"float32": 2e-5, "bfloat16": 5e-2}
dtypes = st.sampled_from(list(TOLERANCES))
segment_seeds = st.none() | st.integers(0, 9)


def segments_of(inputs, seed):
    return None if seed is None else random_segments(*inputs[0].shape[:2], seed)


@few_examples
@given(
    length=st.integers(1, 40),
    chunk_size=st.integers(1, 48),
    groups=st.integers(1, 2),
    heads_a_group=st.integers(1, 2),
    dtype=dtypes,
    seed=segment_seeds,
)
@example(length=37, chunk_size=8, groups=2, heads_a_group=2, dtype="float32", seed=None)
@example(length=37, chunk_size=8, groups=2, heads_a_group=2, dtype="float32", seed=0)
@example(length=37, chunk_size=8, groups=2, heads_a_group=2, dtype="bfloat16", seed=1)
def test_ssd_equals_its_recurrence(length, chunk_size, groups, heads_a_group, dtype, seed):
    inputs = ssd_inputs(2, length, groups, heads_a_group, 3, 4, dtype)
    chunked = functools.partial(ssd, chunk_size=chunk_size)
    assert_same_values_and_gradients(chunked, ssd_reference, inputs, segments_of(inputs, seed), TOLERANCES[dtype])


@few_examples
@given(
    length=st.integers(1, 24),
    chunk_size=st.integers(1, 5),
    state=st.integers(1, 5),
    dtype=dtypes,
    seed=segment_seeds,
)
@example(length=23, chunk_size=4, state=5, dtype="float32", seed=None)
@example(length=23, chunk_size=4, state=5, dtype="float32", seed=0)
@example(length=23, chunk_size=4, state=5, dtype="bfloat16", seed=1)
def test_selective_scan_equals_its_recurrence(length, chunk_size, state, dtype, seed):
    inputs = selective_inputs(2, length, 6, state, dtype)
    chunked = functools.partial(selective_scan, chunk_size=chunk_size)
    segments_BT = segments_of(inputs, seed)
    assert_same_values_and_gradients(chunked, selective_scan_reference, inputs, segments_BT, TOLERANCES[dtype])


def test_ssd_reference_equals_a_loop_in_numpy():
    inputs = ssd_inputs(1, 7, 1, 2, 3, 4)
    x, dt, a, b, c = (np.asarray(z, np.float64) for z in inputs)

    def loop(segments):
        expected = np.zeros_like(x)
        for n in range(2):
            h = np.zeros((3, 4))
            for t in range(7):
                if t and segments[t] != segments[t - 1]:
                    h = np.zeros((3, 4))
                h = np.exp(dt[0, t, n] * a[n]) * h + dt[0, t, n] * np.outer(x[0, t, n], b[0, t, 0])
                expected[0, t, n] = h @ c[0, t, 0]
        return expected

    assert_equals_the_loop(ssd_reference, loop, inputs)


def test_selective_scan_reference_equals_a_loop_in_numpy():
    inputs = selective_inputs(1, 7, 3, 4)
    x, dt, a, b, c = (np.asarray(z, np.float64) for z in inputs)

    def loop(segments):
        h, expected = np.zeros((4, 3)), np.zeros_like(x)
        for t in range(7):
            if t and segments[t] != segments[t - 1]:
                h = np.zeros((4, 3))
            h = np.exp(dt[0, t] * a) * h + np.outer(b[0, t], dt[0, t] * x[0, t])
            expected[0, t] = c[0, t] @ h
        return expected

    assert_equals_the_loop(selective_scan_reference, loop, inputs)


def assert_equals_the_loop(reference, loop, inputs):
    segments = [3, 3, 4, 8, 8, 8, 9]
    np.testing.assert_allclose(reference(*inputs), loop([0] * 7), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        reference(*inputs, segments_BT=jnp.asarray([segments])), loop(segments), rtol=1e-5, atol=1e-6
    )


def test_ssd_gradients_are_finite_where_masked_decays_overflow():
    inputs = ssd_inputs(1, 64, 1, 2, 4, 4, rate=100.0)
    gradient = jax.jit(jax.grad(lambda inputs, segments: jnp.sum(ssd(*inputs, chunk_size=64, segments_BT=segments))))
    for segments_BT in (None, random_segments(1, 64, 0)):
        leaves = jax.tree.leaves(gradient(inputs, segments_BT))
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)
