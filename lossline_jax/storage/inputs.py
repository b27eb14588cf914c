"""The one reader of users' files, as bytes, text or JSON lines. Corpora, tasks, tables and specs are read with it.

The ending of a name says the kind of a file, and the first bytes of the file must agree. Text is UTF-8. A byte order
mark at the start is not part of the text.
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
_CHUNK = 1 << 16  # bytes per read
LONGEST_ZSTD_WINDOW = 31  # log2 of bytes; the largest that the format allows
_LINE_END = re.compile(rb"\r\n|\r|\n")
_PARQUET_END = b"PAR1"
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(<(?:!doctype|html|head|body|\?xml)\b[^>\n]{0,40}>?)", re.IGNORECASE)
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
InputFile = io.BufferedReader | gzip.GzipFile


@dataclass(frozen=True)
class FileKind:
    """The form and the compression of a file. `a.jsonl.gz` has `FileKind("jsonl", "gzip")`."""

    form: str  # a value of FORMS; empty: an unknown ending
    compression: str = ""  # a key of _COMPRESSIONS; empty: not compressed


@dataclass(frozen=True)
class _Compression:
    ending: str
    magic: bytes  # a pattern of the first bytes, which no UTF-8 text begins with (for bzip2: none in practice)
    open: Callable[[io.BufferedReader], InputFile]


class _Unpacked(io.RawIOBase):
    """The unpacked content of a bzip2, xz or zstd file.

    Every byte of the file must belong to the compressed content. The file classes of the libraries silently drop a
    damaged remainder.
    """

    def __init__(self, file: IO[bytes], make_decompressor: Callable[[], Any]) -> None:
        self._file, self._make_decompressor = file, make_decompressor
        self._decompressor = make_decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            if self._decompressor.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._decompressor = self._make_decompressor()
            else:
                data = self._file.read(_CHUNK) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not data:
                    raise EOFError
            if unpacked := self._decompressor.decompress(data, len(buffer)):
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)

    def _next_stream(self) -> bytes:
        """Return the first bytes of the next stream, without padding zeros before it; empty at the end of the file."""
        data = self._decompressor.unused_data
        while not (data := data.lstrip(b"\0")):
            data = self._file.read(_CHUNK)
            if not data:
                return b""
        return data


def _unpacking(make_decompressor: Callable[[], Any]) -> Callable[[io.BufferedReader], InputFile]:
    return lambda file: io.BufferedReader(_Unpacked(file, make_decompressor), _CHUNK)


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
# A text may begin with "PAR1", but not with the byte that follows in Parquet.
_MAGIC = {name: compression.magic for name, compression in _COMPRESSIONS.items()} | {
    "parquet": rb"PAR1[\x00-\x08\x0e-\x1f]",
    "a zip archive": rb"PK\x03\x04",
}
ENDINGS = ", ".join(compression.ending for compression in _COMPRESSIONS.values())


def file_kind(path: epath.PathLike) -> FileKind:
    """Return the kind that the ending of a name says, in upper or lower case.

    Args:
        path: file name or path; the file need not exist.
    """
    name = str(path).lower()
    compression = next((key for key, candidate in _COMPRESSIONS.items() if name.endswith(candidate.ending)), "")
    stem = name.removesuffix(_COMPRESSIONS[compression].ending) if compression else name
    form = next((form for ending, form in FORMS.items() if stem.endswith(ending)), "")
    return FileKind("" if compression and form == "parquet" else form, compression)


@contextlib.contextmanager
def open_input(path: epath.Path, what: str = "file") -> Iterator[InputFile]:
    """Open a file for its unpacked bytes.

    Args:
        path: file to read.
        what: description of the expected file, for the message that the file is missing.

    Raises:
        LosslineError: the file is missing, a folder, cut off or damaged, or its content is not what its ending says.
    """
    try:
        with path.open("rb") as raw:
            # epath types its files as `IO`, which does not promise the methods of a raw file.
            file = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # pyright: ignore[reportArgumentType]
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
    except Exception as error:  # the error class of zstd can only be imported where zstd is installed
        if not _is_damage(error):
            raise
        message = " ".join(str(error).split())
        raise LosslineError(f"{path}: cannot be read ({message}); fetch or write it again") from error


def _is_damage(error: Exception) -> bool:
    """Return True for an error of the disk or of a decompressor. That of zstd is recognised by name, without import."""
    return isinstance(error, (OSError, zlib.error, lzma.LZMAError)) or type(error).__name__ == "ZstdError"


def read_text(path: epath.Path, what: str = "file") -> str:
    """Return the whole text of a file.

    Args:
        path: file to read.
        what: as for `open_input`.

    Raises:
        LosslineError: as for `open_input`, or a line is not UTF-8.
    """
    with open_input(path, what) as file:
        return decoded(file.read(), str(path))


def numbered_lines(path: epath.Path, what: str = "file") -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each line, where the name is for error messages (`a.jsonl:17`).

    Blank lines are left out. Only a line feed ends a line, since other separators may be inside a JSON string.

    Args:
        path: file to read.
        what: as for `open_input`.

    Raises:
        LosslineError: as for `open_input`, or a line is not UTF-8.
    """
    with open_input(path, what) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            text = decoded(line, str(path), number)
            if text.strip():
                yield where, text


def decoded(data: bytes, path: str, line: int | None = None) -> str:
    """Return bytes as UTF-8 text, without the byte order mark that a file may start with.

    Args:
        data: one line of the file, or the whole file.
        path: path of the file, for messages.
        line: number of the line, from one. None: `data` is the whole file.

    Raises:
        LosslineError: the bytes are UTF-16, or are not UTF-8 for another reason. The message names the line and the
            byte in that line.
    """
    is_start = line in (None, 1)
    if is_start and (data.startswith(_UTF16_MARKS) or _looks_like_utf16(data[:64])):
        raise LosslineError(f"{path}: is UTF-16 text; save the file as UTF-8")
    data = data.removeprefix(_UTF8_MARK) if is_start else data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        *whole_lines, line_start = _LINE_END.split(data[: error.start]) if line is None else [data[: error.start]]
        where = f"{path}:{line or len(whole_lines) + 1}"
        raise LosslineError(
            f"{where}: invalid UTF-8 at byte {len(line_start)} ({data[error.start]:02x}); convert the file to UTF-8"
        ) from error


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Args:
        text: the line.
        where: name of the line, for error messages.

    Raises:
        LosslineError: the line is not JSON, is not an object, or has a field twice.
    """
    try:
        fields = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        cure = "write each object of the array on a line of its own"
        cure = cure if text.lstrip().startswith("[") else "each line is one JSON object"
        raise LosslineError(f"{where}: not valid JSON ({fault_of_line(error)}); {cure}") from error
    if isinstance(fields, list) and fields:
        raise LosslineError(
            f"{where}: is not a JSON object but an array of {len(fields)}; write each item on a line of its own"
        )
    if not isinstance(fields, dict):
        raise LosslineError(f"{where}: {text.strip()!r:.60} is not a JSON object; write one object on each line")
    return fields


def fault_of_line(error: Exception) -> str:
    """Return why one line of a file is not JSON, without the line number that the parser counts within that line.

    Args:
        error: the error of the JSON parser.
    """
    if isinstance(error, RecursionError):
        return "too deeply nested"
    if not isinstance(error, json.JSONDecodeError):
        return " ".join(str(error).split())
    position = f"character {error.pos + 1}" if error.doc[error.pos :].strip() else "the end of the line"
    return f"{error.msg.removesuffix(' at')} at {position}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {repeated!r:.60} is given twice in one object")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _looks_like_utf16(head: bytes) -> bool:
    """Return True if every other byte is zero, as in UTF-16 of plain English without a byte order mark."""
    return len(head) >= 4 and any(set(head[k::2]) == {0} and 0 not in head[1 - k :: 2] for k in (0, 1))


def _require_end(file: IO[bytes]) -> None:
    """Raise EOFError if the mark at the end of a Parquet file is missing."""
    file.seek(-len(_PARQUET_END), io.SEEK_END)
    last_bytes = file.read()
    file.seek(0)
    if last_bytes != _PARQUET_END:
        raise EOFError


def _refuse_page(path: epath.Path, kind: FileKind, head: bytes) -> None:
    """Refuse a web page that was saved as data, which is often the error page of a server. Plain text may be HTML."""
    if kind.form not in ("", "txt") and (page := _PAGE.match(head)):
        raise LosslineError(
            f"{path}: cannot be read as {kind.form}: its content begins with {page[1]!r}; rename it or fetch it again"
        )


def _refuse_false_ending(path: epath.Path, kind: FileKind, head: bytes) -> None:
    content = next((name for name, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL)), "")
    expected = kind.compression or ("parquet" if kind.form == "parquet" else "")
    if expected != content:
        actual = f"is {content}" if content else f"begins with {head!r}" if head else "is empty"
        kind_name = expected or kind.form or "text"
        raise LosslineError(f"{path}: cannot be read as {kind_name}: its content {actual}; rename it or fetch it again")
