"""Tokens of a corpus on disk: raw shards, where each document begins, and a manifest with their hashes."""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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

SHARD_TOKENS = 1 << 28  # 512 MiB of uint16
BATCH_CHARACTERS = 1 << 22  # encoded at once
OFFSETS_FILE, BYTES_FILE = "document_offsets.npy", "document_bytes.npy"
VERIFIED_FILE = "verified.json"  # SHA-256, size and times of each file when it was last read and found sound


@dataclass(frozen=True)
class TokenStore:
    """The training documents of a corpus as one stream of ids, `[BOS tokens EOS]` a document."""

    folder: epath.Path
    manifest: dict[str, Any]
    tokens: ShardedTokens

    @classmethod
    def open(cls, folder: epath.Path) -> "TokenStore":
        """Open a store; local shards are memory-mapped, those of an object store are read by byte ranges.

        Raises:
            LosslineError: no complete manifest, or a file that is missing or has not the size it should.
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
        return self.manifest["num_tokens"]

    @property
    def fingerprint(self) -> str:
        """Of the tokens themselves and of the tokenizer that gives them meaning."""
        return fingerprint([self.manifest["tokenizer_fingerprint"], [s["sha256"] for s in self.manifest["shards"]]])

    @property
    def document_offsets(self) -> np.ndarray:
        """int64 (documents + 1,): document k is `tokens[offsets[k]:offsets[k + 1]]`."""
        return _read_array(self.folder / OFFSETS_FILE)

    @property
    def document_bytes(self) -> np.ndarray:
        """int64 (documents,): UTF-8 bytes of each original text."""
        return _read_array(self.folder / BYTES_FILE)

    def verify(self) -> None:
        """Read every file, compare its SHA-256 with the manifest, and remember which state of the files was sound.

        Raises:
            LosslineError: naming the damaged file.
        """
        self._verify({})

    def verify_changed(self) -> None:
        """The same for those files only that were written, moved or copied since they were found sound.

        A training that starts again does not read hundreds of gigabytes first. Raises as `verify`.
        """
        known: dict[str, Any] = {}
        with contextlib.suppress(LosslineError, FileNotFoundError):  # damaged, it is made again
            known = read_json(self.folder / VERIFIED_FILE)
        self._verify(known)

    def _verify(self, known: Mapping[str, Any]) -> None:
        hashes = {shard["name"]: shard["sha256"] for shard in self.manifest["shards"]}
        hashes |= {name: sidecar["sha256"] for name, sidecar in self.manifest["sidecars"].items()}
        sound = {}
        for name, expected in hashes.items():
            path = path_inside(self.folder, name, self.folder / MANIFEST)
            sound[name] = _state_of(path)
            if known.get(name) != [expected, *sound[name]]:
                check_sha256(path, expected)
        verified = {name: [hashes[name], *state] for name, state in sound.items()}
        if verified != known:
            with contextlib.suppress(LosslineError, OSError):  # a folder that may only be read is read again
                write_json(self.folder / VERIFIED_FILE, verified)


def prepare_store(
    corpus: PreparedCorpus,
    tokenizer: Tokenizer,
    folder_of_stores: epath.Path,
    shard_tokens: int = SHARD_TOKENS,
) -> TokenStore:
    """Encode the training split of `corpus`, or open what an earlier call made.

    Raises:
        LosslineError: an existing store is damaged, or the disk refuses.
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
        writer.append(np.concatenate([piece for ids in encoded for piece in (bos, ids, eos)]).astype(dtype))
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
    """Appends tokens to numbered files of at most `shard_tokens` each."""

    def __init__(self, folder: epath.Path, dtype: np.dtype, shard_tokens: int):
        self._folder = folder
        self._dtype = dtype
        self._shard_tokens = shard_tokens
        self._shards: list[dict[str, Any]] = []
        self._file = None

    def append(self, tokens_N: np.ndarray) -> None:
        while len(tokens_N):
            if self._file is None:
                name = f"tokens-{len(self._shards):05d}.bin"
                self._shards.append({"name": name, "tokens": 0})
                self._file, self._hash = (self._folder / name).open("wb"), hashlib.sha256()
            shard = self._shards[-1]
            head = tokens_N[: self._shard_tokens - shard["tokens"]]
            self._file.write(head.tobytes())
            self._hash.update(head.tobytes())
            shard["tokens"] += len(head)
            tokens_N = tokens_N[len(head) :]
            if shard["tokens"] == self._shard_tokens:
                self._finish_shard()

    def close(self) -> list[dict[str, Any]]:
        """The manifest's entry of each shard."""
        if self._file is not None:
            self._finish_shard()
        return self._shards

    def _finish_shard(self) -> None:
        self._file.close()
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
        raise LosslineError(
            f"{path}: not an array of numbers ({error}); delete {path.parent} and run `lossline-jax prepare`"
        ) from error


def _state_of(path: epath.Path) -> list[float]:
    """Changes whenever a file is written, replaced or copied: its size and times, on a disk that of its inode too."""
    stat = path.stat()
    changed = [] if is_remote(path) else [os.stat(path).st_ctime_ns]
    return [stat.length, stat.mtime, *changed]


def _refuse_wrong_size(path: epath.Path, size: int) -> None:
    mend = f"delete {path.parent} and run `lossline-jax prepare`"
    if not path.exists():
        raise LosslineError(f"{path}: this part of the token store is missing; {mend}")
    if path.stat().length != size:
        raise LosslineError(f"{path}: has {path.stat().length} bytes instead of {size} (truncated?); {mend}")
