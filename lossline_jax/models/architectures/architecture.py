"""The facts that every architecture declares, without jax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lossline_jax.models.parameters import Declaration


@dataclass(frozen=True)
class Architecture:
    """The facts about an architecture, as functions of a model config. A multiply-add counts as 2 FLOPs.

    Attributes:
        block_parameters: the parameters of one block.
        outer_parameters: the parameters outside the blocks except the unembedding, from config and vocabulary size.
        mixing_flops: FLOPs per token with which one block mixes positions, from config and context length.
        kept_bytes: bytes of one sequence that a block keeps for its backward pass, from config, context length and
            bytes per number. Norms and the results of products with weights are not counted.
        attended_pairs: pairs of positions of one sequence that all heads of a block score, from config and length.
    """

    block_parameters: Callable[[Any], Declaration]
    outer_parameters: Callable[[Any, int], Declaration]
    mixing_flops: Callable[[Any, int], float]
    kept_bytes: Callable[[Any, int, int], float]
    attended_pairs: Callable[[Any, int], float] = lambda config, length: 0.0
