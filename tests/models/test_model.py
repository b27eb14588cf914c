"""Every architecture passes the same tests: causality, scan, remat, dtypes, init, meshes and packed documents."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    Llama3RopeScaling,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
)
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import shardings
from lossline_jax.errors import LosslineError
from lossline_jax.models.decoder import Decoder
from lossline_jax.models.gpt import GPTBlock
from lossline_jax.models.llama import LlamaBlock
from lossline_jax.models.mamba import MambaBlock
from lossline_jax.models.mamba2 import Mamba2Block
from lossline_jax.models.model import Model, build_model
from lossline_jax.models.parameters import Constant, ParameterSpec
from lossline_jax.ops.norms import layer_norm, rms_norm

VOCAB = 50
CONFIGS = {
    "llama": LlamaConfig(d_model=32, num_layers=2, num_heads=4, num_kv_heads=2, d_ff=48),
    "mamba2": Mamba2Config(32, 2, num_heads=4, num_groups=2, d_state=8, d_inner=48, chunk_size=5),
    "mamba": MambaConfig(d_model=32, num_layers=2, d_state=4, chunk_size=4),
    "gpt2": GPT2Config(d_model=32, num_layers=2, num_heads=4, max_positions=20),
    "gpt_neox": GPTNeoXConfig(d_model=32, num_layers=2, num_heads=2),
}
BLOCKS = {
    "llama": functools.partial(LlamaBlock, attention="xla"),
    "mamba2": Mamba2Block,
    "mamba": MambaBlock,
    "gpt2": functools.partial(GPTBlock, attention="xla"),
    "gpt_neox": functools.partial(GPTBlock, attention="xla"),
}
FAST = {"llama", "mamba2"}  # one attention model and one state-space model; `make test-all` adds the rest
every_architecture = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CONFIGS]
)


@functools.cache
def model_and_params(name):
    model = build_model(CONFIGS[name], VOCAB)
    return model, jax.jit(model.init)(jax.random.key(0))


def tokens(batch=2, length=13, seed=1):
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, VOCAB)


def gradients(model, params, tokens_BT):
    return jax.jit(jax.grad(lambda params: model.nll(params, tokens_BT, tokens_BT).mean()))(params)


def assert_trees_close(tree, expected_tree, tolerance):
    for (path, leaf), expected in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(expected_tree), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=tolerance, atol=tolerance, err_msg=str(path))


@every_architecture
def test_gradient_with_respect_to_later_inputs_is_exactly_zero(name):
    model, params = model_and_params(name)
    length = 13
    # One row of the embedding for each position, so its gradient is that of the position's input.
    positions_BT = jnp.arange(length)[None, :]

    def hidden(embed):
        # The sine is needed because the channels after a LayerNorm always sum to zero.
        return jnp.sin(model.hidden_states({**params, "embed": embed}, positions_BT)[0]).sum(axis=-1)

    jacobian_TTD = np.asarray(jax.jit(jax.jacrev(hidden))(params["embed"]))[:, :length]
    strength_TT = np.abs(jacobian_TTD).sum(axis=-1)
    assert (strength_TT[np.triu_indices(length, 1)] == 0).all()
    assert (strength_TT[np.tril_indices(length)] > 0).all()


@every_architecture
def test_scan_over_layers_equals_a_loop(name):
    model, params = model_and_params(name)
    config, block = CONFIGS[name], BLOCKS[name](CONFIGS[name])
    x_BTD = params["embed"][tokens()]
    if name == "gpt2":
        x_BTD = x_BTD + params["positions"][None, : x_BTD.shape[1]]
    for layer in range(config.num_layers):
        layer_params = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        x_BTD = jax.jit(block.apply)({"params": layer_params}, x_BTD)
    if "final_norm_bias" in params:
        unrolled = layer_norm(x_BTD, params["final_norm"], params["final_norm_bias"], config.norm_eps)
    else:
        unrolled = rms_norm(x_BTD, params["final_norm"], config.norm_eps)
    np.testing.assert_allclose(jax.jit(model.hidden_states)(params, tokens()), unrolled, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@every_architecture
@pytest.mark.parametrize("remat", ["cheap", "full"])
def test_rematerialisation_changes_neither_loss_nor_gradients(name, remat):
    model, params = model_and_params(name)
    remat = build_model(CONFIGS[name], VOCAB, remat=remat)
    assert_trees_close(gradients(remat, params, tokens()), gradients(model, params, tokens()), 1e-5)


@every_architecture
def test_rematerialisation_keeps_less_for_the_backward_pass(name):
    _, params = model_and_params(name)

    def kept_bytes(remat):
        model = build_model(CONFIGS[name], VOCAB, remat=remat)
        backward = jax.eval_shape(lambda params: jax.vjp(model.hidden_states, params, tokens())[1], params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    assert kept_bytes("full") < 0.8 * kept_bytes("cheap") < 0.8 * kept_bytes("none")


@every_architecture
def test_nll_is_the_cross_entropy_of_the_logits(name):
    model, params = model_and_params(name)
    targets_BT = tokens(seed=2)
    log_p_BTV = jax.nn.log_softmax(jax.jit(model.logits)(params, tokens()))
    expected = -jnp.take_along_axis(log_p_BTV, targets_BT[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(jax.jit(model.nll)(params, tokens(), targets_BT), expected, rtol=1e-5, atol=1e-5)


@every_architecture
def test_bfloat16_stays_near_float32_with_float32_params_and_nll(name):
    model, params = model_and_params(name)
    half = Model(dataclasses.replace(CONFIGS[name], compute_dtype="bfloat16"), VOCAB)
    assert jax.eval_shape(half.hidden_states, params, tokens()).dtype == jnp.bfloat16
    nll = jax.jit(half.nll)(params, tokens(), tokens())
    assert nll.dtype == jnp.float32
    np.testing.assert_allclose(nll, jax.jit(model.nll)(params, tokens(), tokens()), rtol=0.05, atol=0.1)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.slow
def test_the_gradient_of_a_frequent_token_adds_up_in_float32():
    """One token stands at about 8000 positions. A sum in bfloat16 stops to grow after far fewer terms."""
    config = dataclasses.replace(CONFIGS["llama"], num_layers=1, compute_dtype="bfloat16")
    tokens_BT = jnp.full((8, 1000), 7).at[:, ::100].set(3)
    whole, half = build_model(dataclasses.replace(config, compute_dtype="float32"), VOCAB), build_model(config, VOCAB)
    params = whole.init(jax.random.key(0))
    # Blocks of zeros do nothing, so no attention is between the embedding and the loss.
    params = {**params, "blocks": jax.tree.map(jnp.zeros_like, params["blocks"])}

    def gradient(model):
        nll = lambda params: model.nll(params, tokens_BT, jnp.full_like(tokens_BT, 5)).sum()
        return jax.jit(jax.grad(nll))(params)

    rounded, exact = gradient(half), gradient(whole)
    for name in ("embed", "unembed"):
        error = np.abs(rounded[name] - exact[name]).max() / np.abs(exact[name]).max()
        assert error < 0.02, name


@every_architecture
def test_linen_declares_what_init_makes(name):
    model, params = model_and_params(name)
    decoder = Decoder(CONFIGS[name], VOCAB, attention="xla", remat="none")
    declared = jax.eval_shape(decoder.init, jax.random.key(0), tokens())["params"]
    inner = {key: value for key, value in params.items() if key != "unembed"}
    assert jax.tree.map(jnp.shape, declared) == jax.tree.map(jnp.shape, inner)

    def is_names(node):
        return isinstance(node, tuple)

    ranks = jax.tree.map(len, model.axes(), is_leaf=is_names)
    assert ranks == jax.tree.map(jnp.ndim, params)
    assert all(names[0] == "layers" for names in jax.tree.leaves(model.axes()["blocks"], is_leaf=is_names))


@every_architecture
def test_weight_decay_spares_the_decay_rates_alone(name):
    model, params = model_and_params(name)
    decayed = model.weight_decay_mask()
    assert jax.tree.structure(decayed) == jax.tree.structure(params)
    spared = {key for key, value in decayed["blocks"].items() if not value}
    delicate = {"mamba2": {"a_log", "d_skip"}, "mamba": {"a_log", "d_skip", "dt_bias"}}
    assert spared == delicate.get(name, set())
    assert all(value for key, value in decayed.items() if key != "blocks")


@every_architecture
def test_packed_documents_are_scored_as_if_alone(name):
    model, params = model_and_params(name)
    lengths = (5, 1, 7)
    segments_BT = jnp.repeat(jnp.array([3, 4, 9]), jnp.array(lengths))[None]
    packed_BT = tokens(1)
    together = jax.jit(model.nll)(params, packed_BT, packed_BT, segments_BT)
    start = 0
    for length in lengths:
        alone_BT = packed_BT[:, start : start + length]
        expected = jax.jit(model.nll)(params, alone_BT, alone_BT)
        np.testing.assert_allclose(together[:, start : start + length], expected, rtol=2e-5, atol=2e-5)
        start += length
    neighbour_BT = packed_BT.at[:, 6:].set(0)
    perturbed = jax.jit(model.nll)(params, neighbour_BT, neighbour_BT, segments_BT)
    np.testing.assert_array_equal(perturbed[:, :6], together[:, :6])
    assert not np.array_equal(perturbed[:, 6:], together[:, 6:])


@every_architecture
def test_packed_documents_pass_no_gradient_to_each_other(name):
    model, params = model_and_params(name)
    positions_BT = jnp.arange(13)[None]  # a row of the embedding for each position
    segments_BT = (positions_BT >= 6).astype(jnp.int32)

    def later_document(embed):
        return jnp.sin(model.hidden_states({**params, "embed": embed}, positions_BT, segments_BT))[:, 6:].sum()

    gradient_VD = np.asarray(jax.jit(jax.grad(later_document))(params["embed"]))
    assert (gradient_VD[:6] == 0).all()
    assert (np.abs(gradient_VD[6:13]).sum(axis=1) > 0).all()


def test_positions_that_a_model_has_not_are_refused():
    model, params = model_and_params("gpt2")
    with pytest.raises(LosslineError, match=r"21 tokens do not fit model.max_positions=20"):
        model.hidden_states(params, tokens(length=21))


@pytest.mark.slow
@every_architecture
def test_vmap_over_models_equals_one_after_another(name):
    model, _ = model_and_params(name)
    keys = jax.random.split(jax.random.key(3), 2)
    stacked = jax.vmap(model.init)(keys)
    together = jax.jit(jax.vmap(model.nll, in_axes=(0, None, None)))(stacked, tokens(), tokens())
    for k, key in enumerate(keys):
        alone = jax.jit(model.nll)(model.init(key), tokens(), tokens())
        np.testing.assert_allclose(together[k], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@every_architecture
def test_born_and_run_on_a_mesh_as_on_one_device(name):
    model, params = model_and_params(name)
    mesh = make_mesh(ExecutionConfig(data_parallel=2, model_parallel=2))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    placed = jax.jit(model.init, out_shardings=shardings(model.axes(), mesh, shapes, fsdp=True))(jax.random.key(0))
    assert_trees_close(placed, params, 1e-6)
    with jax.set_mesh(mesh):
        sharded = jax.jit(model.nll)(placed, np.asarray(tokens(4)), np.asarray(tokens(4)))
    np.testing.assert_allclose(sharded, jax.jit(model.nll)(params, tokens(4), tokens(4)), rtol=1e-4, atol=1e-4)


def test_start_values_follow_the_study():
    params = build_model(LlamaConfig(d_model=128, num_layers=2), 2000).init(jax.random.key(0))
    sigmas = {
        "q": 128**-0.5,
        "kv": 128**-0.5,
        "attention_out": 128**-0.5,
        "gate_up": 128**-0.5,
        "down": 512**-0.5,
    }
    shrunk = 0.98658  # the standard deviation of a standard normal that is truncated at 3
    for name, sigma in sigmas.items():
        values = np.asarray(params["blocks"][name])
        assert np.abs(values).max() <= 3 * sigma * (1 + 1e-6)
        np.testing.assert_allclose(values.std(), sigma * shrunk, rtol=0.02)
    np.testing.assert_allclose(np.asarray(params["unembed"]).std(), 128**-0.5 * shrunk, rtol=0.02)
    assert (np.asarray(params["final_norm"]) == 1).all()


def test_start_values_of_the_state_space_models():
    mamba2 = build_model(Mamba2Config(64, 40, dt_bias=True), VOCAB).init(jax.random.key(0))["blocks"]
    rates = np.exp(mamba2["a_log"])
    assert 1 <= rates.min() < 1.5
    assert 15.5 < rates.max() <= 16
    steps = np.log1p(np.exp(np.asarray(mamba2["dt_bias"])))
    assert 1e-3 * 0.99 <= steps.min() < 2e-3
    assert 0.07 < steps.max() <= 0.1 * 1.01
    mamba = build_model(MambaConfig(64, 2), VOCAB).init(jax.random.key(0))["blocks"]
    np.testing.assert_allclose(np.exp(mamba["a_log"][1, :, 7]), np.arange(1, 17), rtol=1e-6)


def test_init_is_a_function_of_the_key():
    model, params = model_and_params("llama")
    assert_trees_close(jax.jit(model.init)(jax.random.key(0)), params, 0)
    other_params = jax.jit(model.init)(jax.random.key(1))
    assert not np.allclose(other_params["embed"], params["embed"])


def test_tied_embeddings_have_no_unembedding():
    model = build_model(LlamaConfig(32, 1, 4, tied_embeddings=True), VOCAB)
    params = model.init(jax.random.key(0))
    assert "unembed" not in params
    x_BTD = jax.jit(model.hidden_states)(params, tokens())
    np.testing.assert_allclose(jax.jit(model.logits)(params, tokens()), x_BTD @ params["embed"].T, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "vocab_size", "message"),
    [
        (
            LlamaConfig(d_model=100, num_heads=8),
            10,
            "model.num_heads: 8 does not divide model.d_model 100; 10 would",
        ),
        (LlamaConfig(num_heads=8, num_kv_heads=3), 10, "model.num_kv_heads: 3 does not divide"),
        (LlamaConfig(d_model=24, num_heads=8), 10, "model.num_heads: 8 heads of width 3 have an odd width"),
        (LlamaConfig(num_layers=0), 10, "model.num_layers: 0 is out of range; give at least 1"),
        (
            LlamaConfig(norm_eps=float("nan")),
            10,
            "model.norm_eps: nan is out of range; give a finite number greater than 0",
        ),
        (
            Mamba2Config(d_inner=100, num_heads=16),
            10,
            "model.num_heads: 16 does not divide the inner width 100",
        ),
        (Mamba2Config(num_groups=3), 10, "model.num_groups: 3 does not divide model.num_heads 16"),
        (GPT2Config(num_heads=5), 10, "model.num_heads: 5 does not divide model.d_model 768; 4 would"),
        (GPTNeoXConfig(num_heads=256), 10, "model.rotary_fraction: 0.25 of a head of width 3 is 0 channels"),
        (
            LlamaConfig(rope_scaling=Llama3RopeScaling(factor=0)),
            10,
            "model.rope_scaling.factor: 0 is out of range; give",
        ),
        (
            LlamaConfig(rope_scaling=Llama3RopeScaling(high_freq_factor=1.0)),
            10,
            "model.rope_scaling.low_freq_factor: 1 is not below high_freq_factor=1",
        ),
        (MambaConfig(dt_min=1.0), 10, "model.dt_min: 1.0 is above model.dt_max=0.1"),
        (MambaConfig(chunk_size=-4), 10, "model.chunk_size: -4 is out of range; give at least 1"),
        (LlamaConfig(), 0, "vocab_size: 0 is not a number of tokens"),
    ],
)
def test_impossible_configs_are_refused_by_field(config, vocab_size, message):
    with pytest.raises(LosslineError) as error:
        build_model(config, vocab_size)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_parameter_with_an_axis_too_few_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and axes \('embed',\) differ in length"):
        ParameterSpec((2, 3), ("embed",), Constant(0.0))
