"""Blocked causal attention equals the plain formula, with packed documents and without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.ops.attention import causal_attention, reference_causal_attention
from tests.support.ops_checks import assert_same_values_and_gradients, few_examples, qkv_inputs, random_segments


@few_examples
@given(
    length=st.integers(1, 100),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.none() | st.integers(0, 9),
)
@example(length=77, kv_heads=2, group=3, dtype="float32", seed=None)
@example(length=77, kv_heads=2, group=3, dtype="float32", seed=0)
@example(length=77, kv_heads=2, group=3, dtype="bfloat16", seed=1)
def test_blocked_equals_reference_in_values_and_gradients(length, kv_heads, group, dtype, seed):
    qkv = qkv_inputs(2, length, kv_heads, group, 8, dtype)
    segments_BT = None if seed is None else random_segments(2, length, seed)
    tolerance = 2e-5 if dtype == "float32" else 3e-2
    assert_same_values_and_gradients(causal_attention, reference_causal_attention, qkv, segments_BT, tolerance)


def test_reference_equals_jax_dot_product_attention():
    q, k, v = qkv_inputs(2, 20, 2, 3, 16)
    expected = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(reference_causal_attention(q, k, v), expected, atol=1e-5)
    segments_BT = random_segments(2, 20, 0)
    same = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
    expected = jax.nn.dot_product_attention(q, k, v, mask=same, is_causal=True)
    np.testing.assert_allclose(reference_causal_attention(q, k, v, segments_BT), expected, atol=1e-5)


def test_refuses_what_cannot_run_here():
    qkv = qkv_inputs(1, 4, 1, 1, 8)
    segments_BT = jnp.zeros((1, 4), jnp.int32)
    with pytest.raises(LosslineError, match=r"cudnn.*needs an NVIDIA GPU.*here 'cpu' and 'float32'; use impl 'xla'"):
        causal_attention(*qkv, impl="cudnn")
    with pytest.raises(LosslineError, match=r"cudnn.*packed documents.*use impl 'xla'"):
        causal_attention(*qkv, impl="cudnn", segments_BT=segments_BT)
    with pytest.raises(LosslineError, match=r"splash.*needs a TPU, here 'cpu'; use impl 'xla'"):
        causal_attention(*qkv, impl="splash")
    with pytest.raises(LosslineError, match="'flash' is not one of"):
        causal_attention(*qkv, impl="flash")
