"""Refuse docstrings that begin with a preposition or a question word.

    python .ci/check_docstrings.py [FOLDER_OR_FILE ...]

A docstring begins with a sentence that has its own subject, or with an imperative verb. Ruff has no such rule. The text
below a field counts too, because the command shows it as the help of a flag.
The command prints one line for each refused docstring and exits with 1. Without paths it reads the whole project.
"""

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

FORBIDDEN = frozenset({"Of", "As", "By", "In", "What", "Which", "Whether", "Where", "How"})
PROJECT = ("lossline_jax", "tests", "benchmarks", "launch", "experiments", "examples", "docs", ".ci", "setup.py")
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def refused(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the first line of each docstring that begins with a forbidden word."""
    for node in ast.walk(ast.parse(source)):
        for statement in texts(node):
            docstring = inspect.cleandoc(statement.value.value)
            if docstring and docstring.split()[0].rstrip(",.:;'’") in FORBIDDEN:
                yield statement.lineno, docstring.splitlines()[0]


def texts(node: ast.AST) -> Iterator[ast.Expr]:
    """Yield the docstring of a module, a class or a function, and the texts below its fields."""
    if not isinstance(node, WITH_DOCSTRING):
        return
    for before, statement in itertools.pairwise([None, *node.body]):
        documents = before is None or isinstance(before, (ast.AnnAssign, ast.Assign))
        match statement:
            case ast.Expr(ast.Constant(str())) if documents:
                yield statement


def main(paths: list[str]) -> int:
    """Check every Python file below the paths, and return the exit code."""
    files = [file for path in map(Path, paths) for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    lines = [f"{file}:{line}: {text}" for file in files for line, text in refused(file.read_text(encoding="utf-8"))]
    print("\n".join([*lines, f"docstrings that begin with {', '.join(sorted(FORBIDDEN))}: {len(lines)}"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PROJECT)))
