"""Texts that share a beginning in one row get the same values as alone, from every op and architecture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import shardings
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.ops.attention import causal_attention
from lossline_jax.ops.conv import causal_depthwise_conv
from lossline_jax.ops.nll import target_scores
from lossline_jax.ops.prefix_tree import build_prefix_tree
from lossline_jax.ops.selective_scan import selective_scan
from lossline_jax.ops.ssd import ssd, ssd_reference
from tests.support.ops_checks import normals, qkv_inputs, selective_inputs, ssd_inputs

LENGTH = 40
VOCAB = 50
CONFIGS = {
    "llama": LlamaConfig(d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, d_ff=48),
    "gpt2": GPT2Config(d_model=32, num_layers=2, num_heads=4, max_positions=LENGTH),
    "gpt_neox": GPTNeoXConfig(d_model=32, num_layers=2, num_heads=2),
    "mamba": MambaConfig(d_model=32, num_layers=2, d_state=4, chunk_size=4),
    "mamba2": Mamba2Config(32, 2, num_heads=4, num_groups=2, d_state=8, d_inner=48, conv_width=4, chunk_size=5),
}

# A tree is a pair: the number of its first positions, and the trees that continue from there. Together the trees have
# queries of two blocks, branches shorter than a convolution, texts without branches, and padding.
SHALLOW = (
    [(13, [(1, []), (1, []), (9, []), (1, [])]), (7, []), (1, [(2, []), (3, [])]), (1, []), (1, [])],
    [(2, [(6, []), (4, [])]), (21, []), (3, [(3, []), (1, [])])],
)
DEEP = [(4, [(2, [(3, []), (1, [(2, []), (2, [])]), (5, [])]), (7, []), (1, [(6, []), (2, [])])]), (5, [])]

CASES = {  # the op, its inputs, the inputs with positions, and the largest number of forks before a position
    "attention": (causal_attention, qkv_inputs(1, LENGTH, 1, 2, 4), (0, 1, 2), 4),
    "conv": (causal_depthwise_conv, normals(0, [(1, LENGTH, 3), (4, 3), (3,)]), (0,), 4),
    "selective_scan": (
        functools.partial(selective_scan, chunk_size=4),
        selective_inputs(1, LENGTH, 3, 2),
        (0, 1, 3, 4),
        1,
    ),
    "ssd": (functools.partial(ssd, chunk_size=4), ssd_inputs(1, LENGTH, 2, 2, 3, 2), (0, 1, 3, 4), 4),
}


def size(tree):
    return tree[0] + sum(map(size, tree[1]))


def until_and_texts(trees):
    """Return `until` of a row of trees, and the positions of each text in it."""
    until, texts = np.empty(sum(map(size, trees)), np.int32), []

    def lay(tree, start, before):
        branches_at = start + tree[0]
        own = np.arange(start, branches_at)
        until[own] = start + size(tree) - 1
        for branch in tree[1]:
            lay(branch, branches_at, [*before, *own])
            branches_at += size(branch)
        if not tree[1]:
            texts.append(np.array([*before, *own]))

    start = 0
    for tree in trees:
        lay(tree, start, [])
        start += size(tree)
    return until, texts


def random_row(seed, forks):
    """Return trees with LENGTH positions in total, and at most `forks` forks on the path to any position."""
    rng = np.random.default_rng(seed)

    def grow(room, forks):
        own = int(rng.integers(1, room + 1))
        branches, left = [], room - own
        while forks and left and rng.random() < 0.8:
            branches.append(grow(int(rng.integers(1, left + 1)), forks - 1))
            left -= size(branches[-1])
        return own, branches

    trees = []
    while (room := LENGTH - sum(map(size, trees))) > 0:
        trees.append(grow(room, forks))
    return trees


def rows_of(trees_by_row):
    untils, texts = zip(*map(until_and_texts, trees_by_row), strict=True)
    # numpy, because jax would compile a look-up for the length of each text
    return jax.device_get(jax.jit(build_prefix_tree)(np.stack(untils))), texts


@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 10**6))
def test_depth_and_parent_are_those_of_the_texts(seed):
    tree, (texts,) = rows_of([random_row(seed, 3)])
    for text in texts:
        np.testing.assert_array_equal(tree.depth_BT[0, text], np.arange(len(text)))
        np.testing.assert_array_equal(tree.parent_BT[0, text], [-1, *text[:-1]])


@functools.partial(jax.jit, static_argnums=0)
def apply(op, inputs, tree=None):
    return op(*inputs, tree=tree)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 10**6))
def test_each_text_of_a_random_row_is_as_if_alone(case, seed):
    op, inputs, along_time, forks = case
    tree, (texts,) = rows_of([random_row(seed, forks)])
    packed = np.asarray(apply(op, inputs, tree))
    # Row i has text i alone at its beginning. The values after it do not matter.
    index = np.stack([np.pad(text, (0, LENGTH - len(text))) for text in texts])
    index = np.pad(index, ((0, LENGTH - len(texts)), (0, 0)))
    alone = np.asarray(apply(op, [x[0][index] if i in along_time else x for i, x in enumerate(inputs)]))
    for text, expected in zip(texts, alone[: len(texts)], strict=True):
        np.testing.assert_allclose(packed[0, text], expected[: len(text)], rtol=1e-5, atol=1e-5)


def test_the_selective_scan_is_not_a_number_behind_a_fork_that_it_cannot_return_to():
    op, inputs, _, _ = CASES["selective_scan"]
    tree, _ = rows_of([[(3, [(2, [(1, []), (1, [])]), (4, [])]), (LENGTH - 11, [])]])
    y_TE = np.asarray(apply(op, inputs, tree))[0]
    assert np.isfinite(y_TE[:7]).all()
    assert np.isnan(y_TE[7:11]).all()


def test_small_decays_survive_large_ones_before_them():
    length = 512
    x, dt, a, b, c = ssd_inputs(1, length, 1, 2, 3, 2)
    dt = dt.at[:, : length // 2].add(20.0)  # sums of log decays reach thousands
    inputs = [x, dt, a, b, c]
    tree = build_prefix_tree(jnp.full((1, length), length - 1, jnp.int32))
    actual = jax.jit(functools.partial(ssd, chunk_size=32, tree=tree))(*inputs)
    expected = jax.jit(ssd_reference)(*inputs)
    assert float(jnp.min(jnp.sum(dt * a[None, None], axis=1))) < -2000
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6 * float(jnp.max(jnp.abs(expected[:, 256:]))))


@functools.cache
def model_and_params(name):
    model = build_model(CONFIGS[name], VOCAB)
    return model, jax.jit(model.init)(jax.random.key(0))


def random_tokens(num_rows, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, (num_rows, LENGTH), np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGS))
def test_hidden_states_of_each_text_are_those_of_the_text_alone(name):
    model, params = model_and_params(name)
    tree, texts_by_row = rows_of(SHALLOW if name == "mamba" else [SHALLOW[0], DEEP])
    tokens_BT = random_tokens(2)
    packed = np.asarray(jax.jit(model.hidden_states)(params, tokens_BT, tree=tree))
    texts = [(row, text) for row, texts in enumerate(texts_by_row) for text in texts]
    alone_BT = np.zeros((len(texts), LENGTH), np.int32)
    for i, (row, text) in enumerate(texts):
        alone_BT[i, : len(text)] = tokens_BT[row, text]
    alone = np.asarray(jax.jit(model.hidden_states)(params, jnp.asarray(alone_BT)))
    for i, (row, text) in enumerate(texts):
        np.testing.assert_allclose(packed[row, text], alone[i, : len(text)], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_target_scores_are_those_of_the_logits_and_no_device_asks_another(name):
    model, params = model_and_params(name)
    rng = np.random.default_rng(1)
    shards, rows_a_shard, slots = 8, 2, 9
    tokens_BT, (tree, _) = random_tokens(shards * rows_a_shard), rows_of(SHALLOW * shards)
    sources_AS = rng.integers(0, rows_a_shard * LENGTH, (shards, slots)).astype(np.int32)
    targets_AS = rng.integers(0, VOCAB, (shards, slots)).astype(np.int32)
    logits_BTV = np.asarray(jax.jit(model.hidden_states)(params, tokens_BT, tree=tree) @ params["unembed"])
    logits_ASV = logits_BTV.reshape(shards, -1, VOCAB)[np.arange(shards)[:, None], sources_AS]
    targets_AS[:, :3] = logits_ASV.argmax(-1)[:, :3]

    def score(params, tokens_BT, sources_AS, targets_AS, tree):
        return model.target_scores(params, tokens_BT, sources_AS, targets_AS, tree=tree)

    mesh = make_mesh(ExecutionConfig())
    assert mesh.shape["data"] == shards
    with jax.set_mesh(mesh):
        rows = jax.device_put((tokens_BT, sources_AS, targets_AS, tree), NamedSharding(mesh, PartitionSpec("data")))
        on_mesh = jax.device_put(params, shardings(model.axes(), mesh, params, fsdp=False))
        program = jax.jit(score).lower(on_mesh, *rows).compile()
        scores = program(on_mesh, *rows)
    assert not any(
        operation in program.as_text() for operation in ("all-gather", "all-reduce", "all-to-all", "permute(")
    )
    np.testing.assert_allclose(scores.nats_AS, nats(logits_ASV, targets_AS), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(scores.greedy_AS, targets_AS == logits_ASV.argmax(-1))
    assert scores.nats_AS.dtype == jnp.float32


def nats(logits_ASV, targets_AS):
    log_p_ASV = jax.nn.log_softmax(logits_ASV)
    return -np.take_along_axis(log_p_ASV, targets_AS[..., None], axis=-1)[..., 0]


def test_target_scores_keep_segments_apart():
    model, params = model_and_params("llama")
    tokens_BT = random_tokens(2)
    segments_BT = jnp.asarray([[0] * 11 + [1] * 29, [3] * 40], jnp.int32)
    sources_AS = jnp.arange(2 * LENGTH, dtype=jnp.int32)[None]
    scores = jax.jit(model.target_scores)(
        params, tokens_BT, sources_AS, tokens_BT.reshape(1, -1), segments_BT=segments_BT
    )
    expected = jax.jit(model.nll)(params, tokens_BT, tokens_BT, segments_BT)
    np.testing.assert_allclose(scores.nats_AS, expected.reshape(1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk_length", [None, 1, 4, 40])
def test_target_scores_by_chunks_know_ties(chunk_length):
    x_ASD, unembed_DV = normals(0, [(2, 11, 4), (4, 7)])
    unembed_DV = jnp.concatenate([unembed_DV, unembed_DV], axis=1)  # tokens k and k + 7 have equal logits
    logits_ASV = np.asarray(jnp.einsum("asd,dv->asv", x_ASD, unembed_DV, precision="highest"))
    best_AS, worst_AS = logits_ASV[..., :7].argmax(-1), logits_ASV[..., :7].argmin(-1)
    targets_AS = np.choose(np.arange(11) % 3, [best_AS, best_AS + 7, worst_AS]).astype(np.int32)
    scores = jax.jit(target_scores, static_argnums=3)(x_ASD, unembed_DV, targets_AS, chunk_length)
    np.testing.assert_allclose(scores.nats_AS, nats(logits_ASV, targets_AS), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scores.greedy_AS, np.broadcast_to(np.arange(11) % 3 == 0, (2, 11)))


def test_refuses_what_cannot_read_trees():
    tree, _ = rows_of(SHALLOW)
    for impl in ("cudnn", "splash"):
        model = build_model(CONFIGS["llama"], VOCAB, attention=impl)
        with pytest.raises(LosslineError, match=rf"'{impl}' cannot read.*use impl 'xla'"):
            model.hidden_states(model_and_params("llama")[1], random_tokens(2), tree=tree)
    model, params = model_and_params("llama")
    with pytest.raises(ValueError, match="segments_BT and tree"):
        model.hidden_states(params, random_tokens(2), random_tokens(2), tree)
