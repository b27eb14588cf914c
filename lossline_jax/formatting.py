"""Text for the terminal and for files: tables, numbers, and names with arbitrary characters."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lossline_jax.errors import LosslineError

NONE = "-"


def p_text(p: float | None) -> str:
    """Return a p-value as text, such as `0.012` or `<0.001`.

    Args:
        p: the p-value. None: there is none, which is shown as a dash.
    """
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def human_count(value: float) -> str:
    """Return a number with three significant digits: `1234567` as `1.23M`, `6.6e20` as `6.60e+20`."""
    if abs(value) >= 1e15:
        return f"{value:.2e}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def human_seconds(seconds: float) -> str:
    """Return a duration as text: `3725` as `1h02m`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{whole_seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


LONGEST_CELL = 300  # characters; a longer text is cut in the middle
MOST_LINES = 20  # of a list below a table


def shown(text: str) -> str:
    r"""Return a name in a form that is safe to show: on one line, without control or invisible characters.

    Control characters, line breaks, marks of writing direction, zero-width spaces and similar characters are written
    as escapes, such as `\x1b`, as Python writes them.

    Args:
        text: the name.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _joins(text, k) else _escaped(c) for k, c in enumerate(text))


def shown_lines(text: str) -> str:
    """Return a text of several lines with each line as `shown` returns it."""
    return "\n".join(shown(line) for line in text.split("\n"))


def shown_tree(value: Any) -> Any:
    """Return plain JSON values with every text in them, including names of fields, as `shown` returns it."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {shown_tree(name): shown_tree(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown_tree(item) for item in value]
    return value


def display_width(text: str) -> int:
    """Return the number of terminal columns of a text. A wide character takes two, a combining accent none."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def shortened(text: str, width: int = LONGEST_CELL) -> str:
    """Return a text in at most `width` characters. A longer text is cut in the middle, with `…` between both ends.

    Args:
        text: the text.
        width: largest number of characters.
    """
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-(width // 2 - 1) :]}"


def utf8(text: str, where: str) -> bytes:
    """Return a text as the bytes of a file.

    Args:
        text: the text.
        where: start of the error message.

    Raises:
        LosslineError: the text has a lone surrogate. Python puts one for a byte that is not UTF-8 in an argument or
            in the name of a file.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        before = shortened(text[max(0, error.start - 40) : error.start])
        raise LosslineError(
            f"{where}: cannot hold {text[error.start]!r} (after {before!r}), which stands for a byte that is not "
            "UTF-8; fix the name or argument that contains it"
        ) from error


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table with aligned columns and a rule below the header.

    Numbers are aligned to the right and words to the left.

    Args:
        header: names of the columns.
        rows: cells of each row. None: the cell is empty.
    """
    cells = [["" if value is None else shortened(shown(str(value))) for value in row] for row in [header, *rows]]
    widths = [max(display_width(row[k]) for row in cells) for k in range(len(header))]
    numeric = [all(_is_number(row[k]) for row in cells[1:] if row[k]) and len(cells) > 1 for k in range(len(header))]
    lines = [_line(cells[0], widths, numeric), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, numeric) for row in cells[1:]]
    return "\n".join(lines)


def _joins(text: str, k: int) -> bool:
    """Return True if character k is a joiner inside a word or an emoji.

    Next to ASCII a joiner would only hide a difference between two names, so it does not count there.
    """
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


def _padded(value: str, num_spaces: int, right: bool) -> str:
    return " " * num_spaces + value if right else value + " " * num_spaces


def _is_number(text: str) -> bool:
    return text == "-" or (text.lstrip("+-−.")[:1].isdigit() and " " not in text)


def titled_list(title: str, lines: Sequence[str]) -> list[str]:
    """Return one block of text with a title and lines, in a list, or an empty list if there are no lines.

    Args:
        title: title, without its colon.
        lines: lines below the title. `MOST_LINES` are shown, and the number of further lines is stated.
    """
    if not lines:
        return []
    more = [f"  and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return ["\n".join([f"{title}:", *(f"  {shown(line)}" for line in lines[:MOST_LINES]), *more])]
