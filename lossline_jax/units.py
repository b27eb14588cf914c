"""Units of loss and compute. The only natural logarithm of two in the house."""

import math

LOG_2 = math.log(2.0)


def bits_per_byte(nats_sum: float, num_bytes: float) -> float:
    """Bits per byte of a text whose tokens cost `nats_sum` nats and which is `num_bytes` of UTF-8."""
    return nats_sum / (LOG_2 * num_bytes)
