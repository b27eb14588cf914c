"""Texts laid end to end in rows, and the options of an item as branches of the context that they share.

    option 0   BOS c1 c2 a1 a2        row   position  0   1  2  3  4  5  6
    option 1   BOS c1 c2 b1                 ids      BOS c1 c2 a1 a2 b1  d1 ...
                                            until     5   5  5  4  4  5   6

A position sees those before it whose `until` is not before it: b1 sees BOS c1 c2 and itself, but neither a1 nor
a2. The next text, d1 ..., sees nothing of this one. A path forks once, which a scan over the positions needs to
know (`ops.prefix_tree`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lossline_jax.evaluate.packing.windows import Text

LONGEST_BRANCHING_ROW = 1024  # a layer compares all positions of such a row with each other, a Mamba-2 too
WORTH_SHARING = 0.1  # share of an item's tokens that a shared context must save
WORTH_COMPILING = 0.03  # share of the work that one more row length must save
QUADRATIC_LENGTH = 700  # at this row length attention takes as long as all the rest of a small model on a CPU
MAX_SAMPLE = 500  # row lengths are chosen on no more pieces than this


class PackedText(NamedTuple):
    """What lies in one row without a gap: a text, or the options of one item as a tree."""

    ids: np.ndarray  # int32, inputs
    until: np.ndarray  # int32, the last position of the piece that sees this one
    source: np.ndarray  # int32, a position a scored token: the one that predicts it
    target: np.ndarray  # int32, the scored tokens
    request: np.ndarray  # int32, whose tokens they are

    @property
    def branches(self) -> bool:
        """Whether some position does not see all before it; a tree with one branch at most is a text."""
        return bool((np.diff(self.until) < 0).any())


def text_piece(text: Text, request: int) -> PackedText:
    """One text alone."""
    return _tree([text], [request], num_shared=text.num_inputs)


def item_pieces(texts: Sequence[Text], requests: Sequence[int], longest: int) -> list[PackedText]:
    """The options of one item: as trees of at most `longest` inputs where that saves tokens, else each alone.

    A tree that would be longer is split, and the context repeated. Options of one token have equal inputs, so they
    cost nothing beyond the context.

    Args:
        texts: one an option.
        requests: the number of each.
    """
    num_shared = _common_length([text.ids[:-1] for text in texts])
    groups: list[list[int]] = []
    room = 0
    for k, text in enumerate(texts):
        branch = text.num_inputs - num_shared
        if not groups or branch > max(room, 0):
            groups.append([])
            room = longest - num_shared
        groups[-1].append(k)
        room -= branch
    trees = [_tree([texts[k] for k in group], [requests[k] for k in group], num_shared) for group in groups]
    apart = sum(text.num_inputs for text in texts)
    if sum(len(tree.ids) for tree in trees) <= (1 - WORTH_SHARING) * apart:
        return trees
    return [text_piece(text, request) for text, request in zip(texts, requests, strict=True)]


def _common_length(sequences: Sequence[np.ndarray]) -> int:
    shortest = min(map(len, sequences))
    stacked = np.stack([sequence[:shortest] for sequence in sequences])
    differs = (stacked != stacked[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shortest


def _tree(texts: Sequence[Text], requests: Sequence[int], num_shared: int) -> PackedText:
    """The first `num_shared` inputs of all once, then the rest of each."""
    ids, until = [texts[0].ids[:num_shared]], []
    sources, end = [], num_shared
    for text in texts:
        start, end = end, end + text.num_inputs - num_shared
        ids.append(text.ids[num_shared:-1])
        until.append(np.full(end - start, end - 1))
        place = np.arange(text.first, text.num_inputs)
        sources.append(np.where(place < num_shared, place, place + start - num_shared))
    return PackedText(
        ids=np.concatenate(ids).astype(np.int32),
        until=np.concatenate([np.full(num_shared, end - 1), *until]).astype(np.int32),
        source=np.concatenate(sources).astype(np.int32),
        target=np.concatenate([text.ids[text.first + 1 :] for text in texts]).astype(np.int32),
        request=np.repeat(requests, [text.num_scored for text in texts]).astype(np.int32),
    )


def pack(sizes: Iterable[int], lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Best fit decreasing: the largest piece first, each where it leaves the least room.

    Args:
        sizes: of the pieces, none above the last of the lengths.
        lengths: of the rows, ascending; a piece that fits no row begins one of the shortest that holds it.

    Returns:
        Rows as (length, the pieces in it by their places in `sizes`).
    """
    sizes = np.asarray(sizes)
    rows: list[tuple[int, list[int]]] = []
    rows_with_room: list[list[int]] = [[] for _ in range(lengths[-1] + 1)]
    rooms = 0  # bit r: some row has room for exactly r more
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            row = rows_with_room[room].pop()
            rooms ^= (not rows_with_room[room]) << room
        else:
            room, row = next(length for length in lengths if length >= size), len(rows)
            rows.append((room, []))
        rows[row][1].append(piece)
        rows_with_room[room - size].append(row)
        rooms |= 1 << (room - size)
    return rows


def choose_row_lengths(sizes: np.ndarray, longest: int, max_lengths: int) -> tuple[int, ...]:
    """A few row lengths, ascending, in which pieces of these sizes cost little.

    The best single length first; then, one at a time, that which saves most, while it saves `WORTH_COMPILING`. A row
    of T positions costs T + T^2 / `QUADRATIC_LENGTH`.

    Args:
        sizes: of the pieces, at most `longest`.
    """
    sizes = np.sort(sizes)
    sample = sizes[np.linspace(0, len(sizes) - 1, min(len(sizes), MAX_SAMPLE)).round().astype(int)]
    ends = [end for end in range(1, longest + 1) if end % _step(end) == 0 or end == longest]

    def cost(lengths: tuple[int, ...]) -> float:
        return sum(length + length**2 / QUADRATIC_LENGTH for length, _ in pack(sample, lengths))

    best = min(((top,) for top in ends if top >= sizes[-1]), key=cost)
    while len(best) < max_lengths:
        others = [tuple(sorted((*best, end))) for end in ends if sizes[0] <= end < best[-1] and end not in best]
        candidate = min(others, key=cost, default=best)
        if cost(candidate) >= (1 - WORTH_COMPILING) * cost(best):
            break
        best = candidate
    return best


def powers_of_two(longest: int) -> tuple[int, ...]:
    """Row lengths that suit any pieces somewhat: 64, 128, ... and the longest."""
    return (*(1 << k for k in range(6, (longest - 1).bit_length())), longest)


def _step(length: int) -> int:
    """Eight lengths an octave, in multiples of 4 from 32 on."""
    return 1 << max(length.bit_length() - 4, 0)
