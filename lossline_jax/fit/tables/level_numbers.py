"""Read the levels of a factor as numbers, such as learning rates or numbers of unique tokens."""

import math
import re
from collections.abc import Sequence

NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}  # of a number that ends in this letter


def level_numbers(factor: str, levels: Sequence[str]) -> tuple[dict[str, float], str] | None:
    """Return the number of each level and their common unit, or None if the levels are not numbers.

    A level is a number, with or without a unit behind it: `0.001`, `3e-4`, `50%` or `16 layers`. The name of the
    factor may stand before it, with one of `=`, `:`, `_` or a space: `lr=3e-4`. No other text may stand before it,
    because `v1` and `mix2` are names.

    All levels must have the same unit. Alternatively each has none or one of the letters k, m, b, g and t, for
    thousand, million, billion (b, g) and trillion, in small or capital letters: `500M` and `2B`.

    Args:
        factor: the name of the factor.
        levels: the levels of the factor.
    """
    pattern = re.compile(rf"(?:{re.escape(factor)}[=:_ ]\s*)?{NUMBER}\s*(\D*)", re.IGNORECASE)
    matches = {level: pattern.fullmatch(level.strip()) for level in levels}
    found = {level: (float(match[1]), match[2].strip()) for level, match in matches.items() if match is not None}
    if len(found) < len(matches):
        return None
    units = {unit for _, unit in found.values()}
    if len(units) == 1:
        numbers, unit = {level: number for level, (number, _) in found.items()}, units.pop()
    elif {unit.lower() for unit in units} <= MULTIPLES.keys():
        numbers, unit = {level: number * MULTIPLES[unit.lower()] for level, (number, unit) in found.items()}, ""
    else:
        return None
    usable = len(set(numbers.values())) == len(numbers) and all(map(math.isfinite, numbers.values()))
    return (numbers, unit) if usable else None
