"""Learning rates of the maximal update parameterisation (muP), which do not change with the width of the model."""

import jax
import optax

from lossline_jax.models.parameters import Declaration


def scale_with_width(declaration: Declaration, factor: float) -> optax.GradientTransformation:
    """Multiply the updates of every matrix of a product with tokens by base width / width.

    These are the matrices of the blocks and the unembedding. Embeddings, norms, biases and convolutions keep their
    rate. The initial values of a matrix already have the variance 1 / width.

    Args:
        declaration: the declared parameters.
        factor: base width / width.

    Source: Yang et al. 2022 (arXiv 2203.03466), table 8, the column of Adam.
    """
    factors = jax.tree.map(lambda spec: factor if spec.num_contracted else 1.0, declaration)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda update, scale: scale * update, updates, factors))
