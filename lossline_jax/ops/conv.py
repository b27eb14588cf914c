"""The short causal depthwise convolution of the Mamba blocks."""

import jax
import jax.numpy as jnp


def causal_depthwise_conv(x_BTE: jax.Array, kernel_WE: jax.Array, bias_E: jax.Array | None = None) -> jax.Array:
    """`y[t] = sum_w kernel[w] * x[t - (W - 1) + w] (+ bias)`, with zeros before the sequence.

    Args:
        x_BTE: inputs.
        kernel_WE: one filter a channel; the last tap meets the present position, as in PyTorch's conv1d.
        bias_E: added where given.

    Returns:
        The dtype and shape of `x_BTE`.
    """
    width, length = kernel_WE.shape[0], x_BTE.shape[1]
    padded = jnp.pad(x_BTE, ((0, 0), (width - 1, 0), (0, 0)))
    kernel = kernel_WE.astype(x_BTE.dtype)
    # W is 2 to 4: shifted multiply-adds fuse into one loop, where a grouped convolution is slow on CPU.
    y_BTE = sum(padded[:, w : w + length, :] * kernel[w][None, None, :] for w in range(width))
    return y_BTE if bias_E is None else y_BTE + bias_E.astype(x_BTE.dtype)[None, None, :]
