"""Units of loss. This is the only place in lossline with the natural logarithm of two."""

import math

LOG_2 = math.log(2.0)


def bits_per_byte(nats_sum: float, num_bytes: float) -> float:
    """Return the loss of a text in bits per byte.

    Args:
        nats_sum: sum of the losses of the text's tokens, in nats.
        num_bytes: size of the text in bytes of UTF-8.
    """
    return nats_sum / (LOG_2 * num_bytes)
