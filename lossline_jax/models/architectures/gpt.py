"""The parameters of GPT-2 and GPT-NeoX, with the initial values of the authors' code. The block is in `models.gpt`."""

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig
from lossline_jax.models.architectures.architecture import Architecture
from lossline_jax.models.architectures.attention import attended_pairs, kept_bytes, mixing_flops
from lossline_jax.models.architectures.outer import embedding_and_norm
from lossline_jax.models.parameters import Constant, Declaration, Normal, ParameterSpec


def block_parameters(config: GPT2Config | GPTNeoXConfig) -> Declaration:
    """Declare the parameters of one block. `qkv` has queries, keys and values, in this order."""
    d, f, n, h = config.d_model, config.mlp_width, config.num_heads, config.head_dim
    sigma = _sigma(config)
    if isinstance(config, GPT2Config):
        residual_sigma = sigma * (2 * config.num_layers) ** -0.5
    else:
        residual_sigma = 2 / (config.num_layers * d**0.5)
    start, residual_start = Normal(sigma), Normal(residual_sigma)
    return {
        "attention_norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "attention_norm_bias": ParameterSpec((d,), ("embed",), Constant(0.0)),
        "qkv": ParameterSpec((d, 3, n, h), ("embed", None, "heads", "head_dim"), start, num_contracted=1),
        "qkv_bias": ParameterSpec((3, n, h), (None, "heads", "head_dim"), Constant(0.0)),
        "attention_out": ParameterSpec((n, h, d), ("heads", "head_dim", "embed"), residual_start, num_contracted=2),
        "attention_out_bias": ParameterSpec((d,), ("embed",), Constant(0.0)),
        "mlp_norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "mlp_norm_bias": ParameterSpec((d,), ("embed",), Constant(0.0)),
        "up": ParameterSpec((d, f), ("embed", "mlp"), start, num_contracted=1),
        "up_bias": ParameterSpec((f,), ("mlp",), Constant(0.0)),
        "down": ParameterSpec((f, d), ("mlp", "embed"), residual_start, num_contracted=1),
        "down_bias": ParameterSpec((d,), ("embed",), Constant(0.0)),
    }


def outer_parameters(config: GPT2Config | GPTNeoXConfig, vocab_size: int) -> Declaration:
    """Declare the embedding, the final norm with its bias, and the learned positions of GPT-2."""
    d, sigma = config.d_model, _sigma(config)
    outer = embedding_and_norm(config, vocab_size, sigma)
    outer["final_norm_bias"] = ParameterSpec((d,), ("embed",), Constant(0.0))
    if isinstance(config, GPT2Config):
        outer["positions"] = ParameterSpec((config.max_positions, d), (None, "embed"), Normal(sigma))
    return outer


def _sigma(config: GPT2Config | GPTNeoXConfig) -> float:
    """Return the standard deviation of embeddings, and of all weights that do not write to the residual stream."""
    return 0.02 if isinstance(config, GPT2Config) else (2 / (5 * config.d_model)) ** 0.5


GPT = Architecture(
    block_parameters=block_parameters,
    outer_parameters=outer_parameters,
    mixing_flops=mixing_flops,
    kept_bytes=kept_bytes,
    attended_pairs=attended_pairs,
)
