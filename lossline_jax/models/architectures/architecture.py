"""The facts that an architecture states, without jax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lossline_jax.models.parameters import Declaration


@dataclass(frozen=True)
class Architecture:
    """Functions of a model config, all without jax. FLOPs count a multiply-add as 2.

    Attributes:
        block_parameters: the parameters of one block.
        outer_parameters: those outside the blocks but the unembedding, given the config and the vocabulary size.
        mixing_flops: FLOPs a token with which one block mixes positions, given the config and the context length.
        kept_bytes: bytes of one sequence that a block keeps for its backward pass, beside norms and the results of its
            products with weights; given the config, the context length and the bytes of a number.
        attended_pairs: pairs of positions of one sequence that all heads of a block score, given the config and length.
    """

    block_parameters: Callable[[Any], Declaration]
    outer_parameters: Callable[[Any, int], Declaration]
    mixing_flops: Callable[[Any, int], float]
    kept_bytes: Callable[[Any, int, int], float]
    attended_pairs: Callable[[Any, int], float] = lambda config, length: 0.0
