"""The costs that all blocks with causal attention have in common."""

from typing import Protocol

from lossline_jax.ops.block_sizes import MAX_QUERY_BLOCKS


class AttentionConfig(Protocol):
    """A config of a model with attention and an MLP."""

    @property
    def num_heads(self) -> int:
        """The number of query heads."""
        ...

    @property
    def head_dim(self) -> int:
        """The channels of a head."""
        ...

    @property
    def mlp_width(self) -> int:
        """The hidden channels of the MLP."""
        ...


def mixing_flops(config: AttentionConfig, context_length: int) -> float:
    """Return the FLOPs per token of the scores and the weighted values. Position t reads t + 1 keys."""
    mean_keys = (context_length + 1) / 2
    return 4 * config.num_heads * config.head_dim * mean_keys


def attended_pairs(config: AttentionConfig, length: int) -> float:
    """Return the number of pairs that `ops.attention` scores. Each block of queries reads the keys up to its end."""
    share = (MAX_QUERY_BLOCKS + 1) / (2 * MAX_QUERY_BLOCKS)
    return config.num_heads * length**2 * share


def kept_bytes(config: AttentionConfig, length: int, bytes_per_number: int) -> float:
    """Return the bytes of the scores, in float32 and in the compute dtype, and of the values that the MLP keeps."""
    scores = attended_pairs(config, length) * (4 + bytes_per_number)
    return scores + 2 * length * config.mlp_width * bytes_per_number
