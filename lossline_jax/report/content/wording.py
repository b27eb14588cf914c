"""Numbers as a reader reads them."""

import math
import re
import zlib
from collections.abc import Sequence

LONGEST_STEM = 80  # characters of a name in that of a file
MINUS = "−"  # as wide as a plus sign, so signed columns align
NONE = "–"


def number(value: float | None, decimals: int = 3) -> str:
    """`3.142`, with a true minus sign; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{decimals}f}".replace("-", MINUS)


def signed_text(value: float | None, decimals: int = 3) -> str:
    """`+0.040` or `−0.399`; a rounded zero has no sign."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def significant(value: float | None, digits: int = 4) -> str:
    """`0.4107` or `6.787e+07`: a parameter of a law, whatever its size."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{digits}g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """`[−0.450, −0.350]`; nothing where an end is unknown."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{signed_text(low, decimals)}, {signed_text(high, decimals)}]"


def file_stem(name: str) -> str:
    """A name as part of a file's: other names give other stems, also where signs are replaced."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST_STEM]
    return plain if plain == name else f"{plain}-{zlib.crc32(name.encode('utf-8', 'backslashreplace')):08x}"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def counted(count: int, noun: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def plain_interval(low: float | None, high: float | None) -> str:
    """`[0.41, 1.203]`: the interval of a parameter, an open end as infinity."""
    ends = [
        NONE if v is None else "∞" if v == math.inf else f"{MINUS}∞" if v == -math.inf else significant(v)
        for v in (low, high)
    ]
    return f"[{ends[0]}, {ends[1]}]"
