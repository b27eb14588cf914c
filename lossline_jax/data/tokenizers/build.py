"""Tokenizers: what they promise, and how each kind is made ready."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

import numpy as np
from etils import epath

from lossline_jax.config.data import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    SentencePieceFile,
    TokenizerConfig,
    TrainedTokenizer,
)
from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.data.corpora.prepare import PreparedCorpus, hash_fraction
from lossline_jax.data.tokenizers.base import BytesPerIdTokenizer, tokenizer_content
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.data.tokenizers.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.storage.files import write_json
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.staged_folder import MANIFEST, check_sha256, is_complete, read_folder_manifest, staged_folder

__all__ = ["BytesTokenizer", "Tokenizer", "planned_vocab_size", "prepare_tokenizer"]

MODEL_FILE = "tokenizer.model"


class Tokenizer(Protocol):
    """What the rest of the house may use; see `BytesPerIdTokenizer` for the meaning of each."""

    vocab_size: int
    bos_id: int
    eos_id: int
    lossless: bool
    fingerprint: str

    @property
    def adds_prefix(self) -> bool: ...

    @property
    def fuses_unknown(self) -> bool: ...

    def encode(self, text: str) -> np.ndarray: ...

    def surface(self, ids: Iterable[int]) -> bytes: ...

    def encode_rest(self, text: str) -> np.ndarray: ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]: ...

    def decode(self, ids: Iterable[int]) -> str: ...


class BytesTokenizer(BytesPerIdTokenizer):
    """One token a byte of UTF-8; BOS is 256, EOS is 257."""

    def __init__(self):
        bytes_of_ids = [*(bytes([byte]) for byte in range(256)), b"", b""]
        super().__init__(bytes_of_ids, 256, 257, "bytes")

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)


def prepare_tokenizer(
    config: TokenizerConfig, corpora: Mapping[str, PreparedCorpus], folder_of_tokenizers: epath.Path
) -> Tokenizer:
    """The tokenizer of a run; one that has to be trained is trained once and kept.

    Args:
        config: which tokenizer.
        corpora: the prepared corpora of the study by name.
        folder_of_tokenizers: a trained tokenizer gets a folder in it.

    Raises:
        LosslineError: a missing file or extra, an unknown corpus, or a vocabulary that the text does not
            support.
    """
    if isinstance(config, TrainedTokenizer):
        return _prepare_trained(config, corpora, folder_of_tokenizers)
    return _ready_made(config)


@functools.cache  # a plan asks once a run
def planned_vocab_size(config: TokenizerConfig) -> int:
    """The vocabulary that a run will have, before anything is prepared.

    Raises:
        LosslineError: a tokenizer file that is missing or cannot be read.
    """
    return config.vocab_size if isinstance(config, TrainedTokenizer) else _ready_made(config).vocab_size


def _ready_made(config: ByteTokenizer | SentencePieceFile | HuggingFaceTokenizer) -> BytesPerIdTokenizer:
    match config:
        case ByteTokenizer():
            return BytesTokenizer()
        case SentencePieceFile(path=path):
            return SentencePieceTokenizer(tokenizer_content(_existing(path)), path)
        case HuggingFaceTokenizer(path=path, bos_id=bos_id, eos_id=eos_id):
            return HuggingFaceTokenizerFile(_existing(path), bos_id, eos_id)


def _existing(path: str) -> epath.Path:
    file = epath.Path(expanded(path))
    if not file.exists():
        raise LosslineError(f"tokenizer {path}: no such file; mend the path")
    return file


def _prepare_trained(
    config: TrainedTokenizer, corpora: Mapping[str, PreparedCorpus], folder_of_tokenizers: epath.Path
) -> SentencePieceTokenizer:
    if config.corpus not in corpora:
        raise LosslineError(
            f"tokenizer: corpus {config.corpus!r} is not one of the study's {sorted(corpora)}"
            f"{suggestion(config.corpus, corpora)}"
        )
    corpus = corpora[config.corpus]
    identity = fingerprint([config, corpus.fingerprint])
    folder = folder_of_tokenizers / f"{config.kind}{config.vocab_size}-{config.corpus}-{identity}"
    if not is_complete(folder):
        model = train_sentencepiece(_sample(corpus, config.max_bytes), config)
        with staged_folder(folder) as part:
            (part / MODEL_FILE).write_bytes(model)
            manifest = {"config": to_json(config), "corpus_fingerprint": corpus.fingerprint}
            write_json(part / MANIFEST, {**manifest, "sha256": sha256(model).hexdigest(), "complete": True})
    check_sha256(folder / MODEL_FILE, read_folder_manifest(folder, "tokenizer", {"sha256": str})["sha256"])
    return SentencePieceTokenizer(tokenizer_content(folder / MODEL_FILE), str(folder / MODEL_FILE))


def _sample(corpus: PreparedCorpus, max_bytes: int) -> Iterator[str]:
    """Training documents from all over the corpus, about `max_bytes` of them: a document's hash decides."""
    share = max_bytes / corpus.manifest["train"]["bytes"]
    for text in corpus.train_texts():
        # salted: the plain hash has already decided about the split
        if share >= 1 or hash_fraction(sha256(b"tokenizer" + text.encode("utf-8")).digest()) < share:
            yield text
