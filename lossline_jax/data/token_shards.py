"""A token stream that lies in several `.bin` files, read as one array."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from lossline_jax.errors import LosslineError, Restart


class ShardedTokens(ABC):
    """One-dimensional tokens over shards; slices and windows may cross from one shard to the next.

    Args:
        shard_tokens: tokens of each shard.
        dtype: little-endian uint16 or uint32.
    """

    def __init__(self, shard_tokens: Sequence[int], dtype: np.dtype):
        self.dtype = dtype
        self._ends = np.cumsum(shard_tokens)
        self._begins = self._ends - shard_tokens

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, piece: slice) -> np.ndarray:
        """The tokens of a slice with step 1."""
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError(f"token slices have step 1, not {step}")
        return self.gather(np.array([start]), max(stop - start, 0))[0]

    @abstractmethod
    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
        """The windows that begin at `starts_N`, as (N, length)."""

    def _pieces(self, start: int, length: int) -> list[tuple[int, int, int]]:
        """The (shard, first, last) that a window is made of, in token positions within each shard."""
        pieces, stop = [], start + length
        for shard in range(int(np.searchsorted(self._ends, start, side="right")), len(self._ends)):
            begin = int(self._begins[shard])
            if begin >= stop:
                break
            pieces.append((shard, max(start - begin, 0), min(stop, int(self._ends[shard])) - begin))
        return pieces


class MappedTokens(ShardedTokens):
    """Shards on a local disk, memory-mapped."""

    def __init__(self, paths: Sequence[epath.Path], shard_tokens: Sequence[int], dtype: np.dtype):
        super().__init__(shard_tokens, dtype)
        # a plain array over the mapping: memmap's own subclass costs more than the copy of a window
        self._shards = [np.memmap(path, dtype=dtype, mode="r").view(np.ndarray) for path in paths]
        self._windows = functools.lru_cache(maxsize=64)(self._windows_of)  # making a view takes 10 us

    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
        windows_NT = np.empty((len(starts_N), length), self.dtype)
        first_N = np.searchsorted(self._ends, starts_N, side="right")
        whole_N = starts_N + length <= self._ends[first_N]  # in a single shard
        for shard in set(first_N[whole_N].tolist()):
            rows_N = whole_N & (first_N == shard)
            windows_NT[rows_N] = self._windows(shard, length)[starts_N[rows_N] - self._begins[shard]]
        for row in np.flatnonzero(~whole_N):
            pieces = self._pieces(int(starts_N[row]), length)
            windows_NT[row] = np.concatenate([self._shards[k][first:last] for k, first, last in pieces])
        return windows_NT

    def _windows_of(self, shard: int, length: int) -> np.ndarray:
        """A view of every window of a shard, (positions, length): rows picked from it are copied whole."""
        return np.lib.stride_tricks.sliding_window_view(self._shards[shard], length)


class RemoteTokens(ShardedTokens):
    """Shards in an object store (`gs://`), read by byte ranges, all windows at once.

    Args:
        url: of the folder, as TensorStore's KvStore takes it: `gs://bucket/path`, `file:///path`.
        names: file names of the shards.
    """

    def __init__(self, url: str, names: Sequence[str], shard_tokens: Sequence[int], dtype: np.dtype):
        super().__init__(shard_tokens, dtype)
        self._store = tensorstore.KvStore.open(url.rstrip("/") + "/").result()
        self._names = list(names)

    def gather(self, starts_N: np.ndarray, length: int) -> np.ndarray:
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
        except ValueError as error:  # TensorStore's own retries are over
            raise Restart(f"{self._store.url}{name}: cannot be read ({error})") from error
        if result.state != "value":
            raise LosslineError(f"{self._store.url}{name}: shard is missing; run `lossline-jax prepare` again")
        return result.value
