"""Rows of all sets together at few fixed lengths, and what each row counts towards.

Shape letters of this package beyond the house's: Q requests (a document, or one option of an item),
G batches of a scan.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lossline_jax.evaluate.windows import Row

MAX_ROW_LENGTHS = 3  # each is one compiled program
LENGTH_STEPS = 16  # row lengths are multiples of a sixteenth of the context
WORTH_COMPILING = 0.05  # share of the computed tokens that one more row length must save


class Request(NamedTuple):
    """The smallest thing that has a loss: a validation document, or one option of a task's item."""

    rows: tuple[Row, ...]
    item: int  # document or item within its set
    option: int  # 0 for a document
    gold: bool  # the correct option; True for a document
    num_bytes: int  # UTF-8 bytes of the scored text


@dataclass(frozen=True)
class RowBlock:
    """Rows of one fixed length T. Inputs are `ids_BT[:, :-1]`, targets `ids_BT[:, 1:]`."""

    ids_BT: np.ndarray  # int32 [rows, T + 1], zeros after each row's end
    first_B: np.ndarray  # int32, the first input whose prediction is scored
    length_B: np.ndarray  # int32, inputs before the padding
    request_B: np.ndarray  # int32, what the row's nats count towards

    @property
    def row_length(self) -> int:
        return self.ids_BT.shape[1] - 1


@dataclass(frozen=True)
class Requests:
    """The requests of all sets together, as columns."""

    dataset_Q: np.ndarray  # int32, index of the set in the suite
    item_Q: np.ndarray  # int32
    option_Q: np.ndarray  # int32
    gold_Q: np.ndarray  # bool
    tokens_Q: np.ndarray  # int64, scored
    bytes_Q: np.ndarray  # int64, of the scored text

    def take(self, index: np.ndarray) -> "Requests":
        """The requests at `index` (positions or a mask)."""
        return Requests(**{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)})


def choose_row_lengths(num_inputs_B: np.ndarray, context_length: int) -> tuple[int, ...]:
    """At most `MAX_ROW_LENGTHS` row lengths, ascending, with little padding.

    For each number of lengths, every combination of multiples of a sixteenth of the context is tried (105 of
    them for three) and that with the fewest padded tokens kept; a further length must save `WORTH_COMPILING`.
    """
    step = -(-context_length // LENGTH_STEPS)
    count_of_units = np.bincount(-(-num_inputs_B // step))
    present = np.flatnonzero(count_of_units)
    *shorter, top = present.tolist()

    def padded_tokens(ends: tuple[int, ...]) -> int:
        end_of_unit = np.asarray(ends)[np.searchsorted(ends, present)]
        return int((end_of_unit * count_of_units[present]).sum())

    best = (top,)
    for num_shorter in range(1, min(MAX_ROW_LENGTHS - 1, len(shorter)) + 1):
        choices = ((*chosen, top) for chosen in itertools.combinations(shorter, num_shorter))
        candidate = min(choices, key=padded_tokens)
        if padded_tokens(candidate) < (1 - WORTH_COMPILING) * padded_tokens(best):
            best = candidate
    return tuple(min(end * step, context_length) for end in best)


def mix_sets(sets: Sequence[Sequence[Request]], context_length: int) -> tuple[Requests, tuple[RowBlock, ...]]:
    """All requests as columns, and all their rows, of whichever set, in blocks of few fixed lengths."""
    requests = [(dataset, request) for dataset, members in enumerate(sets) for request in members]
    columns = Requests(
        dataset_Q=np.array([dataset for dataset, _ in requests], np.int32),
        item_Q=np.array([request.item for _, request in requests], np.int32),
        option_Q=np.array([request.option for _, request in requests], np.int32),
        gold_Q=np.array([request.gold for _, request in requests], bool),
        tokens_Q=np.array([sum(row.num_scored for row in request.rows) for _, request in requests], np.int64),
        bytes_Q=np.array([request.num_bytes for _, request in requests], np.int64),
    )
    rows = [row for _, request in requests for row in request.rows]
    request_B = np.repeat(np.arange(len(requests)), [len(request.rows) for _, request in requests])
    num_inputs_B = np.array([row.num_inputs for row in rows])
    lengths = choose_row_lengths(num_inputs_B, context_length)
    block_B = np.searchsorted(lengths, num_inputs_B)
    members_of_block = [np.flatnonzero(block_B == k) for k in range(len(lengths))]
    return columns, tuple(
        _block([rows[member] for member in members], request_B[members], row_length)
        for members, row_length in zip(members_of_block, lengths, strict=True)
    )


def _block(rows: Sequence[Row], request_B: np.ndarray, row_length: int) -> RowBlock:
    ids_BT = np.zeros((len(rows), row_length + 1), np.int32)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row.ids)] = row.ids
    first_B = np.array([row.first for row in rows], np.int32)
    length_B = np.array([row.num_inputs for row in rows], np.int32)
    return RowBlock(ids_BT, first_B, length_B, request_B.astype(np.int32))


def fill_share(blocks: Sequence[RowBlock]) -> float:
    """Share of the computed positions that hold a token of a text and no padding."""
    return sum(int(b.length_B.sum()) for b in blocks) / sum(len(b.ids_BT) * b.row_length for b in blocks)
