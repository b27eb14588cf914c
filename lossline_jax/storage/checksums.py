"""Checksums inside JSON files and JSON lines. A reader notices with them that content has changed since it was written.

The last key of a sealed object is `checksum`. In a file, the checksum is of the canonical form of the object. In a
line, the checksum is of the exact bytes before it. Content without the key comes from an earlier version or from
another program, and is accepted as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"
DIGITS = 16  # hex digits of SHA-256 that are kept


class NotAsWritten(ValueError):
    """Content that is readable but is not what was written."""

    def __init__(self) -> None:
        super().__init__("its content is not what was written: wrong checksum")


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content as JSON stores it, with its checksum.

    Args:
        content: fields that JSON can represent.
    """
    plain = json.loads(json.dumps(content))
    return {**plain, KEY: _content_digest(plain)}


def unseal(content: Any) -> dict[str, Any]:
    """Return the content without its checksum.

    Args:
        content: a value that was read from JSON.

    Raises:
        ValueError: the content is not an object, or is not what was sealed (`NotAsWritten`).
    """
    if not isinstance(content, dict):
        raise ValueError(f"an object with fields was expected, not {type(content).__name__}")
    plain = {name: value for name, value in content.items() if name != KEY}
    if KEY in content and content[KEY] != _content_digest(plain):
        raise NotAsWritten
    return plain


def seal_line(content: Mapping[str, Any]) -> str:
    """Return the content as one line of JSON that ends in its checksum, without a newline.

    Args:
        content: fields that JSON can represent.
    """
    line = json.dumps(content, ensure_ascii=False)
    return f"{line[:-1]}{_checksum_ending(line)}"


def unseal_line(line: str) -> dict[str, Any]:
    """Return the content of a line, without its checksum.

    Args:
        line: one line of JSON, without a newline.

    Raises:
        ValueError: the line is not JSON, is not an object, or is not what was sealed (`NotAsWritten`).
    """
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError(f"an object with fields was expected, not {type(content).__name__}")
    if content.pop(KEY, None) is not None:
        head, separator, _ = line.rpartition(f', "{KEY}": ')
        if line != f"{head}{_checksum_ending(f'{head}}}')}" or not separator:
            raise NotAsWritten
    return content


def _content_digest(plain: Mapping[str, Any]) -> str:
    return _digest(json.dumps(plain, sort_keys=True, separators=(",", ":")))


def _checksum_ending(line: str) -> str:
    return f', "{KEY}": "{_digest(line)}"}}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
