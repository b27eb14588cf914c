"""Convert `GPTNeoXForCausalLM`: Pythia and GPT-NeoX.

The outputs of the tensor `query_key_value` are in the order [head, (q, k, v), channel].
"""

from typing import Any

import numpy as np

from lossline_jax.config.model import GPTNeoXConfig
from lossline_jax.weights.huggingface.fields import Fields
from lossline_jax.weights.huggingface.mapping import Arrays, HFArchitecture, TensorGroup, linear_group, same, transposed
from lossline_jax.weights.huggingface.rotary import read_rotary

_LAYER = "gpt_neox.layers.{layer}."
# The module is `embed_out` in transformers 4 and `lm_head` in 5, but 5 reads and writes the old name in files.
_HEAD = "embed_out.weight"


def _read(fields: Fields) -> GPTNeoXConfig:
    fields.one_of("hidden_act", "gelu")
    fields.one_of("attention_bias", True)
    rotary = read_rotary(
        fields, kinds=("default",), theta_name="rotary_emb_base", fraction_name="rotary_pct", default_fraction=0.25
    )
    fields.repeats("rope_theta", rotary.theta, "rotary_emb_base")
    fields.repeats("partial_rotary_factor", rotary.fraction, "rotary_pct")
    return GPTNeoXConfig(
        d_model=fields.integer("hidden_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=fields.integer("num_attention_heads"),
        d_ff=fields.integer("intermediate_size"),
        rotary_fraction=rotary.fraction,
        rope_theta=rotary.theta,
        parallel_residual=fields.flag("use_parallel_residual", True),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        norm_eps=fields.number("layer_norm_eps", 1e-5),
    )


def _write(config: GPTNeoXConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": "gelu",
        "attention_bias": True,
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": config.rope_theta,
        "use_parallel_residual": config.parallel_residual,
        "layer_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }


def _groups(config: GPTNeoXConfig) -> tuple[TensorGroup, ...]:
    d, f, n, h = config.d_model, config.mlp_width, config.num_heads, config.head_dim
    attention, mlp = f"{_LAYER}attention.", f"{_LAYER}mlp."
    head = () if config.tied_embeddings else (transposed(_HEAD, "unembed"),)
    return (
        same("gpt_neox.embed_in.weight", "embed"),
        same(f"{_LAYER}input_layernorm.weight", "blocks/attention_norm"),
        same(f"{_LAYER}input_layernorm.bias", "blocks/attention_norm_bias"),
        *_query_key_value(f"{attention}query_key_value.", n, h),
        linear_group(f"{attention}dense.weight", "blocks/attention_out", (n, h), (d,)),
        same(f"{attention}dense.bias", "blocks/attention_out_bias"),
        same(f"{_LAYER}post_attention_layernorm.weight", "blocks/mlp_norm"),
        same(f"{_LAYER}post_attention_layernorm.bias", "blocks/mlp_norm_bias"),
        linear_group(f"{mlp}dense_h_to_4h.weight", "blocks/up", (d,), (f,)),
        same(f"{mlp}dense_h_to_4h.bias", "blocks/up_bias"),
        linear_group(f"{mlp}dense_4h_to_h.weight", "blocks/down", (f,), (d,)),
        same(f"{mlp}dense_4h_to_h.bias", "blocks/down_bias"),
        same("gpt_neox.final_layer_norm.weight", "final_norm"),
        same("gpt_neox.final_layer_norm.bias", "final_norm_bias"),
        *head,
    )


def _query_key_value(name: str, n: int, h: int) -> tuple[TensorGroup, TensorGroup]:
    def weight_to_leaves(tensor: np.ndarray) -> Arrays:
        return (tensor.reshape(n, 3, h, -1).transpose(3, 1, 0, 2),)

    def weight_to_tensors(leaf: np.ndarray) -> Arrays:
        return (leaf.transpose(2, 1, 3, 0).reshape(3 * n * h, -1),)

    def bias_to_leaves(tensor: np.ndarray) -> Arrays:
        return (tensor.reshape(n, 3, h).transpose(1, 0, 2),)

    def bias_to_tensors(leaf: np.ndarray) -> Arrays:
        return (leaf.transpose(1, 0, 2).reshape(-1),)

    return (
        TensorGroup((f"{name}weight",), ("blocks/qkv",), weight_to_leaves, weight_to_tensors),
        TensorGroup((f"{name}bias",), ("blocks/qkv_bias",), bias_to_leaves, bias_to_tensors),
    )


GPT_NEOX = HFArchitecture(
    model_type="gpt_neox",
    class_name="GPTNeoXForCausalLM",
    config_class=GPTNeoXConfig,
    read=_read,
    write=_write,
    groups=_groups,
    embedding="gpt_neox.embed_in.weight",
    head=_HEAD,
    context_field="max_position_embeddings",
    renames=((r"^lm_head\.", "embed_out."), (r"^(?=(embed_in|layers|final_layer_norm)\.)", "gpt_neox.")),
    buffers=(r"\.attention\.(bias|masked_bias)$", r"\.rotary_emb\.inv_freq$"),
)
