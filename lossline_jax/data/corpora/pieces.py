"""Divide a long text into documents: its paragraphs, or pieces of at most a number of bytes."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

# The best places for the end of a piece first: after a blank line, after a line, after white space.
_ENDS = (re.compile(rb"\n[ \t\r]*\n"), re.compile(rb"\n"), re.compile(rb"\s"))


class Piece(NamedTuple):
    """A part of a text, and the number of its first line in the text, from 1."""

    text: str
    line: int


def split_text(text: str, split: Literal["file", "blank lines"] | int) -> Iterator[Piece]:
    """Yield the documents of a text in order.

    Args:
        text: the whole text.
        split: "file": the text is one document. "blank lines": each paragraph is a document, without the carriage
            returns of its lines. A number: each piece of at most this many UTF-8 bytes is a document. Such a piece ends
            after a blank line, a line or a word, if one of them ends in its second half. All pieces together are the
            text.
    """
    if split == "file":
        yield Piece(text, 1)
    elif split == "blank lines":
        yield from _paragraphs(text)
    else:
        yield from _pieces(text.encode("utf-8"), split)


def _paragraphs(text: str) -> Iterator[Piece]:
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            lines.append(line.removesuffix("\r"))
        elif lines:
            yield Piece("\n".join(lines), number - len(lines))
            lines = []
    if lines:
        yield Piece("\n".join(lines), text.count("\n") + 2 - len(lines))


def _pieces(data: bytes, most: int) -> Iterator[Piece]:
    start, line = 0, 1
    while start < len(data):
        end = _end_of_piece(data, start, most)
        yield Piece(data[start:end].decode("utf-8"), line)
        line += data.count(b"\n", start, end)
        start = end


def _end_of_piece(data: bytes, start: int, most: int) -> int:
    limit = start + most
    if limit >= len(data):
        return len(data)
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(data, start + most // 2, limit)]
        if ends:
            return ends[-1]
    while data[limit] & 0xC0 == 0x80:  # a byte inside a character
        limit -= 1
    return limit
