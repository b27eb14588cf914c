"""Checksums inside JSON files and lines: content that is not as it was written is found when it is read.

A sealed object has the key `checksum` last: of its canonical form in a file, of the very bytes before it in a line.
Content without the key, of an earlier version or of another program, is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"
DIGITS = 16


class NotAsWritten(ValueError):
    """The content is readable, and is not what was written."""

    def __init__(self) -> None:
        super().__init__("its content is not what was written: wrong checksum")


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON will hold it, with its checksum."""
    plain = json.loads(json.dumps(content))
    return {**plain, KEY: _of_content(plain)}


def unseal(content: Any) -> dict[str, Any]:
    """The content without its checksum.

    Raises:
        ValueError: it is no object, or is not what was sealed (`NotAsWritten`).
    """
    if not isinstance(content, dict):
        raise ValueError(f"an object with fields was expected, not {type(content).__name__}")
    plain = {name: value for name, value in content.items() if name != KEY}
    if KEY in content and content[KEY] != _of_content(plain):
        raise NotAsWritten
    return plain


def seal_line(content: Mapping[str, Any]) -> str:
    """The content as one line of JSON that ends in its checksum, without a newline."""
    line = json.dumps(content, ensure_ascii=False)
    return f"{line[:-1]}{_tail(line)}"


def unseal_line(line: str) -> dict[str, Any]:
    """The content of a line. Raises as `unseal` does, or where it is no JSON."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError(f"an object with fields was expected, not {type(content).__name__}")
    if content.pop(KEY, None) is not None:
        head, mark, _ = line.rpartition(f', "{KEY}": ')
        if line != f"{head}{_tail(f'{head}}}')}" or not mark:
            raise NotAsWritten
    return content


def _of_content(plain: Mapping[str, Any]) -> str:
    return _digest(json.dumps(plain, sort_keys=True, separators=(",", ":")))


def _tail(line: str) -> str:
    return f', "{KEY}": "{_digest(line)}"}}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
