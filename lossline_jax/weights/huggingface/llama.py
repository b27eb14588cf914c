"""Convert `LlamaForCausalLM`: Llama 1 to 3, SmolLM, TinyLlama and other models with the same layers."""

from typing import Any

from lossline_jax.config.model import LlamaConfig
from lossline_jax.weights.huggingface.fields import Fields
from lossline_jax.weights.huggingface.mapping import (
    HFArchitecture,
    TensorGroup,
    linear_group,
    linears,
    same,
    transposed,
)
from lossline_jax.weights.huggingface.rotary import read_rotary, scaling_json

_LAYER = "model.layers.{layer}."


def _read(fields: Fields) -> LlamaConfig:
    width, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    fields.repeats("head_dim", width // num_heads, "hidden_size / num_attention_heads")
    fields.one_of("hidden_act", "silu")
    fields.one_of("attention_bias", False)
    fields.one_of("mlp_bias", False)
    fields.one_of("rope_interleaved", False)
    fields.harmless("pretraining_tp", "is_llama_config")
    rotary = read_rotary(fields, kinds=("default", "llama3"))
    if rotary.fraction != 1:
        raise fields.error("partial_rotary_factor", rotary.fraction, "not supported; supported: 1.0")
    return LlamaConfig(
        d_model=width,
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        d_ff=fields.integer("intermediate_size"),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        rope_theta=rotary.theta,
        rope_scaling=rotary.scaling,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
    )


def _write(config: LlamaConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling_json(config.rope_scaling),
        "tie_word_embeddings": config.tied_embeddings,
    }


def _groups(config: LlamaConfig) -> tuple[TensorGroup, ...]:
    d, f = config.d_model, config.mlp_width
    n, k, h = config.num_heads, config.kv_heads, config.head_dim
    attention, mlp = f"{_LAYER}self_attn.", f"{_LAYER}mlp."
    head = () if config.tied_embeddings else (transposed("lm_head.weight", "unembed"),)
    return (
        same("model.embed_tokens.weight", "embed"),
        same(f"{_LAYER}input_layernorm.weight", "blocks/attention_norm"),
        linear_group(f"{attention}q_proj.weight", "blocks/q", (d,), (n, h)),
        linears((f"{attention}k_proj.weight", f"{attention}v_proj.weight"), "blocks/kv", d, (k, h)),
        linear_group(f"{attention}o_proj.weight", "blocks/attention_out", (n, h), (d,)),
        same(f"{_LAYER}post_attention_layernorm.weight", "blocks/mlp_norm"),
        linears((f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight"), "blocks/gate_up", d, (f,)),
        linear_group(f"{mlp}down_proj.weight", "blocks/down", (f,), (d,)),
        same("model.norm.weight", "final_norm"),
        *head,
    )


LLAMA = HFArchitecture(
    model_type="llama",
    class_name="LlamaForCausalLM",
    config_class=LlamaConfig,
    read=_read,
    write=_write,
    groups=_groups,
    embedding="model.embed_tokens.weight",
    head="lm_head.weight",
    context_field="max_position_embeddings",
    renames=((r"^(?=(embed_tokens|layers|norm)\.)", "model."),),
    buffers=(r"\.rotary_emb\.inv_freq$",),
)
