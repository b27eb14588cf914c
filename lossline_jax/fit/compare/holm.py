"""Correct p-values for their number."""

from collections.abc import Sequence


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number (Holm 1979).

    Args:
        ps: p-values. None: not tested; it stays None and is not counted.
    """
    tested = sorted((p, k) for k, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, k) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[k] = largest
    return corrected


def holm_all(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, where every p-value is known.

    Args:
        ps: p-values.
    """
    return [p for p in holm(ps) if p is not None]
