"""Pack the texts of all sets together into rows of few fixed lengths, and record the request of each scored token.

Shape letters of this package, in addition to the usual ones:
Q requests (a document, or one option of an item), G batches of a scan,
A shards (devices along the mesh axis `data`), S scored tokens.
Read `Request` and `PackedRows` first, then `pack_sets`.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lossline_jax.evaluate.packing.pack import (
    LONGEST_BRANCHING_ROW,
    PackedText,
    choose_row_lengths,
    item_pieces,
    pack,
    powers_of_two,
    text_piece,
)
from lossline_jax.evaluate.packing.windows import Text

# The largest number of row lengths, with and without branches. Each row length takes time to compile.
MAX_BRANCHING_LENGTHS, MAX_PLAIN_LENGTHS = 4, 2


class Request(NamedTuple):
    """The smallest unit that has a loss: a validation document, or one option of a task's item."""

    texts: tuple[Text, ...]  # the windows of a document, or the one text of an option
    item: int  # index of the document or item in its set
    option: int  # index of the option; 0 for a document
    gold: bool  # whether this is the correct option; True for a document
    num_bytes: int  # UTF-8 bytes of the scored text
    num_chars: int  # characters of the scored text, without the delimiter between an option and its context


@dataclass(frozen=True)
class PackedRows:
    """A block of rows of one fixed length T. The rows hold inputs only, and the scored tokens are separate arrays."""

    ids_BT: np.ndarray  # int32, zeros after each row's end
    visible_until_BT: np.ndarray  # int32, the last position of the row that sees this one (`pack`); padding sees itself
    length_B: np.ndarray  # int32, inputs before the padding
    has_branches: bool  # whether texts of a row share beginnings; if not, `visible_until_BT` never falls along a row
    source_S: np.ndarray  # int32, the position that predicts a scored token: row * T + position in the row
    target_S: np.ndarray  # int32, the scored token
    request_S: np.ndarray  # int32, the request whose nats include this token

    @property
    def row_length(self) -> int:
        """The length T of every row, in positions."""
        return self.ids_BT.shape[1]


@dataclass(frozen=True)
class Requests:
    """The requests of all sets together, as columns. See `Request`."""

    dataset_Q: np.ndarray  # int32, index of the set in the suite
    item_Q: np.ndarray  # int32
    option_Q: np.ndarray  # int32
    gold_Q: np.ndarray  # bool
    tokens_Q: np.ndarray  # int64, scored tokens
    bytes_Q: np.ndarray  # int64, UTF-8 bytes of the scored text
    chars_Q: np.ndarray  # int64, characters of the scored text, without the delimiter between an option and its context
    # int32, the first request of the item with the same tokens, or the request itself. Only that first one has rows.
    duplicate_of_Q: np.ndarray

    def take(self, index: np.ndarray | slice) -> "Requests":
        """Return a part of the requests. The values of `duplicate_of_Q` still are numbers of the complete requests.

        Args:
            index: positions, a mask or a slice.
        """
        return Requests(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


def pack_sets(
    sets: Sequence[Sequence[Request]], context_length: int, reuse_shapes: bool = False
) -> tuple[Requests, tuple[PackedRows, ...]]:
    """Return all requests as columns, and the texts of all sets in a few blocks of rows.

    Options of one item with the same tokens are packed once. Packed twice, their nats would differ in the last bits,
    and the cheapest option would depend on the packing. No row is longer than the context. No row with branches is
    longer than `pack.LONGEST_BRANCHING_ROW`.

    Args:
        sets: the requests of each set. The requests of an item are consecutive.
        context_length: the longest row, in positions.
        reuse_shapes: use powers of two (or the context) as row lengths, so that other requests get the same lengths.
    """
    requests = [(dataset, request) for dataset, members in enumerate(sets) for request in members]
    columns = Requests(
        dataset_Q=np.array([dataset for dataset, _ in requests], np.int32),
        item_Q=np.array([request.item for _, request in requests], np.int32),
        option_Q=np.array([request.option for _, request in requests], np.int32),
        gold_Q=np.array([request.gold for _, request in requests], bool),
        tokens_Q=np.array([sum(text.num_scored for text in request.texts) for _, request in requests], np.int64),
        bytes_Q=np.array([request.num_bytes for _, request in requests], np.int64),
        chars_Q=np.array([request.num_chars for _, request in requests], np.int64),
        duplicate_of_Q=_duplicates(requests),
    )
    longest_branching = min(LONGEST_BRANCHING_ROW, context_length)
    pieces = _pieces(requests, columns.duplicate_of_Q, longest_branching)
    trees = [piece for piece in pieces if piece.branches]
    texts = [piece for piece in pieces if not piece.branches]
    blocks = []
    for members, longest, max_lengths in (
        (trees, longest_branching, MAX_BRANCHING_LENGTHS),
        (texts, context_length, MAX_PLAIN_LENGTHS),
    ):
        if members:
            sizes = np.array([len(piece.ids) for piece in members])
            lengths = powers_of_two(longest) if reuse_shapes else choose_row_lengths(sizes, longest, max_lengths)
            blocks += _blocks(members, pack(sizes, lengths))
    return columns, tuple(blocks)


def _duplicates(requests: Sequence[tuple[int, Request]]) -> np.ndarray:
    first: dict[tuple, int] = {}
    duplicate_of = []
    for number, (dataset, request) in enumerate(requests):
        tokens = tuple((text.first, text.ids.astype("<i4").tobytes()) for text in request.texts)
        duplicate_of.append(first.setdefault((dataset, request.item, tokens), number))
    return np.array(duplicate_of, np.int32)


def _pieces(requests: Sequence[tuple[int, Request]], duplicate_of_Q: np.ndarray, longest: int) -> list[PackedText]:
    numbered = [
        (dataset, request, number)
        for number, (dataset, request) in enumerate(requests)
        if duplicate_of_Q[number] == number
    ]
    pieces = []
    for _, members in itertools.groupby(numbered, key=lambda entry: (entry[0], entry[1].item)):
        options = [(request.texts, number) for _, request, number in members]
        if len(options) > 1 and all(len(texts) == 1 for texts, _ in options):
            pieces += item_pieces([texts[0] for texts, _ in options], [number for _, number in options], longest)
        else:
            pieces += [text_piece(text, number) for texts, number in options for text in texts]
    return pieces


def _blocks(pieces: Sequence[PackedText], rows: Sequence[tuple[int, list[int]]]) -> list[PackedRows]:
    """Return one block of packed pieces for each row length."""
    return [
        _block([[pieces[k] for k in members] for length, members in rows if length == row_length], row_length)
        for row_length in sorted({length for length, _ in rows})
    ]


def _block(rows: Sequence[Sequence[PackedText]], row_length: int) -> PackedRows:
    ids_BT = np.zeros((len(rows), row_length), np.int32)
    visible_until_BT = np.tile(np.arange(row_length, dtype=np.int32), (len(rows), 1))
    length_B = np.zeros(len(rows), np.int32)
    sources = []
    for row, members in enumerate(rows):
        end = 0
        for piece in members:
            start, end = end, end + len(piece.ids)
            ids_BT[row, start:end] = piece.ids
            visible_until_BT[row, start:end] = piece.until + start
            sources.append(piece.source + (row * row_length + start))
        length_B[row] = end
    pieces = list(itertools.chain.from_iterable(rows))
    return PackedRows(
        ids_BT=ids_BT,
        visible_until_BT=visible_until_BT,
        length_B=length_B,
        has_branches=any(piece.branches for piece in pieces),
        source_S=np.concatenate(sources).astype(np.int32),
        target_S=np.concatenate([piece.target for piece in pieces]),
        request_S=np.concatenate([piece.request for piece in pieces]),
    )


def select_requests(blocks: Sequence[PackedRows], wanted_Q: np.ndarray) -> tuple[PackedRows, ...]:
    """Return the rows that score a token of a wanted request. Only the tokens of wanted requests are still scored.

    Args:
        blocks: the rows.
        wanted_Q: bool, one value for every request of the blocks.
    """
    return tuple(
        _select_requests(block, wanted_Q[block.request_S]) for block in blocks if wanted_Q[block.request_S].any()
    )


def _select_requests(block: PackedRows, wanted_S: np.ndarray) -> PackedRows:
    row_S, position_S = np.divmod(block.source_S[wanted_S], block.row_length)
    kept, row_S = np.unique(row_S, return_inverse=True)
    return PackedRows(
        ids_BT=block.ids_BT[kept],
        visible_until_BT=block.visible_until_BT[kept],
        length_B=block.length_B[kept],
        has_branches=block.has_branches,
        source_S=(row_S * block.row_length + position_S).astype(np.int32),
        target_S=block.target_S[wanted_S],
        request_S=block.request_S[wanted_S],
    )


def fill_share(blocks: Sequence[PackedRows]) -> float:
    """Return the share of computed positions that hold a token of a text and not padding.

    Args:
        blocks: the rows.
    """
    return sum(int(b.length_B.sum()) for b in blocks) / sum(b.ids_BT.size for b in blocks)
