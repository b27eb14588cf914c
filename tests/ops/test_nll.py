"""Chunked NLL equals the NLL of optax in values and gradients, and needs less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.ops.nll import target_scores, token_nll


def inputs(batch=2, length=23, width=8, vocab=40, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return (
        jax.random.normal(keys[0], (batch, length, width)),
        jax.random.normal(keys[1], (width, vocab)),
        jax.random.randint(keys[2], (batch, length), 0, vocab),
    )


@pytest.mark.slow
@pytest.mark.parametrize("chunk_length", [None, 1, 8, 23, 100])
def test_equals_optax_in_values_and_gradients(chunk_length):
    x_BTD, unembed_DV, targets_BT = inputs()

    def compute_with_optax(x, w):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, targets_BT)

    def compute_by_chunks(x, w):
        return token_nll(x, w, targets_BT, chunk_length)

    def run(nll):
        def loss(*args):
            return jnp.sum(nll(*args) * jnp.arange(23.0)[None, :])

        def values_and_gradients(*args):
            return (nll(*args), jax.grad(loss, argnums=(0, 1))(*args))

        return jax.tree.leaves(jax.jit(values_and_gradients)(x_BTD, unembed_DV))

    for actual, expected in zip(run(compute_by_chunks), run(compute_with_optax), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_states_give_float32_nll():
    x_BTD, unembed_DV, targets_BT = inputs()
    nll_BT = token_nll(x_BTD.astype(jnp.bfloat16), unembed_DV, targets_BT, 8)
    assert nll_BT.dtype == jnp.float32
    np.testing.assert_allclose(nll_BT, token_nll(x_BTD, unembed_DV, targets_BT), rtol=0.05, atol=0.1)


def test_chunks_bound_the_memory_of_forward_and_backward():
    x_BTD, unembed_DV, targets_BT = inputs(batch=2, length=512, vocab=2000)
    logits_bytes = 2 * 512 * 2000 * 4

    def temporaries(chunk_length):
        def loss(x, w):
            return token_nll(x, w, targets_BT, chunk_length).sum()

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x_BTD, unembed_DV).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(None) >= logits_bytes
    assert temporaries(32) < 0.5 * logits_bytes


@pytest.mark.slow
@pytest.mark.parametrize("chunk_length", [None, 8])
def test_a_vocabulary_over_devices_gives_the_same_without_gathering_logits(chunk_length):
    x_BTD, unembed_DV, targets_BT = inputs(batch=4)
    mesh = build_mesh(jax.devices(), data=2, model=4)
    specs = (P("data"), P(None, "model"), P("data"))
    placed = [
        jax.device_put(z, NamedSharding(mesh, spec))
        for z, spec in zip((x_BTD, unembed_DV, targets_BT), specs, strict=True)
    ]
    for score in (token_nll, target_scores):
        step = jax.jit(functools.partial(score, chunk_length=chunk_length))
        for actual, expected in zip(step(*placed), score(x_BTD, unembed_DV, targets_BT), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
        assert "all-gather" not in step.lower(*placed).compile().as_text()


def test_greedy_is_what_argmax_says():
    _, unembed_DV, targets_BT = inputs(vocab=3, length=200)
    x_BTD = jnp.round(inputs(length=200)[0])
    unembed_DV = jnp.round(unembed_DV)  # whole numbers, so that many logits are equal
    likeliest_BT = np.einsum("btd,dv->btv", x_BTD, unembed_DV).argmax(-1)
    scores = jax.jit(target_scores)(x_BTD, unembed_DV, targets_BT)
    np.testing.assert_array_equal(scores.greedy_AS, targets_BT == likeliest_BT)
    assert not target_scores(x_BTD * jnp.nan, unembed_DV, targets_BT).greedy_AS.any()
