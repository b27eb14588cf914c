"""Text for the terminal and for files: tables, numbers, and names that may hold anything."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lossline_jax.errors import LosslineError

NONE = "-"


def p_text(p: float | None) -> str:
    """`0.012`, `<0.001`; a dash for none."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def human_count(value: float) -> str:
    """`1234567` as `1.23M`, `6.6e20` as `6.60e+20`: three significant digits."""
    if abs(value) >= 1e15:
        return f"{value:.2e}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def human_seconds(seconds: float) -> str:
    """`3725` as `1h02m`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


LONGEST_CELL = 300  # characters; of a longer name both ends are shown


def shown(text: str) -> str:
    r"""A name as it may be shown: on one line, without what a terminal obeys or what no one sees.

    Control characters, line breaks, marks of writing direction, spaces of no width and the like stand as `\x1b`,
    as Python writes them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _joins(text, k) else _escaped(c) for k, c in enumerate(text))


def shown_lines(text: str) -> str:
    """The same for a text of several lines, whose line breaks are its own."""
    return "\n".join(shown(line) for line in text.split("\n"))


def shown_tree(value: Any) -> Any:
    """Plain JSON values with every text in them, names of fields too, as `shown`."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {shown_tree(name): shown_tree(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown_tree(each) for each in value]
    return value


def display_width(text: str) -> int:
    """Columns of a terminal that a text takes: two for a wide character, none for an accent that joins another."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def shortened(text: str, width: int = LONGEST_CELL) -> str:
    """Both ends of a text that is longer than `width`."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-(width // 2 - 1) :]}"


def utf8(text: str, where: str) -> bytes:
    """A text as bytes for a file.

    Raises:
        LosslineError: half a character in it, as in an argument or the name of a file that is not UTF-8.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        before = shortened(text[max(0, error.start - 40) : error.start])
        raise LosslineError(
            f"{where}: cannot hold {text[error.start]!r} (after {before!r}); it stands for a byte that is not UTF-8: "
            "mend the name or argument that it is from"
        ) from error


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under a rule: numbers to the right, words to the left, None as an empty cell."""
    cells = [["" if value is None else shortened(shown(str(value))) for value in row] for row in [header, *rows]]
    widths = [max(display_width(row[k]) for row in cells) for k in range(len(header))]
    numeric = [all(_is_number(row[k]) for row in cells[1:] if row[k]) and len(cells) > 1 for k in range(len(header))]
    lines = [_line(cells[0], widths, numeric), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, numeric) for row in cells[1:]]
    return "\n".join(lines)


def _joins(text: str, k: int) -> bool:
    """True where character k is a joiner inside a word or an emoji. Beside ASCII it would only hide a difference."""
    return text[k] in "\u200c\u200d" and not text[k - 1 : k].isascii() and not text[k + 1 : k + 2].isascii()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _line(row: Sequence[str], widths: list[int], numeric: list[bool]) -> str:
    parts = (
        _padded(value, width - display_width(value), right)
        for value, width, right in zip(row, widths, numeric, strict=True)
    )
    return "  ".join(parts).rstrip()


def _padded(value: str, missing: int, right: bool) -> str:
    return " " * missing + value if right else value + " " * missing


def _is_number(text: str) -> bool:
    return text == "-" or (text.lstrip("+-−.")[:1].isdigit() and " " not in text)


def titled_list(title: str, lines: Sequence[str], most: int = 20) -> list[str]:
    """Return one block of text with a title and its lines, cut after `most`; no block where there are no lines."""
    if not lines:
        return []
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return ["\n".join([f"{title}:", *(f"  {shown(line)}" for line in lines[:most]), *more])]
