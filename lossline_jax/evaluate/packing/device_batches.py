"""Distribute the rows of a block over the devices, in batches of equal shape with about equally many scored tokens."""

import heapq
from dataclasses import dataclass

import numpy as np

from lossline_jax.evaluate.packing.rows import PackedRows

SLOT_STEPS = 8  # with `reuse_shapes`, the number of slots is a multiple of an eighth of the positions


@dataclass(frozen=True)
class DeviceBatches:
    """A block of rows as G batches of A shards of R rows. A slot is the place of one scored token.

    Missing rows and slots of a batch are filled up with zeros, whose scores are not used.
    """

    ids_GBT: np.ndarray  # int32, B = A * R: consecutive rows of a batch belong to one shard
    visible_until_GBT: np.ndarray  # int32, see `rows.PackedRows`
    source_GAS: np.ndarray  # int32, the position that predicts a scored token: row of the shard * T + position in it
    target_GAS: np.ndarray  # int32, the scored token
    slot_S: np.ndarray  # int64, the index of each scored token of the block in a flat [G * A * S] array


def batch_for_devices(
    block: PackedRows, num_shards: int, tokens_per_shard: int, reuse_shapes: bool = False
) -> DeviceBatches:
    """Distribute the rows. A row with many scored tokens goes first, to the batch and shard with the fewest so far.

    Args:
        block: the rows, of one length T.
        num_shards: the number of devices that share a batch.
        tokens_per_shard: positions of a batch on each device, padding included. At least one row is placed.
        reuse_shapes: round the numbers of batches, rows and slots up, so that blocks of other sizes use the same
            compiled programs. There are at most a quarter more batches. The additional slots are at most an eighth
            of the positions.
    """
    num_rows, length = block.ids_BT.shape
    rows_per_shard = max(tokens_per_shard // length, 1)
    num_batches = -(-num_rows // (num_shards * rows_per_shard))
    if reuse_shapes:
        rows_per_shard = min(rows_per_shard, _round_up(-(-num_rows // num_shards)))
        num_batches = _round_up(num_batches)
    else:
        rows_per_shard = -(-num_rows // (num_batches * num_shards))
    num_bins = num_batches * num_shards
    slots_of_row = np.bincount(block.source_S // length, minlength=num_rows)
    bin_of_row, index_in_bin = _distribute(slots_of_row, num_bins, rows_per_shard)

    row_S, position_S = np.divmod(block.source_S, length)
    bin_S = bin_of_row[row_S]
    slots_of_bin = np.bincount(bin_S, minlength=num_bins)
    num_slots = int(slots_of_bin.max())
    if reuse_shapes:
        step = -(-rows_per_shard * length // SLOT_STEPS)
        num_slots = -(-num_slots // step) * step
    order_S = np.argsort(bin_S, kind="stable")
    rank_S = np.empty_like(order_S)
    rank_S[order_S] = np.arange(len(order_S)) - np.repeat(np.cumsum(slots_of_bin) - slots_of_bin, slots_of_bin)
    slot_S = bin_S * num_slots + rank_S

    new_row = bin_of_row * rows_per_shard + index_in_bin
    ids_RT = np.zeros((num_bins * rows_per_shard, length), np.int32)
    until_RT = np.tile(np.arange(length, dtype=np.int32), (len(ids_RT), 1))
    ids_RT[new_row], until_RT[new_row] = block.ids_BT, block.visible_until_BT
    source, target = np.zeros((2, num_bins * num_slots), np.int32)
    source[slot_S] = index_in_bin[row_S] * length + position_S
    target[slot_S] = block.target_S
    return DeviceBatches(
        ids_GBT=ids_RT.reshape(num_batches, -1, length),
        visible_until_GBT=until_RT.reshape(num_batches, -1, length),
        source_GAS=source.reshape(num_batches, num_shards, num_slots),
        target_GAS=target.reshape(num_batches, num_shards, num_slots),
        slot_S=slot_S,
    )


def _distribute(slots_of_row: np.ndarray, num_bins: int, rows_per_bin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin (a shard of a batch) of each row, and the index of the row in its bin."""
    bin_of_row, index_in_bin = np.zeros((2, len(slots_of_row)), np.int64)
    bins = [(0, number, 0) for number in range(num_bins)]  # a heap of (slots so far, bin, rows so far)
    for row in np.argsort(-slots_of_row, kind="stable").tolist():
        slots, number, rows = heapq.heappop(bins)
        bin_of_row[row], index_in_bin[row] = number, rows
        if rows + 1 < rows_per_bin:  # a full bin leaves the heap
            heapq.heappush(bins, (slots + int(slots_of_row[row]), number, rows + 1))
    return bin_of_row, index_in_bin


def _round_up(number: int) -> int:
    """Round up to the next of 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, ..., which are four per octave."""
    step = 1 << max(number.bit_length() - 3, 0)
    return -(-number // step) * step
