"""Pack texts end to end into rows. The options of an item become branches of the context that they share.

    option 0   BOS c1 c2 a1 a2        row   position  0   1  2  3  4  5  6
    option 1   BOS c1 c2 b1                 ids      BOS c1 c2 a1 a2 b1  d1 ...
                                            until     5   5  5  4  4  5   6

Position i sees position k if k <= i <= until[k]. So b1 sees BOS c1 c2 and itself, but neither a1 nor a2.
The next text, d1 ..., sees nothing of this item. A tree forks only once, at the end of the shared context;
`ops.prefix_tree` explains such trees. Read `item_pieces`, then `pack` and `choose_row_lengths`.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lossline_jax.evaluate.packing.windows import Text

# Positions of the longest row with branches. In such a row a layer compares all pairs of positions, even in Mamba-2.
LONGEST_BRANCHING_ROW = 1024
WORTH_SHARING = 0.1  # the smallest share of an item's tokens for which a shared context is worth a tree
WORTH_COMPILING = 0.03  # the smallest share of the work for which one more row length is worth its compilation
# Positions of the row length at which attention takes as long as the rest of a small model on a CPU.
QUADRATIC_LENGTH = 700
MAX_SAMPLE = 500  # the largest number of pieces from which row lengths are chosen


class PackedText(NamedTuple):
    """A piece of a row without a gap: one text, or the options of one item as a tree."""

    ids: np.ndarray  # int32, inputs
    until: np.ndarray  # int32, the last position of the piece that sees this position
    source: np.ndarray  # int32, for each scored token the position that predicts the token
    target: np.ndarray  # int32, the scored tokens
    request: np.ndarray  # int32, for each scored token the number of its request

    @property
    def branches(self) -> bool:
        """True if some position does not see all positions before it. A tree with a single branch is a plain text."""
        return bool((np.diff(self.until) < 0).any())


def text_piece(text: Text, request: int) -> PackedText:
    """Return the piece of one text.

    Args:
        text: the text.
        request: the number of its request.
    """
    return _tree([text], [request], num_shared=text.num_inputs)


def item_pieces(texts: Sequence[Text], requests: Sequence[int], longest: int) -> list[PackedText]:
    """Return the pieces of one item: trees of its options if that saves enough tokens, else one piece per option.

    A tree that would be longer than `longest` is split, and its parts repeat the context. Options of one token have
    equal inputs, so they cost nothing beyond the context.

    Args:
        texts: one text per option.
        requests: the number of each option's request.
        longest: the largest number of inputs of a tree.
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
    """Return the piece with the `num_shared` first inputs once, and after them the rest of each text."""
    ids, until = [texts[0].ids[:num_shared]], []
    sources, end = [], num_shared
    for text in texts:
        start, end = end, end + text.num_inputs - num_shared
        ids.append(text.ids[num_shared:-1])
        until.append(np.full(end - start, end - 1))
        position = np.arange(text.first, text.num_inputs)
        sources.append(np.where(position < num_shared, position, position + start - num_shared))
    return PackedText(
        ids=np.concatenate(ids).astype(np.int32),
        until=np.concatenate([np.full(num_shared, end - 1), *until]).astype(np.int32),
        source=np.concatenate(sources).astype(np.int32),
        target=np.concatenate([text.ids[text.first + 1 :] for text in texts]).astype(np.int32),
        request=np.repeat(requests, [text.num_scored for text in texts]).astype(np.int32),
    )


def pack(sizes: Iterable[int], lengths: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Pack pieces into rows by best fit decreasing: the largest piece first, each into the row with the least room.

    Args:
        sizes: the number of positions of each piece, at most the last of `lengths`.
        lengths: the allowed row lengths, ascending. A piece that fits no open row begins a row of the shortest length
            that holds the piece.

    Returns:
        The rows as (length, indices into `sizes`).
    """
    size_array = np.asarray(sizes)
    rows: list[tuple[int, list[int]]] = []
    rows_with_room: list[list[int]] = [[] for _ in range(lengths[-1] + 1)]
    rooms = 0  # bit r is set if some row has room for exactly r more positions
    for piece in np.argsort(-size_array, kind="stable").tolist():
        size = int(size_array[piece])
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1  # the lowest set bit is the least room that fits
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
    """Return a few row lengths, ascending, for which pieces of these sizes cost little.

    The search begins with the best single length. Then it adds the length that saves most, one at a time, as long as
    the saving is at least `WORTH_COMPILING`. A row of T positions costs T + T^2 / `QUADRATIC_LENGTH`.

    Args:
        sizes: the number of positions of each piece, at most `longest`.
        longest: the largest allowed row length.
        max_lengths: the largest number of row lengths.
    """
    sizes = np.sort(sizes)
    sample = sizes[np.linspace(0, len(sizes) - 1, min(len(sizes), MAX_SAMPLE)).round().astype(int)]
    ends = [end for end in range(1, longest + 1) if end % _step(end) == 0 or end == longest]

    def cost(lengths: tuple[int, ...]) -> float:
        return sum(length + length**2 / QUADRATIC_LENGTH for length, _ in pack(sample, lengths))

    best = min(((top,) for top in ends if top >= sizes[-1]), key=cost)
    while len(best) < max_lengths:
        candidates = [tuple(sorted((*best, end))) for end in ends if sizes[0] <= end < best[-1] and end not in best]
        candidate = min(candidates, key=cost, default=best)
        if cost(candidate) >= (1 - WORTH_COMPILING) * cost(best):
            break
        best = candidate
    return best


def powers_of_two(longest: int) -> tuple[int, ...]:
    """Return row lengths that are tolerable for all pieces: 64, 128, ... and `longest`.

    Args:
        longest: the largest row length.
    """
    return (*(1 << k for k in range(6, (longest - 1).bit_length())), longest)


def _step(length: int) -> int:
    """Return the step between candidate row lengths near `length`: eight lengths per octave, multiples of 4 from 32."""
    return 1 << max(length.bit_length() - 4, 0)
