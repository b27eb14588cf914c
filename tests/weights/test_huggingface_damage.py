"""Files from other programs load with old names and buffers. Each damage is named by tensor and file."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lossline_jax.config.model import LlamaConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.load import load_pretrained_params
from tests.support.huggingface_stand_ins import SMALL, assert_equal, write_small


def rewrite(folder, change):
    """Change the dict of tensors of a folder written by `write_small`."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_old_files_with_buffers_and_other_names(tmp_path):
    gpt2, params = write_small("gpt2", tmp_path / "gpt2")

    def as_openai_had_it(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = np.tri(20, dtype=np.float32)[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = np.array(-1e4, np.float32)
        tensors["lm_head.weight"] = tensors["wte.weight"]

    rewrite(tmp_path / "gpt2", as_openai_had_it)
    assert_equal(load_pretrained_params(tmp_path / "gpt2", gpt2), params)

    neox, params = write_small("gpt_neox", tmp_path / "neox")

    def as_transformers_4_and_5_mixed(tensors):
        tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
        for layer in range(2):
            tensors[f"gpt_neox.layers.{layer}.attention.rotary_emb.inv_freq"] = np.ones(2, np.float32)
            tensors[f"gpt_neox.layers.{layer}.attention.bias"] = np.ones((1, 1, 9, 9), bool)

    rewrite(tmp_path / "neox", as_transformers_4_and_5_mixed)
    assert_equal(load_pretrained_params(tmp_path / "neox", neox), params)


Q = "model.layers.1.self_attn.q_proj.weight"
PREFIXES = ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod.", "net.language_model."]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mamba", "mamba2"])
def test_names_under_a_prefix_are_read_without_it_and_a_message_reports_it(name, tmp_path, capsys):
    model, params = write_small(name, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    for prefix in PREFIXES:
        save_file(
            {prefix + tensor_name: tensor for tensor_name, tensor in written.items()},
            tmp_path / "out" / "model.safetensors",
        )
        assert_equal(load_pretrained_params(tmp_path / "out", model), params)
        messages = capsys.readouterr().err
        assert "names of tensors are read without " in messages
        assert all(f"{part}." in messages for part in prefix.split(".")[:-1])
    base = {
        tensor_name.split(".", 1)[1]
        if "." in tensor_name and not tensor_name.startswith(("lm_head", "embed_out"))
        else tensor_name: tensor
        for tensor_name, tensor in written.items()
    }  # AutoModel saves the model like this, without its head
    save_file(base, tmp_path / "out" / "model.safetensors")
    assert_equal(load_pretrained_params(tmp_path / "out", model), params)
    assert capsys.readouterr().err == ""


def test_wrappers_inside_names_are_left_out_too(tmp_path, capsys):
    model, params = write_small("llama", tmp_path / "out")

    def compile_layers(tensors):
        for name in list(tensors):
            tensors[name.replace(".layers.", "._fsdp_wrapped_module.layers.").replace(".mlp.", "._orig_mod.mlp.")] = (
                tensors.pop(name)
            )

    rewrite(tmp_path / "out", compile_layers)
    assert_equal(load_pretrained_params(tmp_path / "out", model), params)
    assert "read without _fsdp_wrapped_module., _orig_mod." in capsys.readouterr().err


def under(prefix, *other_prefixes):
    """Return a change that puts all tensors under a prefix, and copies of them under the other prefixes."""

    def change(tensors):
        for name in list(tensors):
            tensor = tensors.pop(name)
            tensors.update({f"{new_prefix}{name}": tensor for new_prefix in (prefix, *other_prefixes)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # The file has two models, and it is not known which is meant.
        (
            under("student.", "teacher."),
            "is missing, expected of shape [37, 16] (and 20 more); most like it is student.",
        ),
        (under("", "ema."), "tensor ema.lm_head.weight is unexpected"),
        (
            lambda t: t.update({"module.model.norm.weight": t.pop("model.norm.weight")}),
            "tensor model.norm.weight is missing, expected of shape [16]; most like it is module.model.norm.weight",
        ),
        (
            lambda t: t.update({Q.replace("weight", "lora_A.weight"): t.pop(Q)}),
            f"tensor {Q} is missing, expected of shape [16, 16]; the file holds an adapter: merge it",
        ),
        (lambda t: [t.pop(name) for name in list(t)], "config.json: says 2 layers, and the folder has 0 tensors"),
        (lambda t: t.update({f"_orig_mod.{Q}": t[Q]}), "is there twice, as "),
    ],
)
def test_prefixes_that_are_no_answer_show_what_is_there(change, message, tmp_path):
    model, _ = write_small("llama", tmp_path / "out")
    rewrite(tmp_path / "out", change)
    with pytest.raises(LosslineError) as error:
        load_pretrained_params(tmp_path / "out", model)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(Q), f"tensor {Q} is missing, expected of shape [16, 16]"),
        (lambda t: t.pop("lm_head.weight"), "lm_head.weight is missing, expected of shape [37, 16]; set tie_word_"),
        (lambda t: t.update(extra=t[Q]), "model.safetensors: tensor extra is unexpected: LlamaForCausalLM"),
        (
            lambda t: t.update({Q.replace(".1.", ".2."): t[Q]}),
            "model.safetensors: tensor model.layers.2.self_attn.q_proj.weight is unexpected",
        ),
        (lambda t: t.update({Q: t[Q][:8]}), f"tensor {Q} has shape [8, 16], expected [16, 16] by config.json"),
        (
            lambda t: t.update({Q: t[Q].astype(np.int8)}),
            f"tensor {Q} has type I8, expected one of ['F32', 'BF16', 'F16']",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, tmp_path):
    model, _ = write_small("llama", tmp_path / "out")
    rewrite(tmp_path / "out", change)
    with pytest.raises(LosslineError) as error:
        load_pretrained_params(tmp_path / "out", model)
    assert message in str(error.value)
    assert str(tmp_path / "out") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_head_that_is_not_the_tied_embedding_is_refused(tmp_path):
    model, _ = write_small("gpt2", tmp_path / "out")
    rewrite(tmp_path / "out", lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"] + 1}))
    with pytest.raises(LosslineError, match="lm_head.weight differs from transformer.wte.weight, although"):
        load_pretrained_params(tmp_path / "out", model)


def test_a_step_bias_that_the_config_denies_is_refused(tmp_path):
    model, _ = write_small("study", tmp_path / "out")
    name = "backbone.layers.0.mixer.dt_bias"
    rewrite(tmp_path / "out", lambda t: t.update({name: np.ones(4, np.float32)}))
    with pytest.raises(LosslineError, match=f"tensor {name} is not zero, although config.json says use_dt_bias=false"):
        load_pretrained_params(tmp_path / "out", model)


def test_another_model_than_the_files_is_refused(tmp_path):
    write_small("llama", tmp_path / "out")
    other_model = build_model(LlamaConfig(16, 2, num_heads=4, num_kv_heads=2, d_ff=24, rope_theta=5.0), 37)
    with pytest.raises(LosslineError, match="config.json: field rope_scaling=.* the model to be filled has"):
        load_pretrained_params(tmp_path / "out", other_model)
    with pytest.raises(LosslineError, match="config.json: field vocab_size=37, but the model .* vocab_size=38"):
        load_pretrained_params(tmp_path / "out", build_model(SMALL["llama"], 38))


def test_more_layers_than_tensors_are_refused_at_once(tmp_path):
    write_small("llama", tmp_path / "out")
    many = build_model(dataclasses.replace(SMALL["llama"], num_layers=10**7), 37)
    config = tmp_path / "out" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 10**7}))
    with pytest.raises(LosslineError, match=f"config.json: says {10**7} layers, and the folder has 21 tensors"):
        load_pretrained_params(tmp_path / "out", many)


def test_damaged_and_absent_files(tmp_path):
    model, _ = write_small("llama", tmp_path / "out", max_shard_bytes=4000)
    shard = sorted((tmp_path / "out").glob("model-*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-7])
    with pytest.raises(LosslineError, match=f"{shard.name}: damaged or no safetensors file"):
        load_pretrained_params(tmp_path / "out", model)
    shard.unlink()
    with pytest.raises(LosslineError, match=f"{shard.name}: no such file, although model.safetensors.index.json"):
        load_pretrained_params(tmp_path / "out", model)
    shard.write_bytes(content)
    index = tmp_path / "out" / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    value["weight_map"]["ghost"] = shard.name
    index.write_text(json.dumps(value))
    with pytest.raises(LosslineError, match=f"index.json: tensor ghost is not in {shard.name}"):
        load_pretrained_params(tmp_path / "out", model)
    index.write_text("{}")
    with pytest.raises(LosslineError, match="index.json: no weight_map in it"):
        load_pretrained_params(tmp_path / "out", model)
    for path in (tmp_path / "out").glob("model*"):
        path.unlink()
    with pytest.raises(LosslineError, match="neither model.safetensors nor model.safetensors.index.json"):
        load_pretrained_params(tmp_path / "out", model)
    (tmp_path / "out" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(LosslineError, match="only pytorch_model.bin; convert it where torch .*save_pretrained"):
        load_pretrained_params(tmp_path / "out", model)
