"""What the config.json files of Mamba-1 and Mamba-2 have in common."""

from typing import Any

from lossline_jax.config.model import Mamba2Config, MambaConfig
from lossline_jax.errors import LosslineError
from lossline_jax.weights.huggingface.fields import Fields


def read_shared(fields: Fields) -> dict[str, Any]:
    """Arguments that both of our configs take; refuses what neither of our models can do.

    `d_model`, `n_layer`, `ssm_cfg` and the like are left over in some published files from the authors' own
    format; transformers does not read them.
    """
    width, num_layers = fields.integer("hidden_size"), fields.integer("num_hidden_layers")
    fields.repeats("d_model", width, "hidden_size")
    fields.repeats("n_layer", num_layers, "num_hidden_layers")
    fields.one_of("hidden_act", "silu")
    fields.one_of("use_bias", False)
    fields.one_of("rms_norm", True)
    fields.one_of("ssm_cfg", {})
    fields.harmless("residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "rescale_prenorm_residual")
    fields.harmless("time_step_floor", "time_step_init_scheme", "time_step_scale")  # of the start values
    return {
        "d_model": width,
        "num_layers": num_layers,
        "conv_width": fields.integer("conv_kernel", 4),
        "norm_eps": fields.number("layer_norm_epsilon", 1e-5),
        "dt_min": fields.number("time_step_min", 1e-3),
        "dt_max": fields.number("time_step_max", 1e-1),
    }


def expansion(config: MambaConfig | Mamba2Config) -> int:
    """Transformers' `expand`.

    Raises:
        LosslineError: the inner width is no multiple of the model's, which transformers cannot say.
    """
    if config.inner % config.d_model:
        raise LosslineError(
            f"model.d_inner: transformers knows inner widths that are a multiple of d_model={config.d_model} only, "
            f"and this one is {config.inner}; such a model cannot be exported"
        )
    return config.inner // config.d_model
