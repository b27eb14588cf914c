"""One reader for every kind of corpus, which returns a stream of documents."""

from collections.abc import Iterator
from typing import Any

from lossline_jax.config.data import BuiltinCorpus, Corpus, FilesCorpus, HuggingFaceCorpus
from lossline_jax.data.corpora.builtin import builtin_licence, describe_builtin, read_builtin
from lossline_jax.data.corpora.document import Document, checked_document
from lossline_jax.data.corpora.files import describe_files, read_files
from lossline_jax.errors import LosslineError, install_hint


def read_documents(corpus: Corpus) -> Iterator[Document]:
    """Return the documents of `corpus` in a fixed order, each checked.

    Empty documents and duplicates are included. `prepare_corpus` removes them and applies `max_bytes`.

    Args:
        corpus: config of the corpus.

    Raises:
        LosslineError: text is missing, unreadable or not UTF-8. The message names the file and the line.
    """
    match corpus:
        case BuiltinCorpus():
            return read_builtin(corpus.name)
        case FilesCorpus():
            return read_files(corpus)
        case HuggingFaceCorpus():
            return _read_hugging_face(corpus)


def describe_source(corpus: Corpus) -> dict[str, Any]:
    """Return the source of the text and its version, for the manifest.

    Args:
        corpus: config of the corpus.

    Raises:
        LosslineError: a package or a file is missing.
    """
    match corpus:
        case BuiltinCorpus():
            return describe_builtin(corpus.name)
        case FilesCorpus():
            return describe_files(corpus)
        case HuggingFaceCorpus():
            return {"dataset": corpus.path, "config_name": corpus.config_name, "split": corpus.split}


def licence(corpus: Corpus) -> str:
    """Return the licence of the text, as far as it is known."""
    return builtin_licence(corpus.name) if isinstance(corpus, BuiltinCorpus) else corpus.licence


def _read_hugging_face(corpus: HuggingFaceCorpus) -> Iterator[Document]:
    """Yield the documents of a streamed dataset, so that no more than the documents that are read is downloaded."""
    name = f"corpus {corpus.name!r}"
    try:
        import datasets  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise LosslineError(f"{name}: needs datasets: {install_hint('hf')}") from error
    try:
        rows = datasets.load_dataset(corpus.path, corpus.config_name, split=corpus.split, streaming=True)
        for number, row in enumerate(rows):
            source = f"{corpus.path}:{number}"
            if corpus.text_field not in row:
                raise LosslineError(f"{source}: no field {corpus.text_field!r} (it has {sorted(row)}); set text_field")
            yield checked_document(row[corpus.text_field], source, corpus.text_field)
    except (OSError, ValueError, RuntimeError) as error:
        # The errors of the Hugging Face hub (not found, gated, offline) are subclasses of these.
        reason = " ".join(str(error).split())[:300]
        raise LosslineError(
            f"{name}: cannot read dataset {corpus.path!r} ({reason}); check name, split and network"
        ) from error
