"""Documents from users' files: text, JSON lines and Parquet. The files are read with storage/inputs.py."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
from etils import epath

from lossline_jax.config.data import FilesCorpus
from lossline_jax.data.corpora.document import Document, checked_document
from lossline_jax.data.corpora.pieces import split_text
from lossline_jax.errors import LosslineError
from lossline_jax.storage.inputs import ENDINGS, file_kind, numbered_lines, open_input, parse_object, read_text
from lossline_jax.storage.object_store import expanded, reachable_path

FORMS = ("txt", "jsonl", "parquet")
EXPECTED = (
    f".txt, .jsonl, .ndjson or .json with one object per line (each also with {ENDINGS}), or .parquet"  # of FORMS
)


def find_files(corpus: FilesCorpus) -> list[epath.Path]:
    """Return every file that the globs match, one time each, in the order of the paths.

    A glob that is the path of a folder stands for every file below it that can be read.

    Args:
        corpus: config of the corpus.

    Raises:
        LosslineError: a glob matches no file, or a file has a format that cannot be read.
    """
    paths: set[str] = set()
    for pattern in corpus.globs:
        folder = _folder(pattern)
        matches = _expand(pattern) if folder is None else _readable(folder, pattern, corpus.name)
        if not matches:
            raise LosslineError(f"corpus {corpus.name!r}: {_no_match(pattern)}")
        paths.update(matches)
    for path in sorted(paths):
        if file_kind(path).form not in FORMS:
            raise LosslineError(f"{path}: not a format that can be read; expected {EXPECTED}")
    return [epath.Path(path) for path in sorted(paths)]


def files_left_out(corpus: FilesCorpus) -> list[str]:
    """Return the files below the folders of a corpus that are not read, because of their endings.

    Args:
        corpus: config of the corpus.
    """
    folders = [folder for pattern in corpus.globs if (folder := _folder(pattern)) is not None]
    return [path for folder in folders for path in _files_below(folder) if file_kind(path).form not in FORMS]


def describe_files(corpus: FilesCorpus) -> dict[str, Any]:
    """Return a description of the files that the globs match now, with which a later change can be noticed."""
    listing = [(str(path), path.stat().length) for path in find_files(corpus)]
    return {
        "globs": list(corpus.globs),
        "files": len(listing),
        "file_bytes": sum(size for _, size in listing),
        "listing_sha256": hashlib.sha256(json.dumps(listing).encode("utf-8")).hexdigest(),
    }


def read_files(corpus: FilesCorpus) -> Iterator[Document]:
    """Yield the documents of every file in order.

    Args:
        corpus: config of the corpus.

    Raises:
        LosslineError: as for `find_files`, or content is not a document. The message names the file and the line.
    """
    for path in find_files(corpus):
        match file_kind(path).form:
            case "parquet":
                yield from _read_parquet(path, corpus.text_field)
            case "txt":
                for piece in split_text(read_text(path), corpus.split):
                    where = str(path) if corpus.split == "file" else f"{path}:{piece.line}"
                    yield checked_document(piece.text, where)
            case _:
                yield from _read_jsonl(path, corpus.text_field)


def _expand(pattern: str) -> list[str]:
    if "://" not in pattern:
        return [path for path in glob.glob(expanded(pattern), recursive=True) if os.path.isfile(path)]
    reachable_path(pattern)
    scheme, _, rest = pattern.partition("://")
    bucket, _, key_pattern = rest.partition("/")
    return [str(path) for path in epath.Path(f"{scheme}://{bucket}").glob(key_pattern)]


def _folder(pattern: str) -> epath.Path | None:
    """Return the folder of a glob that is the path of a folder. None: the glob is anything else."""
    if glob.has_magic(pattern):
        return None
    path = reachable_path(pattern)
    return path if path.is_dir() else None


def _files_below(folder: epath.Path) -> list[str]:
    """Return the paths of all files below a folder, in order. Hidden files and folders and linked folders are skipped.

    Raises:
        OSError: a folder cannot be listed.
    """
    if "://" in str(folder):
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        return [file for path in entries for file in (_files_below(path) if path.is_dir() else [str(path)])]
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]  # os.walk enters those that remain
        paths += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    return sorted(paths)


def _raise(error: OSError) -> None:
    raise error


def _readable(folder: epath.Path, pattern: str, name: str) -> list[str]:
    files = _files_below(folder)
    paths = [path for path in files if file_kind(path).form in FORMS]
    if not paths:
        have = f"{len(files)} files of other kinds, such as {files[0]}" if files else "no files"
        raise LosslineError(f"corpus {name!r}: the folder {pattern!r} has {have}; expected {EXPECTED}")
    return paths


def _no_match(pattern: str) -> str:
    """Return the message for a glob without files. A glob that matches a folder gets a suggestion."""
    folders = [] if "://" in pattern else glob.glob(expanded(pattern), recursive=True)
    if folders:
        more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
        suggested = f"{pattern.rstrip('/')}/*.txt"
        return f"{pattern!r} matches a folder ({folders[0]}{more}) and no file; did you mean {suggested!r}?"
    return f"{pattern!r} matches no file (from {os.getcwd()}); fix the glob"


def _read_jsonl(path: epath.Path, field: str) -> Iterator[Document]:
    for where, line in numbered_lines(path):
        fields = parse_object(line, where)
        if field not in fields:
            raise LosslineError(
                f"{where}: no field {field!r} (it has {sorted(fields)}); fix the line or set text_field"
            )
        yield checked_document(fields[field], where, field)


def _read_parquet(path: epath.Path, column: str) -> Iterator[Document]:
    try:
        with open_input(path) as file:
            table = pyarrow.parquet.ParquetFile(file)
            if column not in table.schema_arrow.names:
                raise LosslineError(f"{path}: no column {column!r} (it has {table.schema_arrow.names}); set text_field")
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield checked_document(text, f"{path}:{number}", column)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise LosslineError(f"{path}: cannot be read ({message}); fetch or write it again") from error
