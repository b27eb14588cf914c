"""Blocks of queries for what every position reads of all before it."""

_MAX_QUERY_BLOCKS = 8
_MIN_QUERY_BLOCK = 32


def query_blocks(length: int) -> list[slice]:
    """At most 8 blocks of at least 32 positions. Each against the keys up to its end is 9/16 of the square's work."""
    block = max(-(-length // _MAX_QUERY_BLOCKS), _MIN_QUERY_BLOCK)
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]
