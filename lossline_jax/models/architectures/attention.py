"""Costs that all blocks with causal attention have in common."""

from typing import Protocol

from lossline_jax.ops.block_sizes import MAX_QUERY_BLOCKS


class AttentionConfig(Protocol):
    """A config of a model with attention and an MLP."""

    @property
    def num_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...


def mixing_flops(config: AttentionConfig, context_length: int) -> float:
    """Return the FLOPs a token of scores and weighted values. Position t reads t + 1 keys."""
    mean_keys = (context_length + 1) / 2
    return 4 * config.num_heads * config.head_dim * mean_keys


def attended_pairs(config: AttentionConfig, length: int) -> float:
    """Return the pairs that `ops.attention` scores: each block of queries against the keys up to its end."""
    share = (MAX_QUERY_BLOCKS + 1) / (2 * MAX_QUERY_BLOCKS)
    return config.num_heads * length**2 * share


def kept_bytes(config: AttentionConfig, length: int, bytes_per_number: int) -> float:
    """Return the bytes of scores, in float32 and in the compute dtype, and of what the MLP keeps."""
    scores = attended_pairs(config, length) * (4 + bytes_per_number)
    return scores + 2 * length * config.mlp_width * bytes_per_number
