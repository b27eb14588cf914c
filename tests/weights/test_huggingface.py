"""Our models equal those of transformers, and weights survive a round trip, shards and the export."""

import dataclasses
import json
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import shardings
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import hf_architecture_of, read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from lossline_jax.weights.huggingface.save import save_pretrained
from lossline_jax.weights.huggingface.shapes import all_tensor_shapes, leaf_shapes
from tests.support.huggingface_parity import (
    CASES,
    QUICK,
    VOCAB,
    load_in_transformers,
    measure,
    our_logits,
    random_tokens,
    their_logits,
    write_case,
)
from tests.support.huggingface_stand_ins import SMALL, assert_equal, random_params, write_small

TOLERANCE = 1e-4
every_small = pytest.mark.parametrize("name", list(SMALL))


@pytest.mark.parametrize("case", CASES)
def test_parity_with_transformers(case, tmp_path):
    folder = tmp_path / "theirs"
    write_case(case, folder)
    parity = measure(folder, tmp_path / "gradients", compiler_options=QUICK)
    assert parity.logits <= TOLERANCE
    assert parity.gradients <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_a_model_written_here_loads_there(case, tmp_path):
    write_case(case, tmp_path / "theirs")
    hf = read_config(tmp_path / "theirs")
    model = build_model(hf.config, hf.vocab_size)
    params = load_pretrained_params(tmp_path / "theirs", model)
    save_pretrained(tmp_path / "ours", model, params, context_length=40, max_shard_bytes=20_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists()
    assert_equal(load_pretrained_params(tmp_path / "ours", model), params)
    logits, expected = (their_logits(tmp_path / name, random_tokens()) for name in ("ours", "theirs"))
    np.testing.assert_allclose(logits, expected, atol=1e-5)  # the chunks of a scan may differ


def test_shards_written_there_load_here(tmp_path):
    write_case("gpt2", tmp_path / "whole")
    load_in_transformers(tmp_path / "whole").save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    np.testing.assert_array_equal(
        our_logits(tmp_path / "shards", random_tokens()), our_logits(tmp_path / "whole", random_tokens())
    )


@every_small
def test_a_round_trip_is_exact(name, tmp_path):
    model, params = write_small(name, tmp_path / "out", context_length=12)
    assert_equal(load_pretrained_params(tmp_path / "out", model), params)
    assert read_config(tmp_path / "out").context_length == {"llama": 12, "gpt_neox": 12, "gpt2": 20}.get(name)


@every_small
def test_a_model_of_rounded_weights_writes_the_rounded_ones(name, tmp_path):
    """The folder has no field for rounding, so its plain model must have the losses of the model that was scored."""
    model = build_model(dataclasses.replace(SMALL[name], weight_bits=3), VOCAB)
    params = random_params(model)
    save_pretrained(tmp_path / "out", model, params)
    plain = build_model(SMALL[name], VOCAB)
    loaded = load_pretrained_params(tmp_path / "out", plain)
    tokens_BT = jax.random.randint(jax.random.key(0), (2, 8), 0, VOCAB)
    expected_BTV, unrounded_BTV = (m.logits(params, tokens_BT) for m in (model, plain))
    np.testing.assert_allclose(plain.logits(loaded, tokens_BT), expected_BTV, rtol=1e-4, atol=1e-5)
    assert not np.allclose(unrounded_BTV, expected_BTV, rtol=1e-2, atol=1e-2)


@every_small
def test_a_head_of_its_own_and_a_tied_one_load_there(name, tmp_path):
    config = dataclasses.replace(SMALL[name], tied_embeddings=not SMALL[name].tied_embeddings)
    model = build_model(config, VOCAB)
    params = random_params(model)
    save_pretrained(tmp_path / "out", model, params)
    head_VD = load_in_transformers(tmp_path / "out").get_output_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(head_VD, params["embed"] if config.tied_embeddings else params["unembed"].T)


@every_small
def test_every_leaf_has_its_place(name):
    model = build_model(SMALL[name], VOCAB)
    places = [path for group in hf_architecture_of(model.config).groups(model.config) for path in group.leaf_paths]
    assert sorted(places) == sorted(leaf_shapes(model))


@settings(max_examples=20, deadline=None)
@given(
    heads=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    half_width=st.integers(1, 3),
    d_ff=st.integers(1, 7),
    state=st.integers(1, 5),
    conv_bias=st.booleans(),
)
def test_there_and_back_is_exact_for_any_widths(heads, kv_heads, half_width, d_ff, state, conv_bias):
    d = 2 * half_width * heads * kv_heads
    llama = LlamaConfig(d, 1, heads * kv_heads, kv_heads, d_ff)
    mamba2 = Mamba2Config(d, 1, heads * kv_heads, kv_heads, state, 2 * d, conv_bias=conv_bias)
    for config in (llama, mamba2):
        model = build_model(config, 5)
        shapes, tensor_shapes = leaf_shapes(model), all_tensor_shapes(model)
        for group in hf_architecture_of(config).groups(config):
            drop = 1 if group.per_layer else 0
            leaves = [np.random.default_rng(0).normal(size=shapes[path][drop:]) for path in group.leaf_paths]
            tensors = group.to_tensors(*leaves)
            assert [tensor.shape for tensor in tensors] == [
                tensor_shapes[name.format(layer=0)] for name in group.tensor_names
            ]
            for leaf, again in zip(leaves, group.to_leaves(*tensors), strict=True):
                np.testing.assert_array_equal(again, leaf)


def test_half_precision_files_become_float32(tmp_path):
    model, params = write_small("llama", tmp_path / "half", dtype="bfloat16")
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), params)
    assert_equal(load_pretrained_params(tmp_path / "half", model), rounded)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_leaves_are_born_on_the_mesh(tmp_path):
    model, params = write_small("llama", tmp_path / "out")
    mesh = make_mesh(ExecutionConfig(data_parallel=2, model_parallel=1))
    placements = shardings(model.axes(), mesh, jax.eval_shape(model.init, jax.random.key(0)), fsdp=True)
    placed = load_pretrained_params(tmp_path / "out", model, placements)
    assert_equal(placed, params)
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding, placed, placements)))
    save_pretrained(tmp_path / "again", model, placed)
    assert_equal(load_pretrained_params(tmp_path / "again", model), params)


def test_an_export_is_whole_or_absent(tmp_path):
    model, params = write_small("llama", tmp_path / "out")
    with pytest.raises(LosslineError, match="out: is there already and not an empty folder"):
        save_pretrained(tmp_path / "out", model, params)
    (tmp_path / "empty").mkdir()
    save_pretrained(tmp_path / "empty", model, params)
    assert_equal(load_pretrained_params(tmp_path / "empty", model), params)
    with pytest.raises(LosslineError, match=r"params: leaf blocks/attention_norm has shape None, expected \(2, 16\)"):
        save_pretrained(tmp_path / "new", model, {**params, "blocks": {}})

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))  # a limit on file size in place of a full disk
    try:
        with pytest.raises(LosslineError, match="new: cannot write .*File too large.*; .*`ulimit -f`"):
            save_pretrained(tmp_path / "new", model, params)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


def test_the_tokenizer_goes_along(tmp_path):
    transformers = pytest.importorskip("transformers", reason="AutoTokenizer is transformers'")
    tokenizers = pytest.importorskip("tokenizers", reason="makes the tokenizer.json")
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, "b": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    content = tokenizer.to_str().encode()
    write_small("llama", tmp_path / "out", tokenizer_json=content, bos_id=0, eos_id=1)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == content
    hf = read_config(tmp_path / "out")
    assert (hf.bos_id, hf.eos_id) == (0, 1)
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (reference.bos_token, reference.eos_token) == ("<s>", "</s>")
    assert reference("b a b", add_special_tokens=False)["input_ids"] == [3, 2, 3]
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(LosslineError, match="tokenizer.json: has no token 9, the eos_token"):
        write_small("llama", tmp_path / "out", tokenizer_json=content, bos_id=0, eos_id=9)
