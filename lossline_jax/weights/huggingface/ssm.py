"""The names of tensors and the fields of config.json that Mamba-1 and Mamba-2 share."""

from typing import Any

from lossline_jax.config.model import Mamba2Config, MambaConfig
from lossline_jax.errors import LosslineError
from lossline_jax.weights.huggingface.fields import Fields

LAYER = "backbone.layers.{layer}."
MIXER = f"{LAYER}mixer."
RENAMES = (  # of older files, which leave out the prefix or write `embedding`
    (r"^(?=(embeddings?|layers|norm_f)\.)", "backbone."),
    (r"^backbone\.embedding\.", "backbone.embeddings."),
)


def read_shared(fields: Fields) -> dict[str, Any]:
    """Return the arguments that `MambaConfig` and `Mamba2Config` share.

    Some published files still have `d_model`, `n_layer`, `ssm_cfg` and similar fields of the authors' own format.
    Transformers does not read these fields.

    Args:
        fields: the fields of the config.json.

    Raises:
        LosslineError: a field has a value that neither model supports.
    """
    width, num_layers = fields.integer("hidden_size"), fields.integer("num_hidden_layers")
    fields.repeats("d_model", width, "hidden_size")
    fields.repeats("n_layer", num_layers, "num_hidden_layers")
    fields.one_of("hidden_act", "silu")
    fields.one_of("use_bias", False)
    fields.one_of("rms_norm", True)
    fields.one_of("ssm_cfg", {})
    fields.harmless("residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "rescale_prenorm_residual")
    fields.harmless("time_step_floor", "time_step_init_scheme", "time_step_scale")  # only for initial values
    return {
        "d_model": width,
        "num_layers": num_layers,
        "conv_width": fields.integer("conv_kernel", 4),
        "norm_eps": fields.number("layer_norm_epsilon", 1e-5),
        "dt_min": fields.number("time_step_min", 1e-3),
        "dt_max": fields.number("time_step_max", 1e-1),
    }


def expansion(config: MambaConfig | Mamba2Config) -> int:
    """Return the field `expand` of transformers: the inner width divided by the model width.

    Args:
        config: the model.

    Raises:
        LosslineError: the inner width is not a multiple of the model width, which transformers cannot express.
    """
    if config.inner % config.d_model:
        raise LosslineError(
            f"model.d_inner: transformers knows inner widths that are a multiple of d_model={config.d_model} only, "
            f"and this one is {config.inner}; such a model cannot be exported"
        )
    return config.inner // config.d_model
