"""One document, and the checks that every reader puts it through."""

from typing import Any, NamedTuple

from lossline_jax.errors import LosslineError


class Document(NamedTuple):
    """A text and where it came from (`file.jsonl:17`), for error messages."""

    text: str
    source: str


def checked_document(text: Any, source: str, field: str = "text") -> Document:
    """A document that UTF-8 can hold and a tokenizer can take.

    Args:
        text: what the reader found; anything but a string is refused.
        source: file and line, named in errors.
        field: the field or column it was found in, named in errors.

    Raises:
        LosslineError: not a string, a NUL character, or a lone surrogate.
    """
    if not isinstance(text, str):
        raise LosslineError(f"{source}: field {field!r} is {type(text).__name__}, not a string; mend the line")
    if "\0" in text:
        raise LosslineError(f"{source}: the document has a NUL (U+0000) at character {text.index(chr(0))}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LosslineError(
            f"{source}: not valid UTF-8 (lone surrogate at character {error.start}); mend the text"
        ) from error
    return Document(text, source)
