"""The maximal update parameterisation (muP): the best learning rate does not change with the width of the model."""

import jax
import optax

from lossline_jax.models.parameters import Declaration, Params


def scale_with_width(declaration: Declaration, factor: float) -> optax.GradientTransformation:
    """Multiply the updates of every matrix of a product with tokens by base width / width.

    These are the matrices of the blocks and the unembedding. Embeddings, norms, biases and convolutions keep their
    rate. The matrices of the blocks already begin with the variance 1 / width.

    Args:
        declaration: the declared parameters.
        factor: base width / width.

    Source: Yang et al. 2022 (arXiv 2203.03466), table 8, the column of Adam.
    """
    factors = jax.tree.map(lambda spec: factor if spec.num_contracted else 1.0, declaration)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda update, scale: scale * update, updates, factors))


def begin_by_width(params: Params, declaration: Declaration, factor: float) -> Params:
    """Return the initial parameters with the standard deviations of muP (table 3) outside the blocks.

    They are constant for the embedding, and in proportion to width^-1 for the unembedding. A model begins with
    width^-1/2 for both, or with a constant embedding. The model of the base width is not changed.

    Args:
        params: the parameters.
        declaration: the declared parameters.
        factor: base width / width.
    """
    begins_with_width = declaration["embed"].start == declaration["unembed"].start
    embed = params["embed"] * factor**-0.5 if begins_with_width else params["embed"]
    return {**params, "embed": embed, "unembed": params["unembed"] * factor**0.5}
