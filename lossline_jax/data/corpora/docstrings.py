"""Removal of prose from Python sources: docstrings and licence headers."""

import ast
import re


def strip_docstrings(source: str) -> str:
    r"""Return `source` without docstrings and otherwise unchanged.

    A docstring that is a whole body, or that shares its lines with other code, becomes `pass`.

    Args:
        source: a module whose only line ends are `\n`, as `tokenize.open` reads a file.

    Raises:
        SyntaxError: `source` is not Python.
        ValueError: `source` is not Python.
    """
    lines = [line.encode("utf-8") for line in source.split("\n")]  # a form feed does not end a line for the parser
    for body, node in sorted(_docstrings(ast.parse(source)), key=lambda pair: -pair[1].lineno):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        if len(body) == 1 or before.strip() or after.strip():
            lines[first : last + 1] = [before + b"pass" + after]
        else:
            del lines[first : last + 1]
    return b"\n".join(lines).decode("utf-8")


def strip_licence_header(source: str) -> str:
    """Return `source` without the comment lines at its start, if these lines mention copyright or a licence.

    Args:
        source: a Python module.
    """
    comments = re.match(r"(?:[ \t]*(?:#[^\n]*)?\n)*", source)
    header = comments.group() if comments else ""
    return source[len(header) :] if re.search(r"copyright|licen[cs]e", header, re.IGNORECASE) else source


def _docstrings(tree: ast.Module) -> list[tuple[list[ast.stmt], ast.Expr]]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.body, docstring)
        for node in ast.walk(tree)
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None
        if isinstance(docstring := node.body[0], ast.Expr)
    ]
