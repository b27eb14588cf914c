"""Tables for the terminal."""

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns under a rule: numbers to the right, words to the left, None as an empty cell."""
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(header), *cells]) for k in range(len(header))]
    numeric = [all(_is_number(row[k]) for row in cells if row[k]) and bool(cells) for k in range(len(header))]
    lines = [_line(header, widths, numeric), "  ".join("─" * width for width in widths)]
    lines += [_line(row, widths, numeric) for row in cells]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: list[int], numeric: list[bool]) -> str:
    parts = (
        value.rjust(width) if right else value.ljust(width)
        for value, width, right in zip(row, widths, numeric, strict=True)
    )
    return "  ".join(parts).rstrip()


def _is_number(text: str) -> bool:
    return text == "-" or (text.lstrip("+-−.")[:1].isdigit() and " " not in text)
