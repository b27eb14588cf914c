"""Units of loss and compute. The only natural logarithm of two in the house."""

import math

LOG_2 = math.log(2.0)


def bits_per_byte(nats_sum: float, num_bytes: float) -> float:
    """Bits per byte of a text whose tokens cost `nats_sum` nats and which is `num_bytes` of UTF-8."""
    return nats_sum / (LOG_2 * num_bytes)


def human_count(value: float) -> str:
    """`1234567` as `1.23M`, `6.6e20` as `6.60e+20`: three significant digits."""
    if abs(value) >= 1e15:
        return f"{value:.2e}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def human_seconds(seconds: float) -> str:
    """`3725` as `1h02m`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"
