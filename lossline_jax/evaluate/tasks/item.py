"""Questions of a task as text. Every question is checked, so that it can be scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class Item:
    """A question with its options. Option k is scored as the continuation of context k.

    An item of one option (LAMBADA) offers no choice. It is answered right if greedy decoding gives the option.
    """

    contexts: tuple[str, ...]  # the same for every option, unless the options differ inside a sentence
    options: tuple[str, ...]  # each begins with the delimiter after its context
    gold: int  # the index of the correct option
    num_chars: tuple[int, ...]  # characters of each option, without the delimiter
    where: str  # the name of the item in messages, such as `FILE:LINE`


def delimited_item(contexts: Sequence[str], options: Sequence[str], *, delimiter: str, gold: int, where: str) -> Item:
    """Return the item whose options are `delimiter` followed by the given option texts.

    Args:
        contexts: one context per option.
        options: the option texts, without a delimiter.
        delimiter: the text between a context and its option.
        gold: the index of the correct option.
        where: the name of the item in messages.

    Raises:
        LosslineError: a text is not valid Unicode or has a NUL, or an option is only white space and so has no loss
            per character.
    """
    for text in (*contexts, *options):
        if not _is_unicode(text):
            raise LosslineError(
                f"{where}: {text!r:.60} has half a surrogate pair, which UTF-8 cannot hold; fix the text"
            )
        if "\0" in text:
            raise LosslineError(f"{where}: {text!r:.60} has a NUL character, which no question has; fix the text")
    for k, option in enumerate(options):
        if not option.strip():
            problem = f"option {k} is {delimiter + option!r}, which holds nothing to score"
            raise LosslineError(f"{where}: {problem}; remove the item")
    joined = tuple(delimiter + option for option in options)
    return Item(tuple(contexts), joined, gold, tuple(map(len, options)), where)


def joined_item(contexts: Sequence[str], options: Sequence[str], gold: int, where: str) -> Item:
    """Return the item whose option texts already include their delimiter.

    If all options begin with a space, that space is the delimiter. Otherwise there is none.

    Args:
        contexts: one context per option.
        options: the option texts, with their delimiter.
        gold: the index of the correct option.
        where: the name of the item in messages.

    Raises:
        LosslineError: a text cannot be scored, see `delimited_item`.
    """
    delimiter = " " if all(option.startswith(" ") for option in options) else ""
    bare = [option.removeprefix(delimiter) for option in options]
    return delimited_item(contexts, bare, delimiter=delimiter, gold=gold, where=where)


def first_of_many(problems: Sequence[str]) -> str:
    """Return the first problem in full, and the number of further problems of the same set.

    Args:
        problems: at least one message.
    """
    more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
    return problems[0] + more


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
