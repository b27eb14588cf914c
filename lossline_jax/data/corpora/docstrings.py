"""Python sources without the prose that stands in them: docstrings and licence headers."""

import ast
import re


def strip_docstrings(source: str) -> str:
    """Remove every docstring and leave the rest of the text as it is.

    A docstring that is all of a body, or shares its lines with other code, becomes `pass`.

    Args:
        source: with newlines as `\\n` alone, which is how `tokenize.open` reads a file.

    Raises:
        SyntaxError, ValueError: `source` is not Python.
    """
    lines = [line.encode("utf-8") for line in source.split("\n")]  # form feeds end no line for the parser
    for body, node in sorted(_docstrings(ast.parse(source)), key=lambda pair: -pair[1].lineno):
        first, last = node.lineno - 1, node.end_lineno - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        if len(body) == 1 or before.strip() or after.strip():
            lines[first : last + 1] = [before + b"pass" + after]
        else:
            del lines[first : last + 1]
    return b"\n".join(lines).decode("utf-8")


def strip_licence_header(source: str) -> str:
    """Remove the comment lines at the head of a module where they speak of copyright or licence."""
    header = re.match(r"(?:[ \t]*(?:#[^\n]*)?\n)*", source).group()
    return source[len(header) :] if re.search(r"copyright|licen[cs]e", header, re.IGNORECASE) else source


def _docstrings(tree: ast.Module) -> list[tuple[list[ast.stmt], ast.Expr]]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.body, node.body[0])
        for node in ast.walk(tree)
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None
    ]
