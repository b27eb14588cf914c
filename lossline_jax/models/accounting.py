"""Count the parameters and FLOPs of a model from its config alone, without jax.

A multiply-add counts as 2 FLOPs.

Counted: every matrix product, the unembedding, the convolution, and the causal half of attention (position t reads
t + 1 keys). The recurrence of the scan is counted as it is defined, independent of the chunks of its computation.

Not counted: norms, activations, softmax, rotary positions, the embedding look-up.
"""

from dataclasses import dataclass

from lossline_jax.config.model import ModelConfig
from lossline_jax.models.architectures import architecture_of
from lossline_jax.models.declaration import declare_model

_EMBEDDINGS = ("embed", "unembed", "positions")


@dataclass(frozen=True)
class ParameterCounts:
    """The numbers of trainable parameters.

    Attributes:
        total: all parameters.
        embedding: parameters of the embedding, the unembedding if it is not tied, and learned positions.
        non_embedding: all others.
    """

    total: int
    embedding: int
    non_embedding: int


def count_parameters(config: ModelConfig, vocab_size: int) -> ParameterCounts:
    """Count the parameters of a model. `total = embedding + non_embedding`."""
    declaration = declare_model(config, vocab_size)
    blocks = sum(leaf.size for leaf in declaration.pop("blocks").values())
    embedding = sum(leaf.size for name, leaf in declaration.items() if name in _EMBEDDINGS)
    total = blocks + sum(leaf.size for leaf in declaration.values())
    return ParameterCounts(total, embedding, total - embedding)


def forward_flops_per_token(config: ModelConfig, vocab_size: int, context_length: int) -> float:
    """Return the FLOPs of one forward pass over a sequence of `context_length` tokens, divided by its tokens."""
    architecture = architecture_of(config)
    weights = sum(leaf.size for leaf in architecture.block_parameters(config).values() if leaf.num_contracted)
    block = 2 * weights + architecture.mixing_flops(config, context_length)
    return float(config.num_layers * block + 2 * config.d_model * vocab_size)


def train_flops_per_token(config: ModelConfig, vocab_size: int, context_length: int) -> float:
    """Return the FLOPs of a forward and a backward pass: three times the forward pass. Remat is not counted."""
    return 3 * forward_flops_per_token(config, vocab_size, context_length)
