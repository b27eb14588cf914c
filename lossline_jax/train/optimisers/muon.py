"""Muon: orthogonalised momentum for the matrices of the blocks, and Adam for everything else."""

import math
from typing import Any

import jax
import optax

from lossline_jax.config.training import OptimConfig
from lossline_jax.models.parameters import Declaration, ParameterSpec
from lossline_jax.train.optimisers.rule import Steps

# The root mean square of AdamW's updates, about .2. Muon's updates are scaled to it, so both take the same learning
# rate and weight decay (Liu et al. 2025, arXiv 2502.16982, section 2.2).
UPDATE_RMS = 0.2


def muon(optim: OptimConfig, learning_rate: optax.Schedule, decayed: Any, declaration: Declaration) -> Steps:
    """Return Muon (Jordan et al. 2024) with Nesterov momentum and five steps of the Newton-Schulz iteration.

    Every matrix of a block's products with tokens is orthogonalised by itself, layer by layer. Embeddings, the
    unembedding, norms, biases and convolutions are updated by Adam with `beta1` and `beta2`.

    Args:
        optim: the constants.
        learning_rate: schedule over optax's count, for both groups.
        decayed: tree of bools in the structure of the parameters. False: no weight decay.
        declaration: the declared parameters.
    """
    is_matrix = jax.tree.map_with_path(_is_matrix, declaration)
    dimensions = jax.tree.map(_dimensions, declaration, is_matrix)
    matrices = optax.chain(
        optax.contrib.scale_by_muon(beta=optim.muon_momentum, weight_dimension_numbers=dimensions),
        _scale_to_rms(declaration, is_matrix),
    )
    adam = optax.scale_by_adam(b1=optim.beta1, b2=optim.beta2, eps=optim.eps)
    groups = jax.tree.map(lambda matrix: "matrices" if matrix else "others", is_matrix)
    return (
        optax.partition({"matrices": matrices, "others": adam}, groups),
        optax.add_decayed_weights(optim.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(learning_rate),
    )


def _is_matrix(path: tuple, spec: ParameterSpec) -> bool:
    """Return True for a weight of a block that is multiplied with every token, such as a projection."""
    return path[0].key == "blocks" and spec.is_decayed and spec.num_contracted > 0


def matrix_axes(spec: ParameterSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes of a stacked leaf that are the rows of its matrices, and those that are the columns.

    The contracted axes are the rows. The last axis and the other named axes are the columns. An unnamed axis before
    the last one, such as the one of keys and values, holds matrices of their own, and so does the axis of layers.
    """
    first, last = 1 + spec.num_contracted, len(spec.shape) - 1
    columns = tuple(axis for axis in range(first, last + 1) if axis == last or spec.axes[axis] is not None)
    return tuple(range(1, first)), columns


def _dimensions(spec: ParameterSpec, matrix: bool) -> optax.contrib.MuonDimensionNumbers | optax.MaskedNode:
    return optax.contrib.MuonDimensionNumbers(*matrix_axes(spec)) if matrix else optax.MaskedNode()


def _scale_to_rms(declaration: Declaration, is_matrix: dict[str, Any]) -> optax.GradientTransformation:
    """Scale orthogonal matrices, whose root mean square is 1 / sqrt(larger side), to `UPDATE_RMS`."""

    def factor(spec: ParameterSpec, matrix: bool) -> float | optax.MaskedNode:
        if not matrix:
            return optax.MaskedNode()
        sides = (math.prod(spec.shape[axis] for axis in axes) for axes in matrix_axes(spec))
        return UPDATE_RMS * math.sqrt(max(sides))

    factors = jax.tree.map(factor, declaration, is_matrix)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda update, scale: update * scale, updates, factors))
