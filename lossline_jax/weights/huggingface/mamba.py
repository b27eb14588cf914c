"""Convert `MambaForCausalLM`: Mamba-1 with the names of transformers, such as `state-spaces/mamba-130m-hf`."""

import math
from typing import Any

from lossline_jax.config.model import MambaConfig
from lossline_jax.weights.huggingface.fields import Fields
from lossline_jax.weights.huggingface.mapping import (
    HFArchitecture,
    TensorGroup,
    depthwise_conv,
    linear_group,
    same,
    transposed,
)
from lossline_jax.weights.huggingface.ssm import LAYER, MIXER, RENAMES, expansion, read_shared


def _read(fields: Fields) -> MambaConfig:
    shared = read_shared(fields)
    inner = fields.integer("expand", 2) * shared["d_model"]
    fields.repeats("intermediate_size", inner, "expand * hidden_size")
    fields.repeats("d_inner", inner, "expand * hidden_size")
    fields.one_of("use_conv_bias", True)
    fields.harmless("use_mambapy", "use_associative_scan")
    return MambaConfig(
        **shared,
        d_inner=inner,
        d_state=fields.integer("state_size", 16),
        dt_rank=fields.integer("time_step_rank", math.ceil(shared["d_model"] / 16), automatic="auto"),
        tied_embeddings=fields.flag("tie_word_embeddings", True),
    )


def _write(config: MambaConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "state_size": config.d_state,
        "expand": expansion(config),
        "intermediate_size": config.inner,
        "conv_kernel": config.conv_width,
        "time_step_rank": config.delta_rank,
        "time_step_min": config.dt_min,
        "time_step_max": config.dt_max,
        "hidden_act": "silu",
        "use_bias": False,
        "use_conv_bias": True,
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
    }


def _groups(config: MambaConfig) -> tuple[TensorGroup, ...]:
    d, e, r, s = config.d_model, config.inner, config.delta_rank, config.d_state
    head = () if config.tied_embeddings else (transposed("lm_head.weight", "unembed"),)
    return (
        same("backbone.embeddings.weight", "embed"),
        same(f"{LAYER}norm.weight", "blocks/norm"),
        linear_group(f"{MIXER}in_proj.weight", "blocks/in_xz", (d,), (2, e)),
        depthwise_conv(f"{MIXER}conv1d.weight", "blocks/conv"),
        same(f"{MIXER}conv1d.bias", "blocks/conv_bias"),
        linear_group(f"{MIXER}x_proj.weight", "blocks/to_dt_bc", (e,), (r + 2 * s,)),
        linear_group(f"{MIXER}dt_proj.weight", "blocks/to_dt", (r,), (e,)),
        same(f"{MIXER}dt_proj.bias", "blocks/dt_bias"),
        transposed(f"{MIXER}A_log", "blocks/a_log"),
        same(f"{MIXER}D", "blocks/d_skip"),
        linear_group(f"{MIXER}out_proj.weight", "blocks/out", (e,), (d,)),
        same("backbone.norm_f.weight", "final_norm"),
        *head,
    )


MAMBA = HFArchitecture(
    model_type="mamba",
    class_name="MambaForCausalLM",
    config_class=MambaConfig,
    read=_read,
    write=_write,
    groups=_groups,
    embedding="backbone.embeddings.weight",
    head="lm_head.weight",
    renames=RENAMES,
)
