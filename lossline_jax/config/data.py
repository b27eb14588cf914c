"""Corpora, tokenizers and mixtures as data, without jax or any reader."""

from dataclasses import dataclass
from typing import Literal

BuiltinName = Literal["wiki", "wiki_fr", "speeches", "code", "techdoc"]


@dataclass(frozen=True)
class BuiltinCorpus:
    """Text that comes inside pip packages and Python itself (extra `text`); nothing is downloaded."""

    name: BuiltinName
    max_bytes: int | None = None  # stop after the document that reaches this many UTF-8 bytes


@dataclass(frozen=True)
class FilesCorpus:
    """Documents from files: .txt (one document a file), JSON lines, either compressed, or .parquet."""

    name: str
    globs: tuple[str, ...]
    text_field: str = "text"  # the field of a JSON line, the column of a Parquet file
    max_bytes: int | None = None
    licence: str = "not stated"


@dataclass(frozen=True)
class HuggingFaceCorpus:
    """A Hugging Face dataset, streamed (extra `hf`)."""

    name: str
    path: str  # "HuggingFaceFW/fineweb-edu"
    config_name: str | None = None  # "sample-10BT"
    split: str = "train"
    text_field: str = "text"
    max_bytes: int | None = None
    licence: str = "see the dataset card"


Corpus = BuiltinCorpus | FilesCorpus | HuggingFaceCorpus


@dataclass(frozen=True)
class TrainedTokenizer:
    """A sentencepiece model trained on the training split of a corpus of the study. Lossless."""

    corpus: str
    vocab_size: int
    kind: Literal["bpe", "unigram"] = "bpe"
    max_bytes: int = 20_000_000  # of text to train on


@dataclass(frozen=True)
class SentencePieceFile:
    """An existing sentencepiece `.model` file."""

    path: str


@dataclass(frozen=True)
class ByteTokenizer:
    """One token a byte of UTF-8: ids 0-255, then BOS and EOS."""


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """A Hugging Face `tokenizer.json` file (extra `hf`)."""

    path: str
    bos_id: int | None = None  # None: by its name (data/tokenizers/huggingface.py)
    eos_id: int | None = None


TokenizerConfig = TrainedTokenizer | SentencePieceFile | ByteTokenizer | HuggingFaceTokenizer


@dataclass(frozen=True)
class DataConfig:
    """What a run reads: corpora by name and weight (weights need not sum to one)."""

    mixture: tuple[tuple[str, float], ...]
    unique_tokens: int | None = None  # cap on distinct training tokens of the whole mixture; then epochs repeat
    max_epochs: float | None = None  # refuse a run that would repeat a corpus more often than this
    separate_documents: bool = False  # no attention and no state across the documents of a training sequence
