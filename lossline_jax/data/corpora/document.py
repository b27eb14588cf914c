"""One document of a corpus, and the checks that every reader applies to it."""

from typing import Any, NamedTuple

from lossline_jax.errors import LosslineError


class Document(NamedTuple):
    """A text, and its source for error messages (`file.jsonl:17`)."""

    text: str
    source: str


def checked_document(text: Any, source: str, field: str = "text") -> Document:
    """Return a document after a check that it is valid UTF-8 and that tokenizers accept it.

    Args:
        text: value that the reader found; anything except a string is refused.
        source: file and line, for error messages.
        field: field or column of the text, for error messages.

    Raises:
        LosslineError: the value is not a string, or has a NUL character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise LosslineError(f"{source}: field {field!r} is {type(text).__name__}, not a string; fix the line")
    if "\0" in text:
        raise LosslineError(f"{source}: the document has a NUL (U+0000) at character {text.index(chr(0))}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LosslineError(
            f"{source}: not valid UTF-8 (lone surrogate at character {error.start}); fix the text"
        ) from error
    return Document(text, source)
