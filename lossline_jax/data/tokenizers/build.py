"""The interface of a tokenizer, and the construction of each kind of tokenizer from its config."""

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
    """The part of a tokenizer that other packages may use. `BytesPerIdTokenizer` explains each member."""

    vocab_size: int
    bos_id: int
    eos_id: int
    fingerprint: str

    @functools.cached_property
    def lossless(self) -> bool:
        """True if texts do not change by encoding and decoding."""
        ...

    @property
    def adds_prefix(self) -> bool:
        """True if the tokenizer puts a prefix of its own before each text."""
        ...

    @functools.cached_property
    def fuses_unknown(self) -> bool:
        """True if a run of unknown letters becomes one token."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text."""
        ...

    def surface(self, ids: Iterable[int]) -> bytes:
        """Return the bytes that the ids stand for."""
        ...

    def encode_rest(self, text: str) -> np.ndarray:
        """Return the ids of a text that continues another text."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids."""
        ...


class BytesTokenizer(BytesPerIdTokenizer):
    """A tokenizer with one token per byte of UTF-8. BOS is 256 and EOS is 257."""

    def __init__(self) -> None:
        bytes_of_ids = [*(bytes([byte]) for byte in range(256)), b"", b""]
        super().__init__(bytes_of_ids, bos_id=256, eos_id=257, fingerprint="bytes")

    def encode(self, text: str) -> np.ndarray:
        """Return the bytes of `text` as ids."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int32)


def prepare_tokenizer(
    config: TokenizerConfig, corpora: Mapping[str, PreparedCorpus], folder_of_tokenizers: epath.Path
) -> Tokenizer:
    """Return the tokenizer of a run. A trained tokenizer is trained by the first call and stored.

    Args:
        config: config of the tokenizer.
        corpora: prepared corpora of the study by name.
        folder_of_tokenizers: folder in which a trained tokenizer gets a folder.

    Raises:
        LosslineError: a file or an extra is missing, the corpus is unknown, or the text does not support a vocabulary
            of this size.
    """
    if isinstance(config, TrainedTokenizer):
        return _prepare_trained(config, corpora, folder_of_tokenizers)
    return _ready_made(config)


@functools.cache  # a plan calls this function for every run
def planned_vocab_size(config: TokenizerConfig) -> int:
    """Return the size of a run's vocabulary before anything is prepared.

    Args:
        config: config of the tokenizer.

    Raises:
        LosslineError: a tokenizer file is missing or cannot be read.
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
        raise LosslineError(f"tokenizer {path}: no such file; fix the path")
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
    """Yield training documents from the whole corpus, chosen by hash, with about `max_bytes` bytes in total."""
    share = max_bytes / corpus.manifest["train"]["bytes"]
    for text in corpus.train_texts():
        # The hash is salted, since the plain hash has already decided the split.
        if share >= 1 or hash_fraction(sha256(b"tokenizer" + text.encode("utf-8")).digest()) < share:
            yield text
