"""Every line that docs/checked.md quotes is one that the package can print."""

import ast
import functools
import re

import pytest

from lossline_jax.cli import main
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/checked.md").read_text()
QUOTED = [
    quoted
    for row in re.findall(r"^\| [^|]+\| (.*) \|$", PAGE, flags=re.MULTILINE)
    for quoted in re.findall(r"`([^`]+)`", row)
    if " " in quoted and not quoted.startswith("|")
]
STANDS_FOR_SOMETHING = r"\b[A-Z]+\b|'[^']*'|\b\d+\b|\.\d+|[();]|\bb'<html>'|: "


@functools.cache
def source_texts() -> str:
    """Return all strings of the package's source, one a line."""
    nodes = (node for path in ROOT.glob("lossline_jax/**/*.py") for node in ast.walk(ast.parse(path.read_text())))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    flags = (re.sub(r"{(\w+)}", lambda name: main.flag_of(name[1]), text) for text in texts)
    return "\n".join(" ".join(text.split()) for text in flags)


def test_the_page_has_quotations():
    assert len(QUOTED) > 35


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_line_is_one_of_the_package(quoted):
    pieces = [piece.strip(" ,.") for piece in re.split(STANDS_FOR_SOMETHING, quoted)]
    assert [piece for piece in pieces if len(piece.split()) >= 3 and not occurs_in_source(piece)] == []


def occurs_in_source(piece: str) -> bool:
    """Return whether the source has the piece as one string, or as two strings around a value."""
    cuts = [(piece[: gap.start()].strip(" ,"), piece[gap.end() :]) for gap in re.finditer(" ", piece)]
    texts = source_texts()
    return piece in texts or any(first in texts and second in texts for first, second in cuts)
