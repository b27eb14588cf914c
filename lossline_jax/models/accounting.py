"""Parameters and FLOPs from a model's config alone, in closed form and without jax.

FLOPs count a multiply-add as 2. Counted: every matrix product, the unembedding, the causal half of attention
(position t reads t + 1 keys), the convolution, and the recurrence of the scan as it is defined, whatever the
chunks it is computed in. Not counted: norms, activations, softmax, rotary positions, the embedding look-up.
"""

from dataclasses import dataclass
from typing import assert_never

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig, ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Trainable numbers.

    `embedding` holds the embedding, the unembedding where it is untied, and learned positions.
    """

    total: int
    embedding: int
    non_embedding: int


def count_parameters(config: ModelConfig, vocab_size: int) -> ParameterCounts:
    """Parameters by group: `total = embedding + non_embedding`."""
    tables = 1 if config.tied_embeddings else 2
    positions = config.max_positions if isinstance(config, GPT2Config) else 0
    embedding = (tables * vocab_size + positions) * config.d_model
    final_norm = config.d_model * (2 if isinstance(config, (GPT2Config, GPTNeoXConfig)) else 1)
    non_embedding = config.num_layers * _block_parameters(config) + final_norm
    return ParameterCounts(embedding + non_embedding, embedding, non_embedding)


def forward_flops_per_token(config: ModelConfig, vocab_size: int, context_length: int) -> float:
    """FLOPs of one forward pass over a sequence of `context_length`, divided by its tokens."""
    block = 2 * _block_matrix_weights(config) + _mixing_flops(config, context_length)
    return float(config.num_layers * block + 2 * config.d_model * vocab_size)


def train_flops_per_token(config: ModelConfig, vocab_size: int, context_length: int) -> float:
    """Forward and backward: three times the forward pass. Recomputation (remat) is not counted."""
    return 3 * forward_flops_per_token(config, vocab_size, context_length)


def _block_matrix_weights(config: ModelConfig) -> int:
    """Weights of one block that meet every token in a matrix product."""
    d = config.d_model
    match config:
        case LlamaConfig():
            attention = 2 * d * config.head_dim * (config.num_heads + config.kv_heads)
            return attention + 3 * d * config.mlp_width
        case Mamba2Config():
            state = config.num_groups * config.d_state
            return d * (2 * config.inner + 2 * state + config.num_heads) + config.inner * d
        case MambaConfig():
            e, rank = config.inner, config.delta_rank
            return d * 2 * e + e * (rank + 2 * config.d_state) + rank * e + e * d
        case GPT2Config() | GPTNeoXConfig():
            return 4 * d * d + 2 * d * config.mlp_width
        case _:
            assert_never(config)


def _block_parameters(config: ModelConfig) -> int:
    weights, d = _block_matrix_weights(config), config.d_model
    match config:
        case LlamaConfig():
            return weights + 2 * d
        case Mamba2Config():
            channels = _conv_channels(config)
            conv = channels * (config.conv_width + config.conv_bias)
            return weights + conv + (2 + config.dt_bias) * config.num_heads + d + config.inner
        case MambaConfig():
            e = config.inner
            return weights + e * (config.conv_width + 1) + e * config.d_state + 2 * e + d
        case GPT2Config() | GPTNeoXConfig():
            biases = 3 * d + d + config.mlp_width + d
            return weights + biases + 4 * d
        case _:
            assert_never(config)


def _mixing_flops(config: ModelConfig, context_length: int) -> float:
    """FLOPs a token of what mixes positions in one block."""
    match config:
        case LlamaConfig() | GPT2Config() | GPTNeoXConfig():
            mean_keys = (context_length + 1) / 2
            return 4 * config.num_heads * config.head_dim * mean_keys
        case Mamba2Config():
            # dt x, then for each state element: decay (1), add b dt x (2), read with c (2); the skip.
            scan = config.inner * (1 + 5 * config.d_state + 2)
            return 2 * config.conv_width * _conv_channels(config) + scan
        case MambaConfig():
            # As above with dt a (1) for each state element; the exponential is not counted.
            scan = config.inner * (1 + 6 * config.d_state + 2)
            return 2 * config.conv_width * config.inner + scan
        case _:
            assert_never(config)


def _conv_channels(config: Mamba2Config) -> int:
    return config.inner + 2 * config.num_groups * config.d_state
