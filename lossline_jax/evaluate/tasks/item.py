"""One question of a task as text, and what makes it fit to be scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class Item:
    """One question. Option k is scored as the continuation of context k; `where` names it in errors.

    An item of one option (LAMBADA) has nothing to choose from: it is right where that option is what the model
    would have said.
    """

    contexts: tuple[str, ...]  # the same for every option, but where the options differ inside a sentence
    options: tuple[str, ...]
    gold: int
    num_chars: tuple[int, ...]  # of each option; the delimiter that joins it to its context is not counted
    where: str


def delimited_item(contexts: Sequence[str], options: Sequence[str], delimiter: str, gold: int, where: str) -> Item:
    """The item whose options are `delimiter` and then the option's own text.

    Raises:
        LosslineError: text that is not Unicode or has a NUL, or an option of white space alone, which has no loss a
            character.
    """
    for text in (*contexts, *options):
        if not _is_unicode(text):
            raise LosslineError(f"{where}: {text!r:.60} has half a surrogate pair, which no UTF-8 holds; mend the text")
        if "\0" in text:
            raise LosslineError(f"{where}: {text!r:.60} has a NUL character, which no question has; mend the text")
    for k, option in enumerate(options):
        if not option.strip():
            problem = f"option {k} is {delimiter + option!r}, which holds nothing to score"
            raise LosslineError(f"{where}: {problem}; remove the item")
    joined = tuple(delimiter + option for option in options)
    return Item(tuple(contexts), joined, gold, tuple(map(len, options)), where)


def joined_item(contexts: Sequence[str], options: Sequence[str], gold: int, where: str) -> Item:
    """The item whose options bring their delimiter along: a space that all of them begin with, or none.

    Raises:
        LosslineError: as `delimited_item`.
    """
    delimiter = " " if all(option.startswith(" ") for option in options) else ""
    bare = [option.removeprefix(delimiter) for option in options]
    return delimited_item(contexts, bare, delimiter, gold, where)


def first_of_many(problems: Sequence[str]) -> str:
    """The first problem in full, and how many others the same set has."""
    more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
    return problems[0] + more


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
