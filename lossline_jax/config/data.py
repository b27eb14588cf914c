"""The configs of corpora, tokenizers and mixtures. This module imports neither jax nor any file reader."""

from dataclasses import dataclass, field
from typing import Literal

BuiltinName = Literal["wiki", "wiki_fr", "speeches", "code", "techdoc"]


@dataclass(frozen=True)
class BuiltinCorpus:
    """A corpus from text inside pip packages (extra `text`) and Python itself. Nothing is downloaded."""

    name: BuiltinName
    max_bytes: int | None = None  # stop after the document that reaches this many UTF-8 bytes; None: read everything


@dataclass(frozen=True)
class FilesCorpus:
    """A corpus from files: .txt, JSON lines (one document per line), or .parquet (one document per row).

    Text files and JSON lines may be compressed.
    """

    name: str
    globs: tuple[str, ...]  # paths with `*`; a folder stands for every file of these kinds below it
    text_field: str = "text"  # the field of a JSON line, or the column of a Parquet file
    max_bytes: int | None = None  # UTF-8 bytes, as in `BuiltinCorpus`; None: read everything
    licence: str = "not stated"
    # the documents of a .txt file: the whole file, its paragraphs, or pieces of at most this many UTF-8 bytes
    split: Literal["file", "blank lines"] | int = field(default="file", metadata={"since": 2})


@dataclass(frozen=True)
class HuggingFaceCorpus:
    """A corpus from a Hugging Face dataset, which is streamed (extra `hf`)."""

    name: str
    path: str  # for example "HuggingFaceFW/fineweb-edu"
    config_name: str | None = None  # for example "sample-10BT"; None: the dataset's default config
    split: str = "train"
    text_field: str = "text"
    max_bytes: int | None = None  # UTF-8 bytes, as in `BuiltinCorpus`; None: read everything
    licence: str = "see the dataset card"


Corpus = BuiltinCorpus | FilesCorpus | HuggingFaceCorpus


@dataclass(frozen=True)
class TrainedTokenizer:
    """A sentencepiece model that is trained on the training split of one corpus of the study. It is lossless."""

    corpus: str
    vocab_size: int
    kind: Literal["bpe", "unigram"] = "bpe"
    max_bytes: int = 20_000_000  # UTF-8 bytes of text that the tokenizer is trained on


@dataclass(frozen=True)
class SentencePieceFile:
    """A tokenizer from an existing sentencepiece `.model` file."""

    path: str


@dataclass(frozen=True)
class ByteTokenizer:
    """A tokenizer with one token per byte of UTF-8: ids 0-255, then BOS (256) and EOS (257)."""


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """A tokenizer from a Hugging Face `tokenizer.json` file (extra `hf`)."""

    path: str
    bos_id: int | None = None  # None: the token is found by its name (data/tokenizers/huggingface.py)
    eos_id: int | None = None  # None: as for `bos_id`


TokenizerConfig = TrainedTokenizer | SentencePieceFile | ByteTokenizer | HuggingFaceTokenizer


@dataclass(frozen=True)
class DataConfig:
    """The training data of a run: corpora by name, each with a weight."""

    mixture: tuple[tuple[str, float], ...]  # (corpus, weight) pairs; the weights need not sum to one
    unique_tokens: int | None = None  # cap on the distinct training tokens of the mixture, then repeat; None: no cap
    max_epochs: float | None = None  # refuse a run that reads a corpus more often than this; None: no limit
    separate_documents: bool = False  # True: no attention or state crosses documents of a training sequence
