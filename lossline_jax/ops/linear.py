"""Linear maps of the last axes as one product of two matrices."""

import math

import jax
import jax.numpy as jnp


def linear(x: jax.Array, weight: jax.Array, num_contracted: int = 1, dtype: jnp.dtype | None = None) -> jax.Array:
    """Contract the last `num_contracted` axes of `x` with the first ones of `weight`.

    Args:
        x: [..., I...]; leading axes are kept.
        weight: [I..., O...].
        num_contracted: the number of axes I.
        dtype: dtype of the result and of its accumulation. None: the dtype of the operands.

    Returns:
        [..., O...].
    """
    # As matrices, because XLA's CPU products of higher rank are up to twice as slow.
    kept, contracted = x.shape[: x.ndim - num_contracted], x.shape[x.ndim - num_contracted :]
    matrix = weight.reshape(math.prod(contracted), -1)
    rows = x.reshape(-1, matrix.shape[0])
    return jnp.matmul(rows, matrix, preferred_element_type=dtype).reshape(*kept, *weight.shape[num_contracted:])
