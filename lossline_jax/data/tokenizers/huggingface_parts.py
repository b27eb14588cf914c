"""Rules of a `tokenizer.json` for the beginning of a text, read from its description alone.

Some tokenizers begin every text with a space of their own. A text that goes on where another one ends has no such
space, so it is encoded by the same description without the parts that add it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_LISTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}  # of a Sequence


def parts(description: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The members of a part in order; a part that is no `Sequence` is its only member.

    Args:
        description: content of a `tokenizer.json`.
        name: "normalizer", "pre_tokenizer" or "decoder".
    """
    yield from _members(description.get(name), _LISTS[name])


def text_prefix(description: Mapping[str, Any]) -> str:
    """The text that the tokenizer puts before every text; empty where it adds none."""
    for part in parts(description, "normalizer"):
        if part.get("type") == "Prepend":
            return part["prepend"].replace("\u2581", " ")
    return " " if any(_adds_space(part) for part in parts(description, "pre_tokenizer")) else ""


def without_prefix(description: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a tokenizer that takes the beginning of a text for the middle of one."""
    return {
        **description,
        "normalizer": _changed(description.get("normalizer"), _LISTS["normalizer"]),
        "pre_tokenizer": _changed(description.get("pre_tokenizer"), _LISTS["pre_tokenizer"]),
        "post_processor": None,  # it may move the places of tokens in their text
    }


def word_marker(description: Mapping[str, Any]) -> str | None:
    """The field of the model by which tokens at the beginning, inside or at the end of a word differ, if any.

    The rest of a word has no tokens of its own then.
    """
    names = ("continuing_subword_prefix", "end_of_word_suffix")
    return next((f"model.{name}" for name in names if description["model"].get(name)), None)


def is_byte_level(description: Mapping[str, Any]) -> bool:
    """Return whether the characters of the vocabulary stand for bytes."""
    return any(part.get("type") == "ByteLevel" for name in _LISTS for part in parts(description, name))


def _members(part: Mapping[str, Any] | None, listed: str) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    if part.get("type") == "Sequence":
        for member in part[listed]:
            yield from _members(member, listed)
    else:
        yield dict(part)


def _adds_space(part: Mapping[str, Any]) -> bool:
    if part.get("type") == "Metaspace":
        return part.get("prepend_scheme", "always") != "never"
    return part.get("type") == "ByteLevel" and part["add_prefix_space"]


def _changed(part: Mapping[str, Any] | None, listed: str) -> dict[str, Any] | None:
    match part and part.get("type"):
        case None | "Prepend":
            return None
        case "Sequence":
            members = [_changed(member, listed) for member in part[listed]]
            return {**part, listed: [member for member in members if member is not None]}
        case "Strip":  # white space at the beginning of the rest is white space inside the text
            return {**part, "strip_left": False}
        case "Metaspace":
            kept = {name: value for name, value in part.items() if name != "add_prefix_space"}
            return {**kept, "prepend_scheme": "never"}
        case "ByteLevel" if listed == "pretokenizers":
            return {**part, "add_prefix_space": False}
    return dict(part)
