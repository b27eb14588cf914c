"""config.json becomes a model config and back. A field that we cannot compute is refused by name."""

import json
import subprocess
import sys

import pytest

from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    Llama3RopeScaling,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
)
from lossline_jax.errors import LosslineError
from lossline_jax.models.accounting import count_parameters
from lossline_jax.weights.huggingface.configs import HFModel, check_vocabulary, config_json, read_config
from tests.support.huggingface_stand_ins import (
    GPT2_SMALL,
    LLAMA_3_2_1B,
    MAMBA_130M,
    MAMBA_CODESTRAL_7B,
    PYTHIA_160M,
    SMALL,
    SMOLLM2_135M,
)

CODESTRAL_MENDED = {**MAMBA_CODESTRAL_7B, "norm_before_gate": False}


def read(folder, values):
    (folder / "config.json").write_text(json.dumps(values))
    return read_config(folder)


PUBLIC = {  # config.json, the model that it describes, the number of parameters that its authors state
    "Llama-3.2-1B": (
        LLAMA_3_2_1B,
        HFModel(
            LlamaConfig(2048, 16, 32, 8, 8192, True, 5e5, Llama3RopeScaling(32.0, 1.0, 4.0, 8192)),
            128256,
            131072,
            128000,
            128001,
        ),
        1_235_814_400,
    ),
    "SmolLM2-135M": (
        SMOLLM2_135M,
        HFModel(LlamaConfig(576, 30, 9, 3, 1536, True, 1e5), 49152, 8192, 0, 0),
        134_515_008,
    ),
    "mamba-130m": (MAMBA_130M, HFModel(MambaConfig(768, 24, 16, 1536, 4, 48), 50280, None, 0, 0), 129_135_360),
    "Mamba-Codestral-7B": (
        CODESTRAL_MENDED,
        HFModel(Mamba2Config(4096, 64, 128, 8, 128, 8192, 4, conv_bias=True, dt_bias=True), 32768, None, 0, 0),
        7_285_403_648,
    ),
    "gpt2": (GPT2_SMALL, HFModel(GPT2Config(d_ff=3072), 50257, 1024, 50256, 50256), 124_439_808),
    "pythia-160m": (PYTHIA_160M, HFModel(GPTNeoXConfig(d_ff=3072), 50304, 2048, 0, 0), 162_322_944),
}


@pytest.mark.parametrize("name", list(PUBLIC))
def test_public_configs_are_read(name, tmp_path):
    values, expected, num_parameters = PUBLIC[name]
    hf_model = read(tmp_path, values)
    assert hf_model == expected
    assert count_parameters(hf_model.config, hf_model.vocab_size).total == num_parameters


@pytest.mark.parametrize("name", list(SMALL))
def test_what_we_write_we_read(name, tmp_path):
    written = config_json(SMALL[name], 37)
    again = read(tmp_path, written)
    assert config_json(again.config, again.vocab_size) == written


def test_the_names_of_transformers_5(tmp_path):
    rope = {**LLAMA_3_2_1B["rope_scaling"], "rope_theta": 500000.0}
    new = {k: v for k, v in LLAMA_3_2_1B.items() if k not in ("rope_scaling", "rope_theta", "torch_dtype")}
    assert read(tmp_path, {**new, "rope_parameters": rope, "dtype": "bfloat16"}) == PUBLIC["Llama-3.2-1B"][1]

    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}
    new = {k: v for k, v in PYTHIA_160M.items() if k not in ("rotary_pct", "rotary_emb_base")}
    assert read(tmp_path, {**new, "rope_parameters": rope, "attention_bias": True}) == PUBLIC["pythia-160m"][1]

    limit = [0.0, {"__float__": "Infinity"}]
    assert read(tmp_path, {**CODESTRAL_MENDED, "time_step_limit": limit}) == PUBLIC["Mamba-Codestral-7B"][1]


def test_what_is_absent_is_what_transformers_takes(tmp_path):
    small = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = read(tmp_path, {**small, "intermediate_size": 48, "vocab_size": 9}).config
    assert config == LlamaConfig(32, 1, 4, 4, 48, norm_eps=1e-6)
    assert read(tmp_path, {**MAMBA_130M, "time_step_rank": "auto"}).config.dt_rank == 48


SCALING = LLAMA_3_2_1B["rope_scaling"]


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (SMOLLM2_135M, {"attention_bias": True}, "field attention_bias=True: not supported; supported: False"),
        (SMOLLM2_135M, {"mlp_bias": True}, "field mlp_bias=True: not supported"),
        (SMOLLM2_135M, {"hidden_act": "gelu"}, "field hidden_act='gelu': not supported; supported: 'silu'"),
        (SMOLLM2_135M, {"head_dim": 128}, "field head_dim=128: contradicts hidden_size / num_attention_heads"),
        (SMOLLM2_135M, {"sliding_window": 4096}, "field sliding_window=4096: not supported"),
        (SMOLLM2_135M, {"rope_interleaved": True}, "field rope_interleaved=True: not supported"),
        (SMOLLM2_135M, {"partial_rotary_factor": 0.5}, "field partial_rotary_factor=0.5: not supported"),
        (
            SMOLLM2_135M,
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "field rope_scaling.type='linear': not supported; supported: 'default', 'llama3'",
        ),
        (
            SMOLLM2_135M,
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "field rope_parameters.rope_type='yarn': not supported",
        ),
        (
            SMOLLM2_135M,
            {"rope_parameters": {"rope_theta": 5.0}},
            "rope_parameters.rope_theta=5.0: contradicts",
        ),
        (LLAMA_3_2_1B, {"rope_scaling": {**SCALING, "beta": 1}}, "field rope_scaling.beta=1: unknown"),
        (
            LLAMA_3_2_1B,
            {"rope_scaling": {k: v for k, v in SCALING.items() if k != "factor"}},
            "field rope_scaling.factor is missing",
        ),
        (SMOLLM2_135M, {"quantization_config": {"bits": 4}}, "field quantization_config={'bits': 4}: not supported"),
        (SMOLLM2_135M, {"hidden_sizes": 5}, "field hidden_sizes=5: unknown; did you mean 'hidden_size'?"),
        (SMOLLM2_135M, {"hidden_size": "576"}, "field hidden_size='576': expected a whole number above 0"),
        (SMOLLM2_135M, {"hidden_size": None}, "field hidden_size is missing"),
        (SMOLLM2_135M, {"vocab_size": 0}, "field vocab_size=0: expected a whole number above 0"),
        (SMOLLM2_135M, {"num_key_value_heads": 2}, "model.num_kv_heads: 2 does not divide model.num_heads 9"),
        (SMOLLM2_135M, {"tie_word_embeddings": "yes"}, "field tie_word_embeddings='yes': expected true or false"),
        (SMOLLM2_135M, {"model_type": None}, "field model_type is missing; supported: llama (LlamaForCausalLM)"),
        (SMOLLM2_135M, {"model_type": "qwen2"}, "field model_type='qwen2': not supported; supported: llama"),
        (SMOLLM2_135M, {"architectures": ["LlamaForTokenClassification"]}, "field architectures=['LlamaForToken"),
        (MAMBA_130M, {"use_bias": True}, "field use_bias=True: not supported; supported: False"),
        (MAMBA_130M, {"use_conv_bias": False}, "field use_conv_bias=False: not supported; supported: True"),
        (MAMBA_130M, {"rms_norm": False}, "field rms_norm=False: not supported; supported: True"),
        (MAMBA_130M, {"ssm_cfg": {"d_state": 3}}, "field ssm_cfg={'d_state': 3}: not supported"),
        (MAMBA_130M, {"d_inner": 3072}, "field d_inner=3072: contradicts expand * hidden_size, which makes it 1536"),
        (MAMBA_CODESTRAL_7B, {}, "field norm_before_gate=True: not supported; supported: False"),
        (CODESTRAL_MENDED, {"time_step_limit": [0.0, 0.5]}, "field time_step_limit=[0.0, 0.5]: not supported"),
        (CODESTRAL_MENDED, {"head_dim": 32}, "field head_dim=32: contradicts"),
        (GPT2_SMALL, {"activation_function": "gelu"}, "field activation_function='gelu': not supported"),
        (GPT2_SMALL, {"scale_attn_weights": False}, "field scale_attn_weights=False: not supported; supported: True"),
        (GPT2_SMALL, {"scale_attn_by_inverse_layer_idx": True}, "field scale_attn_by_inverse_layer_idx=True: not"),
        (GPT2_SMALL, {"add_cross_attention": True}, "field add_cross_attention=True: not supported"),
        (GPT2_SMALL, {"n_ctx": 512}, "field n_ctx=512: contradicts n_positions, which makes it 1024"),
        (PYTHIA_160M, {"hidden_act": "gelu_fast"}, "field hidden_act='gelu_fast': not supported; supported: 'gelu'"),
        (PYTHIA_160M, {"attention_bias": False}, "field attention_bias=False: not supported; supported: True"),
        (
            PYTHIA_160M,
            {"rope_scaling": {"rope_type": "llama3"}},
            "field rope_scaling.rope_type='llama3': not",
        ),
        (
            PYTHIA_160M,
            {"rope_scaling": {"rope_type": "yarn"}},
            "field rope_scaling.rope_type='yarn': not supported; supported: 'default'",
        ),
        (
            LLAMA_3_2_1B,
            {"rope_scaling": {"rope_type": "yarn"}},
            "field rope_scaling.rope_type='yarn': not supported; supported: 'default', 'llama3'",
        ),
        *(
            (GPT2_SMALL, {name: value}, f"field {name}={value!r}: expected the id of a token, or a list of ids; delete")
            for name in ("bos_token_id", "eos_token_id")
            for value in (float("-inf"), [[]], {}, True, -1, [], [True], 1.0, "0", [0, None])
        ),
        (GPT2_SMALL, {"model_type": ["gpt2"]}, "field model_type=['gpt2']: not supported; supported: llama"),
        (GPT2_SMALL, {"n_embd": 10**400}, "expected a whole number above 0"),
        (GPT2_SMALL, {"layer_norm_epsilon": float("inf")}, "field layer_norm_epsilon=inf: expected a number above 0"),
        (GPT2_SMALL, {"layer_norm_epsilon": 10**400}, "expected a number above 0"),
        (GPT2_SMALL, {"layer_norm_epsilon": {"__float__": [1]}}, "config.json: damaged or no JSON"),
    ],
)
def test_what_we_cannot_compute_is_refused_by_name(base, changes, message, tmp_path):
    with pytest.raises(LosslineError) as error:
        read(tmp_path, {**base, **changes})
    assert str(tmp_path / "config.json") in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(LosslineError, match="config.json: no such file"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LosslineError, match="config.json: damaged or no JSON"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(LosslineError, match="config.json: damaged or no JSON"):
        read_config(tmp_path)
    with pytest.raises(LosslineError, match="config.json: expected a JSON object, got 3"):
        read(tmp_path, 3)


def test_a_vocabulary_may_be_padded_but_not_cut(tmp_path):
    pythia = read(tmp_path, PYTHIA_160M)
    check_vocabulary(pythia, 50277, "pythia")
    with pytest.raises(LosslineError, match="pythia: config.json has vocab_size=50304, but the tokenizer has 50305"):
        check_vocabulary(pythia, 50305, "pythia")


def test_a_width_that_transformers_cannot_say_is_refused():
    with pytest.raises(LosslineError, match="model.d_inner: .* multiple of d_model=96 only, and this one is 256"):
        config_json(Mamba2Config(96, 1, num_heads=16), 37)


def test_reading_a_config_needs_no_jax(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2_135M))
    code = (
        "import sys; from lossline_jax.weights.huggingface.configs import read_config; "
        f"read_config({str(tmp_path)!r}); assert not sys.modules.keys() & {{'jax', 'flax', 'safetensors', 'torch'}}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
