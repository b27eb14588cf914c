"""Blocked causal attention against the plain formula, and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.ops.attention import causal_attention, reference_causal_attention


def random_qkv(batch, length, kv_heads, group, head_dim, dtype, seed=0):
    shapes = [(batch, length, n, head_dim) for n in (kv_heads * group, kv_heads, kv_heads)]
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(attention, qkv):
    def loss(*qkv):
        return jnp.sum(jnp.sin(attention(*qkv).astype(jnp.float32)))

    return attention(*qkv), jax.grad(loss, argnums=(0, 1, 2))(*qkv)


@settings(max_examples=3, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    length=st.integers(1, 100),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
@example(length=77, kv_heads=2, group=3, dtype="float32")
def test_blocked_equals_reference_in_values_and_gradients(length, kv_heads, group, dtype):
    qkv = random_qkv(2, length, kv_heads, group, 8, dtype)
    exact = [x.astype(jnp.float32) for x in qkv]
    tolerance = 2e-5 if dtype == "float32" else 6e-2
    blocked = value_and_gradients(causal_attention, qkv)
    expected = value_and_gradients(reference_causal_attention, exact)
    assert blocked[0].dtype == jnp.dtype(dtype)
    for ours, theirs in zip(jax.tree.leaves(blocked), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=tolerance, rtol=tolerance)


def test_equals_jax_dot_product_attention():
    q, k, v = random_qkv(2, 65, 2, 3, 16, "float32")
    expected = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(jax.jit(causal_attention)(q, k, v), expected, atol=1e-5)


def test_refuses_what_cannot_run_here():
    qkv = random_qkv(1, 4, 1, 1, 8, "float32")
    with pytest.raises(LosslineError, match=r"cudnn.*needs an NVIDIA GPU"):
        causal_attention(*qkv, impl="cudnn")
    with pytest.raises(LosslineError, match="'flash' is not one of"):
        causal_attention(*qkv, impl="flash")
