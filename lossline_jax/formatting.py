"""Text for the terminal and for files: tables, numbers, and names with arbitrary characters."""

import re
import textwrap
import unicodedata
from collections.abc import Collection, Mapping, Sequence
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
LONGEST_PART = 40  # characters of a name without a place to break it; no number or interval is longer
TABLE_WIDTH = 100  # terminal columns; a wider table is wrapped
# A cell is broken between words, and where that is not enough inside names. Intervals and numbers stay whole.
_WORD = re.compile(r"(?:\[[^\]]*\]|[^ ])+")
_NAME_PART = re.compile(r"[^-_/+=,;:.]*[-_/+=,;:.]*")
_NUMBER = re.compile(r"[\[(<±≤≥~$+\-−.]*\d")


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


def counted(count: int, noun: str) -> str:
    """Return `1 run` or `3 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ratio_text(ratio: float) -> str:
    """Return a ratio with two digits or more: `1.87`, `0.064` or `12.4`."""
    return f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"


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


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    width: int | None = TABLE_WIDTH,
    whole: Collection[str] = (),
) -> str:
    """Return a table with aligned columns and a rule below the header.

    Numbers are aligned to the right and words to the left. A table that is too wide has cells of several lines, and if
    that is not enough its columns are divided into several tables below each other. The first column is then repeated.

    Args:
        header: names of the columns.
        rows: cells of each row. None: the cell is empty.
        width: largest number of terminal columns. None: any number, with one line for each row.
        whole: names of columns whose cells stay on one line.
    """
    cells = [["" if value is None else shortened(shown(str(value))) for value in row] for row in [header, *rows]]
    columns = [[row[k] for row in cells] for k in range(len(header))]
    numeric = [all(_is_number(cell) for cell in column[1:] if cell) and len(column) > 1 for column in columns]
    if width is None:
        return _aligned(columns, numeric, [max(map(display_width, column)) for column in columns])
    smallest = [
        max(map(display_width, column)) if column[0] in whole else _longest_piece(column, in_names=True)
        for column in columns
    ]
    blocks: list[list[int]] = [[]]
    for k in range(len(columns)):
        if blocks[-1][1:] and _with_gaps([smallest[i] for i in [*blocks[-1], k]]) > width:
            blocks.append([0])
        blocks[-1].append(k)
    tables = []
    for block in blocks:
        chosen = [columns[k] for k in block]
        widths = _column_widths(chosen, [smallest[k] for k in block], width)
        tables.append(_aligned(chosen, [numeric[k] for k in block], widths))
    return "\n\n".join(tables)


def fold(text: str, width: int = TABLE_WIDTH) -> str:
    """Return a text whose long lines are broken at spaces. A longer word, such as a path, stays whole.

    Args:
        text: the text, with lines of any length.
        width: largest number of characters of a line that has spaces.
    """
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += [line] if display_width(line) <= width else _fold_line(line, width, indent)
    return "\n".join(lines)


def _fold_line(line: str, width: int, indent: str) -> list[str]:
    start = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _with_gaps(widths: Sequence[int]) -> int:
    """Return the width of a table with columns of these widths."""
    return sum(widths) + 2 * (len(widths) - 1)


def _column_widths(columns: Sequence[Sequence[str]], smallest: Sequence[int], width: int) -> list[int]:
    """Return the width of each column. The widest columns are narrowed first, at spaces if that is enough.

    The first column names the row, and stays as it is while it is short.
    """
    widths = [max(map(display_width, column)) for column in columns]
    words = [max(_longest_piece(column, in_names=False), low) for column, low in zip(columns, smallest, strict=True)]
    for limits in (words, smallest):
        while _with_gaps(widths) > width:
            wide = [k for k in range(len(widths)) if widths[k] > limits[k]]
            wide = [k for k in wide if k or widths[k] > LONGEST_PART] or wide
            if not wide:
                break
            widths[max(wide, key=lambda k: widths[k])] -= 1
    return widths


def _longest_piece(column: Sequence[str], in_names: bool) -> int:
    """Return the width of the longest part of a column that must stay on one line, with the indent of its cell."""
    return max((_indent(cell) + _longest(cell, in_names) for cell in column), default=0)


def _longest(cell: str, in_names: bool) -> int:
    words = _WORD.findall(cell)
    if not in_names:
        return max(map(display_width, words), default=0)
    parts = [part for word in words for part in _name_parts(word)]
    return max((min(display_width(part), LONGEST_PART) for part in parts), default=0)


def _name_parts(word: str) -> list[str]:
    """Divide a word where a name may be broken. A number is one part."""
    is_number = _NUMBER.match(word) and len(word) <= LONGEST_PART
    return [word] if is_number else [part for part in _NAME_PART.findall(word) if part]


def _indent(cell: str) -> int:
    return len(cell) - len(cell.lstrip(" "))


def _broken(cell: str, width: int) -> list[str]:
    """Return the lines of a cell in a column of this width."""
    if display_width(cell) <= width:
        return [cell]
    lines, start = [], " " * _indent(cell)
    line = start
    for word in _WORD.findall(cell):
        spaced = f"{line} {word}" if line.strip() else line + word
        if display_width(spaced) <= width:
            line = spaced
            continue
        gap = " " if line.strip() else ""  # before the first part of the word alone
        for part in [word] if display_width(start + word) <= width else _name_parts(word):
            if line.strip() and (part == word or display_width(line + gap + part) > width):
                lines.append(line)
                line, gap = start, ""
            line, gap = line + gap, ""
            while display_width(line + part) > width and len(part) > 1:  # a name with no place to break it
                room = max((k for k in range(1, len(part)) if display_width(line + part[:k]) <= width), default=1)
                lines.append(line + part[:room])
                line, part = start, part[room:]
            line += part
    return [*lines, line]


def _aligned(columns: Sequence[Sequence[str]], numeric: Sequence[bool], widths: Sequence[int]) -> str:
    """Return the lines of a table, with a rule below its header."""
    lines: list[str] = []
    for number, row in enumerate(zip(*columns, strict=True)):
        parts = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
        for k in range(max(map(len, parts))):
            lines.append(_line([part[k] if k < len(part) else "" for part in parts], widths, numeric))
        if number == 0:
            lines.append("  ".join("─" * width for width in widths))
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


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
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
