"""Documents from the user's own files: .txt, .jsonl and either one compressed, .parquet."""

import contextlib
import glob
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from typing import IO, Any

import pyarrow
import pyarrow.parquet
from etils import epath

from lossline_jax.data.config import FilesCorpus
from lossline_jax.data.documents import Document, checked_document
from lossline_jax.errors import LosslineError
from lossline_jax.storage import connect

FORMATS = (".txt", ".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".zst")


def find_files(corpus: FilesCorpus) -> list[epath.Path]:
    """Every file that the globs match, once each, in order of its path.

    Raises:
        LosslineError: a glob matches nothing, or a file has a format that cannot be read.
    """
    found: set[str] = set()
    for pattern in corpus.globs:
        matches = _expand(pattern)
        if not matches:
            raise LosslineError(
                f"corpus {corpus.name!r}: {pattern!r} matches no file (from {os.getcwd()}); mend the glob"
            )
        found.update(matches)
    for path in sorted(found):
        if _format(path)[0] not in FORMATS:
            raise LosslineError(
                f"{path}: not a format that can be read; expected .txt or .jsonl (also .gz, .zst) or .parquet"
            )
    return [epath.Path(path) for path in sorted(found)]


def describe_files(corpus: FilesCorpus) -> dict[str, Any]:
    """What the globs match now: enough to notice that the files have changed since."""
    listing = [(str(path), path.stat().length) for path in find_files(corpus)]
    return {
        "globs": list(corpus.globs),
        "files": len(listing),
        "file_bytes": sum(size for _, size in listing),
        "listing_sha256": hashlib.sha256(json.dumps(listing).encode("utf-8")).hexdigest(),
    }


def read_files(corpus: FilesCorpus) -> Iterator[Document]:
    """The documents of every file, in order.

    Raises:
        LosslineError: naming file and line, for anything that is not a document.
    """
    for path in find_files(corpus):
        kind, compression = _format(str(path))
        if kind == ".parquet":
            yield from _read_parquet(path, corpus.text_field)
            continue
        with _damage_named(path), _open(path, compression) as file:
            if kind == ".txt":
                yield checked_document(_utf8(file.read(), str(path)), str(path))
            else:
                yield from _read_jsonl(file, path, corpus.text_field)


def _expand(pattern: str) -> list[str]:
    if "://" not in pattern:
        matches = glob.glob(os.path.expanduser(pattern), recursive=True)
        return [path for path in matches if os.path.isfile(path)]
    connect(epath.Path(pattern))
    scheme, _, rest = pattern.partition("://")
    bucket, _, key_pattern = rest.partition("/")
    return [str(path) for path in epath.Path(f"{scheme}://{bucket}").glob(key_pattern)]


def _format(path: str) -> tuple[str, str]:
    """`(".jsonl", ".gz")` of `a.jsonl.gz`; the compression is empty where there is none."""
    stem, suffix = os.path.splitext(path)
    if suffix in COMPRESSIONS:
        kind = os.path.splitext(stem)[1]
        return (kind, suffix) if kind != ".parquet" else ("", suffix)
    return suffix, ""


@contextlib.contextmanager
def _open(path: epath.Path, compression: str) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if compression == ".gz":
            yield gzip.GzipFile(fileobj=file)
        elif compression == ".zst":
            # pyarrow's reader notices a truncated file; that of `zstandard` ends as if all were read
            yield io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file), "zstd"))
        else:
            yield file


@contextlib.contextmanager
def _damage_named(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise LosslineError(f"{path}: cannot be read ({error}); is the file whole?") from error


def _utf8(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LosslineError(
            f"{source}: invalid UTF-8 at byte {error.start} ({data[error.start : error.start + 1].hex()}); "
            "convert the file to UTF-8"
        ) from error


def _read_jsonl(file: IO[bytes], path: epath.Path, field: str) -> Iterator[Document]:
    for number, line in enumerate(file, start=1):
        source = f"{path}:{number}"
        text = _utf8(line, source)
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise LosslineError(f"{source}: not valid JSON ({error}); mend or remove the line") from error
        if not isinstance(row, dict) or field not in row:
            has = f"it has {sorted(row)}" if isinstance(row, dict) else "it is no JSON object"
            raise LosslineError(f"{source}: no field {field!r} ({has}); mend the line or set text_field")
        yield checked_document(row[field], source, field)


def _read_parquet(path: epath.Path, column: str) -> Iterator[Document]:
    try:
        with path.open("rb") as file:
            table = pyarrow.parquet.ParquetFile(file)
            if column not in table.schema_arrow.names:
                raise LosslineError(f"{path}: no column {column!r} (it has {table.schema_arrow.names}); set text_field")
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield checked_document(text, f"{path}:{number}", column)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise LosslineError(f"{path}: cannot be read ({message}); is the file whole?") from error
