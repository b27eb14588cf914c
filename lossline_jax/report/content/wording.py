"""Numbers, lists and names as text for readers."""

import math
import re
import zlib
from collections.abc import Sequence

LONGEST_STEM = 80  # characters of a name that a file name keeps
MINUS = "−"  # as wide as a plus sign, so columns of signed numbers align
NONE = "–"  # the text of a missing number


def number(value: float | None, decimals: int = 3) -> str:
    """Return `3.142`, with a true minus sign. None or not finite: a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.{decimals}f}".replace("-", MINUS)


def signed_text(value: float | None, decimals: int = 3) -> str:
    """Return `+0.040` or `−0.399`; a rounded zero has no sign. None or not finite: a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def significant(value: float | None) -> str:
    """Return a parameter of a law, whatever its size: `0.4107` or `6.787e+07`. None or not finite: a dash."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.4g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """Return `[−0.450, −0.350]`, or an empty text where an end is None or not finite."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{signed_text(low, decimals)}, {signed_text(high, decimals)}]"


def file_stem(name: str) -> str:
    """Return a name as part of a file name.

    Different names give different stems. A name with replaced or removed characters gets a checksum at its end.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:LONGEST_STEM]
    return plain if plain == name else f"{plain}-{zlib.crc32(name.encode('utf-8', 'backslashreplace')):08x}"


def listed(words: Sequence[str]) -> str:
    """Return `a, b and c`; an empty text for no words."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def capitalised(text: str) -> str:
    """Return a text with a capital first letter. `str.capitalize` would make the other letters small."""
    return text[:1].upper() + text[1:]


def plain_interval(low: float | None, high: float | None) -> str:
    """Return the interval of a parameter as `[0.41, 1.203]`. An open end is ∞ or −∞; None: a dash."""
    infinities = {math.inf: "∞", -math.inf: f"{MINUS}∞"}
    ends = [NONE if end is None else infinities.get(end) or significant(end) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"
