"""Convert `Mamba2ForCausalLM`, including the form of Mamba-2 without a step bias that the study uses.

The tensor in_proj of transformers holds z, x, B, C and dt one after another, and conv1d holds x, B and C.
Lossline cuts these tensors into leaves where devices cut them. Models of transformers always have a step bias.
A lossline model without a step bias is written with zeros and the field `use_dt_bias`, which is lossline's own.
With this field the model is read back unchanged.
"""

from typing import Any

import numpy as np

from lossline_jax.config.model import Mamba2Config
from lossline_jax.weights.huggingface.fields import Fields
from lossline_jax.weights.huggingface.mapping import Arrays, HFArchitecture, TensorGroup, linear_group, same, transposed
from lossline_jax.weights.huggingface.ssm import LAYER, MIXER, RENAMES, expansion, read_shared

_INFINITY = float("inf")


def _read(fields: Fields) -> Mamba2Config:
    shared = read_shared(fields)
    inner = fields.integer("expand", 2) * shared["d_model"]
    fields.repeats("intermediate_size", inner, "expand * hidden_size")
    num_heads = fields.integer("num_heads")
    fields.repeats("head_dim", inner // num_heads, "expand * hidden_size / num_heads")
    fields.one_of("norm_before_gate", False)
    fields.one_of("time_step_limit", [0.0, _INFINITY])
    fields.harmless("time_step_rank", "chunk_size")  # the logits depend on neither
    return Mamba2Config(
        **shared,
        d_inner=inner,
        num_heads=num_heads,
        num_groups=fields.integer("n_groups", 8),
        d_state=fields.integer("state_size", 128),
        conv_bias=fields.flag("use_conv_bias", True),
        dt_bias=fields.flag("use_dt_bias", True),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
    )


def _write(config: Mamba2Config) -> dict[str, Any]:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.head_dim,
        "n_groups": config.num_groups,
        "state_size": config.d_state,
        "expand": expansion(config),
        "conv_kernel": config.conv_width,
        "chunk_size": config.chunk_size or 256,
        "time_step_min": config.dt_min,
        "time_step_max": config.dt_max,
        "hidden_act": "silu",
        "use_bias": False,
        "use_conv_bias": config.conv_bias,
        "use_dt_bias": config.dt_bias,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }


def _groups(config: Mamba2Config) -> tuple[TensorGroup, ...]:
    head = () if config.tied_embeddings else (transposed("lm_head.weight", "unembed"),)
    conv_bias = (_conv_bias(config),) if config.conv_bias else ()
    dt_bias = same(f"{MIXER}dt_bias", "blocks/dt_bias") if config.dt_bias else _no_dt_bias(config.num_heads)
    return (
        same("backbone.embeddings.weight", "embed"),
        same(f"{LAYER}norm.weight", "blocks/norm"),
        _in_projection(config),
        _convolution(config),
        *conv_bias,
        dt_bias,
        same(f"{MIXER}A_log", "blocks/a_log"),
        same(f"{MIXER}D", "blocks/d_skip"),
        same(f"{MIXER}norm.weight", "blocks/gated_norm"),
        linear_group(f"{MIXER}out_proj.weight", "blocks/out", (config.inner,), (config.d_model,)),
        same("backbone.norm_f.weight", "final_norm"),
        *head,
    )


def _in_projection(config: Mamba2Config) -> TensorGroup:
    d, e, g, s = config.d_model, config.inner, config.num_groups, config.d_state
    cuts = [2 * e, 2 * e + 2 * g * s]

    def to_leaves(tensor: np.ndarray) -> Arrays:
        zx, bc, dt = np.split(tensor.T, cuts, axis=1)
        return zx.reshape(d, 2, e), bc.reshape(d, 2, g, s), dt

    def to_tensors(zx: np.ndarray, bc: np.ndarray, dt: np.ndarray) -> Arrays:
        return (np.concatenate([zx.reshape(d, -1), bc.reshape(d, -1), dt], axis=1).T,)

    paths = ("blocks/in_zx", "blocks/in_bc", "blocks/in_dt")
    return TensorGroup((f"{MIXER}in_proj.weight",), paths, to_leaves, to_tensors)


def _convolution(config: Mamba2Config) -> TensorGroup:
    w, e, g, s = config.conv_width, config.inner, config.num_groups, config.d_state

    def to_leaves(tensor: np.ndarray) -> Arrays:
        x, bc = np.split(tensor[:, 0].T, [e], axis=1)
        return x, bc.reshape(w, 2, g, s)

    def to_tensors(x: np.ndarray, bc: np.ndarray) -> Arrays:
        return (np.concatenate([x, bc.reshape(w, -1)], axis=1).T[:, None],)

    return TensorGroup((f"{MIXER}conv1d.weight",), ("blocks/conv_x", "blocks/conv_bc"), to_leaves, to_tensors)


def _conv_bias(config: Mamba2Config) -> TensorGroup:
    e, g, s = config.inner, config.num_groups, config.d_state

    def to_leaves(tensor: np.ndarray) -> Arrays:
        return tensor[:e], tensor[e:].reshape(2, g, s)

    def to_tensors(x: np.ndarray, bc: np.ndarray) -> Arrays:
        return (np.concatenate([x, bc.reshape(-1)]),)

    return TensorGroup((f"{MIXER}conv1d.bias",), ("blocks/conv_x_bias", "blocks/conv_bc_bias"), to_leaves, to_tensors)


def _no_dt_bias(num_heads: int) -> TensorGroup:
    def to_leaves(tensor: np.ndarray) -> Arrays:
        if np.any(tensor):
            raise ValueError("is not zero, although config.json says use_dt_bias=false")
        return ()

    return TensorGroup((f"{MIXER}dt_bias",), (), to_leaves, lambda: (np.zeros(num_heads, np.float32),))


MAMBA2 = HFArchitecture(
    model_type="mamba2",
    class_name="Mamba2ForCausalLM",
    config_class=Mamba2Config,
    read=_read,
    write=_write,
    groups=_groups,
    embedding="backbone.embeddings.weight",
    head="lm_head.weight",
    renames=RENAMES,
)
