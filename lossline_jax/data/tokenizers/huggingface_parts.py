"""The rules of a `tokenizer.json` for the beginning of a text. They are read from the description of the tokenizer.

Some tokenizers begin every text with a space of their own. A text that continues another text has no such space, so it
is encoded by the same description without the parts that add the space.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# The field with the members of a `Sequence`, for each part of a tokenizer.
_LISTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def parts(description: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yield the members of a part in order. A part that is not a `Sequence` is its only member.

    Args:
        description: content of a `tokenizer.json`.
        name: "normalizer", "pre_tokenizer" or "decoder".
    """
    yield from _members(description.get(name), _LISTS[name])


def text_prefix(description: Mapping[str, Any]) -> str:
    """Return the text that the tokenizer puts before every text, or an empty string.

    Args:
        description: content of a `tokenizer.json`.
    """
    for part in parts(description, "normalizer"):
        if part.get("type") == "Prepend":
            return part["prepend"].replace("\u2581", " ")
    return " " if any(_adds_space(part) for part in parts(description, "pre_tokenizer")) else ""


def without_prefix(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description without special rules for the beginning of a text.

    Args:
        description: content of a `tokenizer.json`.
    """
    return {
        **description,
        "normalizer": _without_prefix(description.get("normalizer"), _LISTS["normalizer"]),
        "pre_tokenizer": _without_prefix(description.get("pre_tokenizer"), _LISTS["pre_tokenizer"]),
        "post_processor": None,  # a post-processor may change the offsets of tokens in their text
    }


def word_marker(description: Mapping[str, Any]) -> str | None:
    """Return the field of the model that gives tokens inside a word another form than tokens at its beginning or end.

    Such a tokenizer cannot encode the rest of a word. None: the model has no such field.

    Args:
        description: content of a `tokenizer.json`.
    """
    names = ("continuing_subword_prefix", "end_of_word_suffix")
    return next((f"model.{name}" for name in names if description["model"].get(name)), None)


def is_byte_level(description: Mapping[str, Any]) -> bool:
    """Return True if the characters of the vocabulary stand for bytes."""
    return any(part.get("type") == "ByteLevel" for name in _LISTS for part in parts(description, name))


def _members(part: Mapping[str, Any] | None, list_field: str) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    if part.get("type") == "Sequence":
        for member in part[list_field]:
            yield from _members(member, list_field)
    else:
        yield dict(part)


def _adds_space(part: Mapping[str, Any]) -> bool:
    if part.get("type") == "Metaspace":
        return part.get("prepend_scheme", "always") != "never"
    return part.get("type") == "ByteLevel" and part["add_prefix_space"]


def _without_prefix(part: Mapping[str, Any] | None, list_field: str) -> dict[str, Any] | None:
    if part is None:
        return None
    match part.get("type"):
        case None | "Prepend":
            return None
        case "Sequence":
            members = [_without_prefix(member, list_field) for member in part[list_field]]
            return {**part, list_field: [member for member in members if member is not None]}
        case "Strip":  # white space at the beginning of the continuation is inside the whole text
            return {**part, "strip_left": False}
        case "Metaspace":
            other_fields = {name: value for name, value in part.items() if name != "add_prefix_space"}
            return {**other_fields, "prepend_scheme": "never"}
        case "ByteLevel" if list_field == "pretokenizers":
            return {**part, "add_prefix_space": False}
    return dict(part)
