"""Convert `GPT2LMHeadModel`.

Its `Conv1D` layers are [in, out], as in lossline. Older files omit the prefix `transformer.` of tensor names.
"""

from typing import Any

from lossline_jax.config.model import GPT2Config
from lossline_jax.weights.huggingface.fields import Fields
from lossline_jax.weights.huggingface.mapping import HFArchitecture, TensorGroup, reshaped, same, transposed

_LAYER = "transformer.h.{layer}."


def _read(fields: Fields) -> GPT2Config:
    width, num_positions = fields.integer("n_embd"), fields.integer("n_positions", 1024)
    fields.repeats("n_ctx", num_positions, "n_positions")
    # All three names stand for the tanh approximation.
    fields.one_of("activation_function", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")
    fields.one_of("scale_attn_weights", True)
    fields.one_of("scale_attn_by_inverse_layer_idx", False)
    fields.harmless("reorder_and_upcast_attn", "attn_pdrop", "embd_pdrop", "resid_pdrop")
    fields.repeats("hidden_size", width, "n_embd")
    fields.harmless("summary_activation", "summary_first_dropout", "summary_proj_to_labels")
    fields.harmless("summary_type", "summary_use_proj", "n_special", "predict_special_tokens")
    return GPT2Config(
        d_model=width,
        num_layers=fields.integer("n_layer"),
        num_heads=fields.integer("n_head"),
        d_ff=fields.integer("n_inner", 4 * width),
        max_positions=num_positions,
        tied_embeddings=fields.flag("tie_word_embeddings", True),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
    )


def _write(config: GPT2Config) -> dict[str, Any]:
    return {
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.mlp_width,
        "n_positions": config.max_positions,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }


def _groups(config: GPT2Config) -> tuple[TensorGroup, ...]:
    d, n, h = config.d_model, config.num_heads, config.head_dim
    attention, mlp = f"{_LAYER}attn.", f"{_LAYER}mlp."
    head = () if config.tied_embeddings else (transposed("lm_head.weight", "unembed"),)
    return (
        same("transformer.wte.weight", "embed"),
        same("transformer.wpe.weight", "positions"),
        same(f"{_LAYER}ln_1.weight", "blocks/attention_norm"),
        same(f"{_LAYER}ln_1.bias", "blocks/attention_norm_bias"),
        reshaped(f"{attention}c_attn.weight", "blocks/qkv", (d, 3, n, h), (d, 3 * d)),
        reshaped(f"{attention}c_attn.bias", "blocks/qkv_bias", (3, n, h), (3 * d,)),
        reshaped(f"{attention}c_proj.weight", "blocks/attention_out", (n, h, d), (d, d)),
        same(f"{attention}c_proj.bias", "blocks/attention_out_bias"),
        same(f"{_LAYER}ln_2.weight", "blocks/mlp_norm"),
        same(f"{_LAYER}ln_2.bias", "blocks/mlp_norm_bias"),
        same(f"{mlp}c_fc.weight", "blocks/up"),
        same(f"{mlp}c_fc.bias", "blocks/up_bias"),
        same(f"{mlp}c_proj.weight", "blocks/down"),
        same(f"{mlp}c_proj.bias", "blocks/down_bias"),
        same("transformer.ln_f.weight", "final_norm"),
        same("transformer.ln_f.bias", "final_norm_bias"),
        *head,
    )


GPT2 = HFArchitecture(
    model_type="gpt2",
    class_name="GPT2LMHeadModel",
    config_class=GPT2Config,
    read=_read,
    write=_write,
    groups=_groups,
    embedding="transformer.wte.weight",
    head="lm_head.weight",
    context_field="n_positions",
    renames=((r"^(?=(wte|wpe|h|ln_f)\.)", "transformer."),),
    buffers=(r"\.attn\.(bias|masked_bias)$",),
)
