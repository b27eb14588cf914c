"""A user's file: what it is, and its bytes, text or JSON lines. One reader for corpora, tasks, tables and specs.

The ending says what a file is, and its first bytes must agree. Text is UTF-8; a byte order mark in front is no part
of it.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from etils import epath

from lossline_jax.errors import LosslineError

FORMS = {
    ".json": "jsonl",
    ".ndjson": "jsonl",
    **{f".{form}": form for form in ("txt", "jsonl", "csv", "tsv", "parquet")},
}
_CHUNK = 1 << 16
LONGEST_ZSTD_WINDOW = 31  # log2 of its bytes: as far as the format goes
_LINE_END = re.compile(rb"\r\n|\r|\n")
_PARQUET_END = b"PAR1"
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(<(?:!doctype|html|head|body|\?xml)\b[^>\n]{0,40}>?)", re.IGNORECASE)
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class FileKind:
    """`FileKind("jsonl", "gzip")` of `a.jsonl.gz`."""

    form: str  # a value of FORMS; empty: another ending
    compression: str = ""  # a key of _COMPRESSIONS; empty: none


@dataclass(frozen=True)
class _Compression:
    ending: str
    magic: bytes  # a pattern of the first bytes; none can begin a UTF-8 text, or with bzip2 none does
    open: Callable[[IO[bytes]], IO[bytes]]


class _Unpacked(io.RawIOBase):
    """Content of bzip2, xz or zstd. Every byte must belong to it: the libraries' own files drop a damaged rest."""

    def __init__(self, file: IO[bytes], make: Callable[[], Any]):
        self._file, self._make, self._unpack = file, make, make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            if self._unpack.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._unpack = self._make()
            else:
                data = self._file.read(_CHUNK) if self._unpack.needs_input else b""
                if self._unpack.needs_input and not data:
                    raise EOFError
            if unpacked := self._unpack.decompress(data, len(buffer)):
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)

    def _next_stream(self) -> bytes:
        """The beginning of what follows the stream, behind zeros that may pad it; empty at the end of the file."""
        data = self._unpack.unused_data
        while not (data := data.lstrip(b"\0")):
            data = self._file.read(_CHUNK)
            if not data:
                return b""
        return data


def _unpacking(make: Callable[[], Any]) -> Callable[[IO[bytes]], IO[bytes]]:
    return lambda file: io.BufferedReader(_Unpacked(file, make), _CHUNK)


def _zstd_decompressor() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: LONGEST_ZSTD_WINDOW})


_COMPRESSIONS = {
    "gzip": _Compression(".gz", rb"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    "zstd": _Compression(".zst", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", _unpacking(_zstd_decompressor)),
    "xz": _Compression(".xz", rb"\xfd7zXZ\x00", _unpacking(lzma.LZMADecompressor)),
    "bzip2": _Compression(".bz2", rb"BZh[1-9](1AY&SY|\x17rE8P)", _unpacking(bz2.BZ2Decompressor)),
}
# a text may begin "PAR1", but not with what follows in Parquet
_MAGIC = {name: each.magic for name, each in _COMPRESSIONS.items()} | {
    "parquet": rb"PAR1[\x00-\x08\x0e-\x1f]",
    "a zip archive": rb"PK\x03\x04",
}
ENDINGS = ", ".join(compression.ending for compression in _COMPRESSIONS.values())


def file_kind(path: epath.PathLike) -> FileKind:
    """The kind that the ending of a name says, in capitals or not."""
    name = str(path).lower()
    compression = next((key for key, each in _COMPRESSIONS.items() if name.endswith(each.ending)), "")
    stem = name.removesuffix(_COMPRESSIONS[compression].ending) if compression else name
    form = next((form for ending, form in FORMS.items() if stem.endswith(ending)), "")
    return FileKind("" if compression and form == "parquet" else form, compression)


@contextlib.contextmanager
def open_input(path: epath.Path, what: str = "file") -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked.

    Args:
        path: what to read.
        what: what it was to be, named where it is not there.

    Raises:
        LosslineError: it is absent, a folder, cut off or damaged, or its content is not what its ending says.
    """
    try:
        with path.open("rb") as raw:
            file = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
            kind = file_kind(path)
            _refuse_false_ending(path, kind, file.peek(16)[:16])
            if kind.form == "parquet":
                _require_end(file)
            content = _COMPRESSIONS[kind.compression].open(file) if kind.compression else file
            _refuse_page(path, kind, content.peek(256)[:256])
            yield content
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such {what}") from error
    except IsADirectoryError as error:
        raise LosslineError(f"{path}: cannot be read: it is a folder; name a file in it") from error
    except EOFError as error:
        raise LosslineError(f"{path}: cannot be read: its end is missing; fetch or write it again") from error
    except Exception as error:
        if not _is_damage(error):
            raise
        message = " ".join(str(error).split())
        raise LosslineError(f"{path}: cannot be read ({message}); fetch or write it again") from error


def _is_damage(error: Exception) -> bool:
    """Told by the disk or by a decompressor; that of zstd is imported where it is needed."""
    return isinstance(error, (OSError, zlib.error, lzma.LZMAError)) or type(error).__name__ == "ZstdError"


def read_text(path: epath.Path, what: str = "file") -> str:
    """The whole of a text file; raises as `open_input` does, and where it is not UTF-8, by line."""
    with open_input(path, what) as file:
        return decoded(file.read(), str(path))


def numbered_lines(path: epath.Path, what: str = "file") -> Iterator[tuple[str, str]]:
    """Yield each line after its name for errors (`a.jsonl:17`); lines of white space alone are left out.

    Lines end at line feeds alone: other separators may stand inside a JSON string.

    Raises:
        LosslineError: as `open_input` raises, or a line that is not UTF-8.
    """
    with open_input(path, what) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            text = decoded(line, str(path), number)
            if text.strip():
                yield where, text


def decoded(data: bytes, path: str, line: int | None = None) -> str:
    """Bytes as UTF-8 text, without the byte order mark that a file may start with.

    Args:
        data: a line of the file, or the whole of it.
        path: of the file, for messages.
        line: its number, from one; None: the whole file.

    Raises:
        LosslineError: UTF-16, or no UTF-8 for another reason, by its line and the byte in that line.
    """
    is_start = line in (None, 1)
    if is_start and (data.startswith(_UTF16_MARKS) or _looks_like_utf16(data[:64])):
        raise LosslineError(f"{path}: is UTF-16 text; save the file as UTF-8")
    data = data.removeprefix(_UTF8_MARK) if is_start else data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        *before, begun = _LINE_END.split(data[: error.start]) if line is None else [data[: error.start]]
        where = f"{path}:{line or len(before) + 1}"
        raise LosslineError(
            f"{where}: invalid UTF-8 at byte {len(begun)} ({data[error.start]:02x}); convert the file to UTF-8"
        ) from error


def parse_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        LosslineError: the line is no JSON, no object, or an object with a field that stands twice.
    """
    try:
        fields = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        cure = "write each object of the array on a line of its own"
        cure = cure if text.lstrip().startswith("[") else "each line is one JSON object"
        raise LosslineError(f"{where}: not valid JSON ({fault_of_line(error)}); {cure}") from error
    if isinstance(fields, list) and fields:
        raise LosslineError(
            f"{where}: is no JSON object but an array of {len(fields)}; write each of them on a line of its own"
        )
    if not isinstance(fields, dict):
        raise LosslineError(f"{where}: {text.strip()!r:.60} is no JSON object; each line is one")
    return fields


def fault_of_line(error: Exception) -> str:
    """Why one line of a file is no JSON, without the line number that the parser counts within it."""
    if isinstance(error, RecursionError):
        return "too deeply nested"
    if not isinstance(error, json.JSONDecodeError):
        return " ".join(str(error).split())
    place = f"character {error.pos + 1}" if error.doc[error.pos :].strip() else "the end of the line"
    return f"{error.msg.removesuffix(' at')} at {place}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r:.60} stands twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _looks_like_utf16(head: bytes) -> bool:
    """Every other byte is zero, as in UTF-16 of plain English without a byte order mark."""
    return len(head) >= 4 and any(set(head[k::2]) == {0} and 0 not in head[1 - k :: 2] for k in (0, 1))


def _require_end(file: IO[bytes]) -> None:
    """Raise EOFError where a Parquet file lacks the mark that ends it."""
    file.seek(-len(_PARQUET_END), io.SEEK_END)
    last_bytes = file.read()
    file.seek(0)
    if last_bytes != _PARQUET_END:
        raise EOFError


def _refuse_page(path: epath.Path, kind: FileKind, head: bytes) -> None:
    """An answer of a web server, saved as data; a corpus of text may be of pages."""
    if kind.form not in ("", "txt") and (page := _PAGE.match(head)):
        raise LosslineError(
            f"{path}: cannot be read as {kind.form}: its content begins {page[1]!r}; rename it or fetch it again"
        )


def _refuse_false_ending(path: epath.Path, kind: FileKind, head: bytes) -> None:
    content = next((name for name, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL)), "")
    expected = kind.compression or ("parquet" if kind.form == "parquet" else "")
    if expected != content:
        actual = f"is {content}" if content else f"begins {head!r}" if head else "is empty"
        wanted = expected or kind.form or "text"
        raise LosslineError(f"{path}: cannot be read as {wanted}: its content {actual}; rename it or fetch it again")
