"""A token stream in several `.bin` files that is read like one array."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from lossline_jax.errors import LosslineError, Restart


class ShardedTokens(ABC):
    """A one-dimensional array of tokens in shards. Slices and windows may cross from one shard to the next.

    Args:
        shard_tokens: number of tokens in each shard.
        dtype: little-endian uint16 or uint32.
    """

    def __init__(self, shard_tokens: Sequence[int], dtype: np.dtype) -> None:
        self.dtype = dtype
        lengths = np.array(shard_tokens, np.int64)
        self._ends = np.cumsum(lengths)
        self._begins = self._ends - lengths

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, piece: slice) -> np.ndarray:
        """Return the tokens of a slice with step 1."""
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError(f"token slices have step 1, not {step}")
        return self.gather(np.array([start]), max(stop - start, 0))[0]

    @abstractmethod
    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
        """Return N windows of tokens.

        Args:
            starts_N: position of the first token of each window.
            length: tokens per window.

        Returns:
            Array of shape (N, length).
        """

    def _pieces(self, start: int, length: int) -> list[tuple[int, int, int]]:
        """Return (shard, first, stop) for each part of a window, with token positions counted within the shard."""
        pieces, stop = [], start + length
        for shard in range(int(np.searchsorted(self._ends, start, side="right")), len(self._ends)):
            begin = int(self._begins[shard])
            if begin >= stop:
                break
            pieces.append((shard, max(start - begin, 0), min(stop, int(self._ends[shard])) - begin))
        return pieces


class MappedTokens(ShardedTokens):
    """Shards on a local disk that are memory-mapped.

    Args:
        paths: files of the shards.
        shard_tokens: number of tokens in each shard.
        dtype: little-endian uint16 or uint32.
    """

    def __init__(self, paths: Sequence[epath.Path], shard_tokens: Sequence[int], dtype: np.dtype) -> None:
        super().__init__(shard_tokens, dtype)
        # Plain arrays over the mapping, since indexing a np.memmap costs more than the copy of a window.
        self._shards = [np.memmap(path, dtype=dtype, mode="r").view(np.ndarray) for path in paths]
        self._windows = functools.lru_cache(maxsize=64)(self._windows_of)  # making one view takes 10 us

    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
        """Return N windows as `ShardedTokens.gather` does."""
        windows_NT = np.empty((len(starts_N), length), self.dtype)
        first_N = np.searchsorted(self._ends, starts_N, side="right")
        in_one_shard_N = starts_N + length <= self._ends[first_N]
        for shard in set(first_N[in_one_shard_N].tolist()):
            rows_N = in_one_shard_N & (first_N == shard)
            windows_NT[rows_N] = self._windows(shard, length)[starts_N[rows_N] - self._begins[shard]]
        for row in np.flatnonzero(~in_one_shard_N):
            pieces = self._pieces(int(starts_N[row]), length)
            windows_NT[row] = np.concatenate([self._shards[k][first:last] for k, first, last in pieces])
        return windows_NT

    def _windows_of(self, shard: int, length: int) -> np.ndarray:
        """Return a view of every window of a shard, of shape (positions, length). Indexing rows of it copies them."""
        return np.lib.stride_tricks.sliding_window_view(self._shards[shard], length)


class RemoteTokens(ShardedTokens):
    """Shards in an object store (`gs://`) that are read by byte ranges, all windows at the same time.

    Args:
        url: address of the folder for TensorStore's KvStore: `gs://bucket/path` or `file:///path`.
        names: file names of the shards.
        shard_tokens: number of tokens in each shard.
        dtype: little-endian uint16 or uint32.
    """

    def __init__(self, url: str, names: Sequence[str], shard_tokens: Sequence[int], dtype: np.dtype) -> None:
        super().__init__(shard_tokens, dtype)
        self._store = tensorstore.KvStore.open(url.rstrip("/") + "/").result()
        self._names = list(names)

    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
        """Return N windows as `ShardedTokens.gather` does.

        Raises:
            Restart: the store does not answer.
            LosslineError: a shard is missing.
        """
        reads = [[self._read(*piece) for piece in self._pieces(int(start), length)] for start in starts_N.tolist()]
        windows = [b"".join(self._bytes(read) for read in row) for row in reads]
        return np.frombuffer(b"".join(windows), self.dtype).reshape(len(starts_N), length)

    def _read(self, shard: int, first: int, last: int) -> tuple[str, Any]:
        size = self.dtype.itemsize
        name = self._names[shard]
        return name, self._store.read(name, byte_range=slice(first * size, last * size))

    def _bytes(self, read: tuple[str, Any]) -> bytes:
        name, future = read
        try:
            result = future.result()
        except ValueError as error:  # after all retries of TensorStore
            raise Restart(f"{self._store.url}{name}: cannot be read ({error})") from error
        if result.state != "value":
            raise LosslineError(f"{self._store.url}{name}: shard is missing; run `lossline-jax prepare` again")
        return result.value
