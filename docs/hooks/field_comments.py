"""Describe the fields of a dataclass, in its docstring, by the comments beside them.

The comment of a field stands at the end of its line, or in the lines directly above it. `--help` shows the same text.
"""

from pathlib import Path

import griffe


class FieldComments(griffe.Extension):
    """Add the comments of fields to the docstrings of dataclasses, as the section `Args`."""

    def on_class(self, *, cls: griffe.Class, **_: object) -> None:
        """Add the fields of a class that have comments."""
        is_dataclass = any(str(decorator.value).startswith("dataclass") for decorator in cls.decorators)
        if cls.docstring is None or not is_dataclass:
            return
        lines = Path(str(cls.filepath)).read_text(encoding="utf-8").splitlines()
        comments = {
            name: comment
            for name, field in cls.attributes.items()
            if field.lineno and field.docstring is None and not name.startswith("_")
            if "instance-attribute" in field.labels  # a ClassVar is no field
            if (comment := _comment(lines, field.lineno - 1, (field.endlineno or field.lineno) - 1))
        }
        if comments and not any(f"\n{section}:" in cls.docstring.value for section in ("Args", "Attributes")):
            rows = "\n".join(f"    {name}: {comment}" for name, comment in comments.items())
            cls.docstring.value += f"\n\nArgs:\n{rows}"


def _comment(lines: list[str], first: int, last: int) -> str:
    """Return the comment at the end of the last line of a field, or the comment lines directly above its first line."""
    _, found, beside = lines[last].partition("  # ")
    if found:
        return beside.strip()
    above: list[str] = []
    while first > 0 and lines[first - 1].strip().startswith("# "):
        first -= 1
        above.insert(0, lines[first].strip().removeprefix("# "))
    return " ".join(above)
