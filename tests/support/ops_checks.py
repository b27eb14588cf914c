"""Make random inputs and documents for the sequence ops, and compare their values and gradients in one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import Phase, settings

few_examples = settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])


def normals(seed, shapes, dtype="float32"):
    rng = np.random.default_rng(seed)  # jax.random would compile once for each shape
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def qkv_inputs(batch, length, kv_heads, group, head_dim, dtype="float32"):
    return normals(length, [(batch, length, n, head_dim) for n in (kv_heads * group, kv_heads, kv_heads)], dtype)


def ssd_inputs(batch, length, groups, heads_a_group, head_dim, state, dtype="float32", rate=1.0):
    heads = groups * heads_a_group
    x, b, c = normals(length, [(batch, length, heads, head_dim)] + 2 * [(batch, length, groups, state)], dtype)
    dt, a = normals(length + 1, [(batch, length, heads), (heads,)])
    return [x, jax.nn.softplus(dt), -rate * jnp.exp(a), b, c]


def selective_inputs(batch, length, channels, state, dtype="float32"):
    x, b, c = normals(length, [(batch, length, channels)] + 2 * [(batch, length, state)], dtype)
    dt, a = normals(length + 1, [(batch, length, channels), (state, channels)])
    return [x, jax.nn.softplus(dt), -jnp.exp(a), b, c]


def random_segments(batch, length, seed):
    """Return random document numbers, which never fall within a row.

    Rows have different documents, and some documents have one position. Numbers start anywhere and may skip.
    """
    steps = np.random.default_rng(seed).choice([0, 0, 0, 1, 5], (batch, length))
    return jnp.asarray(np.cumsum(steps, axis=1), jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(op, inputs, weights, segments_BT=None):
    """Return `op(*inputs, segments_BT)` and the gradients of its product with `weights`, all in one list."""
    value, pull = jax.vjp(lambda *inputs: op(*inputs, segments_BT=segments_BT), *inputs)
    return [value, *pull(weights.astype(value.dtype))]


def assert_same_values_and_gradients(fast, reference, inputs, segments_BT, tolerance):
    """Check `fast` against `reference`, which gets the inputs in float32 and documents of one number for None.

    Errors are relative to the largest entry. They may grow with the square root of the number of entries of the first
    input that a gradient sums. For the decay rates these are all positions.
    """
    (weights,) = normals(0, [inputs[0].shape])
    weights = weights.astype(inputs[0].dtype).astype(jnp.float32)
    exact = [x.astype(jnp.float32) for x in inputs]
    same_document = jnp.zeros(inputs[0].shape[:2], jnp.int32)
    results = value_and_gradients(fast, inputs, weights, segments_BT)
    references = value_and_gradients(reference, exact, weights, same_document if segments_BT is None else segments_BT)
    assert results[0].dtype == inputs[0].dtype
    for result, expected in zip(results, references, strict=True):
        assert result.shape == expected.shape
        error = jnp.max(jnp.abs(result.astype(jnp.float32) - expected))
        summed = max(1, inputs[0].size // expected.size)
        assert error <= tolerance * summed**0.5 * (1 + jnp.max(jnp.abs(expected)))
