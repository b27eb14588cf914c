"""The parameters of Llama (Touvron et al. 2023, arXiv 2302.13971). The block is in `models.llama`."""

from lossline_jax.config.model import LlamaConfig
from lossline_jax.models.architectures.architecture import Architecture
from lossline_jax.models.architectures.attention import attended_pairs, kept_bytes, mixing_flops
from lossline_jax.models.architectures.outer import embedding_and_norm
from lossline_jax.models.parameters import Constant, Declaration, Normal, ParameterSpec


def block_parameters(config: LlamaConfig) -> Declaration:
    """Declare the parameters of one block. `kv` has keys, then values; `gate_up` the gate, then the up projection."""
    d, f = config.d_model, config.mlp_width
    n, k, h = config.num_heads, config.kv_heads, config.head_dim
    start = Normal(d**-0.5)
    return {
        "attention_norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "q": ParameterSpec((d, n, h), ("embed", "heads", "head_dim"), start, num_contracted=1),
        "kv": ParameterSpec((d, 2, k, h), ("embed", None, "kv_heads", "head_dim"), start, num_contracted=1),
        "attention_out": ParameterSpec((n, h, d), ("heads", "head_dim", "embed"), start, num_contracted=2),
        "mlp_norm": ParameterSpec((d,), ("embed",), Constant(1.0)),
        "gate_up": ParameterSpec((d, 2, f), ("embed", None, "mlp"), start, num_contracted=1),
        "down": ParameterSpec((f, d), ("mlp", "embed"), Normal(f**-0.5), num_contracted=1),
    }


LLAMA = Architecture(
    block_parameters=block_parameters,
    outer_parameters=lambda config, vocab_size: embedding_and_norm(config, vocab_size, config.d_model**-0.5),
    mixing_flops=mixing_flops,
    kept_bytes=kept_bytes,
    attended_pairs=attended_pairs,
)
