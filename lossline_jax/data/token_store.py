"""The tokens of a corpus on disk: raw shards, the position of each document, and a manifest with their hashes."""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from etils import epath

from lossline_jax.config.serialise import fingerprint
from lossline_jax.data.corpora.prepare import PreparedCorpus
from lossline_jax.data.token_shards import MappedTokens, RemoteTokens, ShardedTokens
from lossline_jax.data.tokenizers.build import Tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import is_remote, path_inside, read_json, write_json
from lossline_jax.storage.staged_folder import (
    MANIFEST,
    check_sha256,
    is_complete,
    mend_of,
    read_folder_manifest,
    staged_folder,
)

SHARD_TOKENS = 1 << 28  # tokens per shard; 512 MiB of uint16
BATCH_CHARACTERS = 1 << 22  # characters that are encoded in one call of the tokenizer
OFFSETS_FILE, BYTES_FILE = "document_offsets.npy", "document_bytes.npy"
VERIFIED_FILE = "verified.json"  # SHA-256, size and times of each file at the last successful check


@dataclass(frozen=True)
class TokenStore:
    """The training documents of a corpus as one stream of ids, with `[BOS tokens EOS]` for each document."""

    folder: epath.Path
    manifest: dict[str, Any]
    tokens: ShardedTokens

    @classmethod
    def open(cls, folder: epath.Path) -> "TokenStore":
        """Open a store. Local shards are memory-mapped, and shards of an object store are read by byte ranges.

        Args:
            folder: folder of the store.

        Raises:
            LosslineError: there is no complete manifest, or a file is missing or has the wrong size.
        """
        manifest = read_folder_manifest(folder, "token store", {"shards": list, "sidecars": dict, "dtype": str})
        try:
            for shard in manifest["shards"]:
                _refuse_wrong_size(path_inside(folder, shard["name"], folder / MANIFEST), shard["bytes"])
            for name in (OFFSETS_FILE, BYTES_FILE):
                _refuse_wrong_size(folder / name, manifest["sidecars"][name]["bytes"])
            names = [shard["name"] for shard in manifest["shards"]]
            counts = [shard["tokens"] for shard in manifest["shards"]]
            dtype = np.dtype(manifest["dtype"])
            sizes = [shard["bytes"] for shard in manifest["shards"]]
            if [count * dtype.itemsize for count in counts] != sizes or sum(counts) != manifest["num_tokens"]:
                raise ValueError("its counts of tokens and bytes contradict each other")
        except (KeyError, TypeError, ValueError) as error:
            raise LosslineError(f"{folder / MANIFEST}: damaged ({error}); {mend_of(folder)}") from error
        if is_remote(folder):
            return cls(folder, manifest, RemoteTokens(str(folder), names, counts, dtype))
        return cls(folder, manifest, MappedTokens([folder / name for name in names], counts, dtype))

    @property
    def num_tokens(self) -> int:
        """The number of tokens, including BOS and EOS of each document."""
        return self.manifest["num_tokens"]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the tokens and of the tokenizer that gives them meaning."""
        return fingerprint([self.manifest["tokenizer_fingerprint"], [s["sha256"] for s in self.manifest["shards"]]])

    @property
    def document_offsets(self) -> np.ndarray:
        """The int64 offsets of documents (documents + 1,). Document k is `tokens[offsets[k]:offsets[k + 1]]`."""
        return _read_array(self.folder / OFFSETS_FILE)

    @property
    def document_bytes(self) -> np.ndarray:
        """The size of each original text in bytes of UTF-8, as int64 of shape (documents,)."""
        return _read_array(self.folder / BYTES_FILE)

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest, and record size and times of the checked files.

        Raises:
            LosslineError: names the damaged file.
        """
        self._verify({})

    def verify_changed(self) -> None:
        """Verify only those files that were written, moved or copied since the last successful check.

        A training that starts again therefore need not read hundreds of gigabytes first. Raises as `verify`.
        """
        known: dict[str, Any] = {}
        with contextlib.suppress(LosslineError, FileNotFoundError):  # a damaged record is made again
            known = read_json(self.folder / VERIFIED_FILE)
        self._verify(known)

    def _verify(self, known: Mapping[str, Any]) -> None:
        hashes = {shard["name"]: shard["sha256"] for shard in self.manifest["shards"]}
        hashes |= {name: sidecar["sha256"] for name, sidecar in self.manifest["sidecars"].items()}
        states = {}
        for name, expected in hashes.items():
            path = path_inside(self.folder, name, self.folder / MANIFEST)
            states[name] = _state_of(path)
            if known.get(name) != [expected, *states[name]]:
                check_sha256(path, expected)
        verified = {name: [hashes[name], *state] for name, state in states.items()}
        if verified != known:
            with contextlib.suppress(LosslineError, OSError):  # a read-only folder is checked again the next time
                write_json(self.folder / VERIFIED_FILE, verified)


def prepare_store(
    corpus: PreparedCorpus,
    tokenizer: Tokenizer,
    folder_of_stores: epath.Path,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenStore:
    """Encode the training split of `corpus`, or open the store that an earlier call made.

    Args:
        corpus: the prepared corpus.
        tokenizer: the tokenizer of the run.
        folder_of_stores: folder in which the store gets a folder.
        shard_tokens: largest number of tokens per shard.

    Raises:
        LosslineError: an existing store is damaged, or the disk refuses a write.
    """
    identity = fingerprint([corpus.fingerprint, tokenizer.fingerprint])
    folder = folder_of_stores / f"{corpus.name}-{identity}"
    if not is_complete(folder):
        with staged_folder(folder) as part:
            manifest = _write_store(corpus, tokenizer, part, shard_tokens)
            write_json(part / MANIFEST, manifest)
    return TokenStore.open(folder)


def _write_store(corpus: PreparedCorpus, tokenizer: Tokenizer, part: epath.Path, shard_tokens: int) -> dict[str, Any]:
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    writer = _ShardWriter(part, dtype, shard_tokens)
    token_counts: list[int] = []
    byte_counts: list[int] = []
    for texts in _batches(corpus.train_texts()):
        encoded = tokenizer.encode_batch(texts)
        bos, eos = np.array([tokenizer.bos_id]), np.array([tokenizer.eos_id])
        writer.append(np.concatenate([part for ids in encoded for part in (bos, ids, eos)]).astype(dtype))
        token_counts += [len(ids) + 2 for ids in encoded]
        byte_counts += [len(text.encode("utf-8")) for text in texts]
    shards = writer.close()
    offsets = np.concatenate([[0], np.cumsum(token_counts)]).astype(np.int64)
    sidecars = {
        OFFSETS_FILE: _write_array(part / OFFSETS_FILE, offsets),
        BYTES_FILE: _write_array(part / BYTES_FILE, np.array(byte_counts, np.int64)),
    }
    return {
        "corpus": corpus.name,
        "corpus_fingerprint": corpus.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "lossless": tokenizer.lossless,
        "dtype": dtype.str,
        "num_tokens": int(offsets[-1]),
        "num_documents": len(byte_counts),
        "num_bytes": sum(byte_counts),  # of the original texts, UTF-8
        "shards": shards,
        "sidecars": sidecars,
        "complete": True,
    }


class _ShardWriter:
    """A writer that appends tokens to numbered files of at most `shard_tokens` tokens each."""

    def __init__(self, folder: epath.Path, dtype: np.dtype, shard_tokens: int) -> None:
        self._folder = folder
        self._dtype = dtype
        self._shard_tokens = shard_tokens
        self._shards: list[dict[str, Any]] = []
        self._file: IO[bytes] | None = None  # None: the next token begins a new shard

    def append(self, tokens_N: np.ndarray) -> None:
        while len(tokens_N):
            file = self._file or self._start_shard()
            shard = self._shards[-1]
            head = tokens_N[: self._shard_tokens - shard["tokens"]]
            file.write(head.tobytes())
            self._hash.update(head.tobytes())
            shard["tokens"] += len(head)
            tokens_N = tokens_N[len(head) :]
            if shard["tokens"] == self._shard_tokens:
                self._finish_shard(file)

    def close(self) -> list[dict[str, Any]]:
        """Close the last shard and return the manifest's entry of each shard."""
        if self._file is not None:
            self._finish_shard(self._file)
        return self._shards

    def _start_shard(self) -> IO[bytes]:
        name = f"tokens-{len(self._shards):05d}.bin"
        self._shards.append({"name": name, "tokens": 0})
        self._file, self._hash = (self._folder / name).open("wb"), hashlib.sha256()
        return self._file

    def _finish_shard(self, file: IO[bytes]) -> None:
        file.close()
        self._file = None
        shard = self._shards[-1]
        shard |= {"bytes": shard["tokens"] * self._dtype.itemsize, "sha256": self._hash.hexdigest()}


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _write_array(path: epath.Path, array: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getvalue())
    return {"bytes": len(buffer.getvalue()), "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}


def _read_array(path: epath.Path) -> np.ndarray:
    try:
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise LosslineError(f"{path}: not an array of numbers ({error}); {mend_of(path.parent)}") from error


def _state_of(path: epath.Path) -> list[float]:
    """Return values that change whenever a file is written, replaced or copied.

    The values are the size, the time of writing and, on a disk, the time at which the inode changed.
    """
    stat = path.stat()
    inode_times = [] if is_remote(path) else [os.stat(path).st_ctime_ns]
    return [stat.length, stat.mtime, *inode_times]


def _refuse_wrong_size(path: epath.Path, size: int) -> None:
    if not path.exists():
        raise LosslineError(f"{path}: this part of the token store is missing; {mend_of(path.parent)}")
    if path.stat().length != size:
        raise LosslineError(
            f"{path}: has {path.stat().length} bytes instead of {size} (truncated?); {mend_of(path.parent)}"
        )
