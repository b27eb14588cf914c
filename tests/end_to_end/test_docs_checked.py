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
STANDS_FOR_SOMETHING = r"\b[A-Z]+\b|'[^']*'|[+-]?\b\d[\d.e+-]*|\.\d+|[();]|\bb'<html>'|: "


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
    """Return whether the source has the piece as one string, as two around a value, or as two around a third one."""
    gaps = [(gap.start(), gap.end()) for gap in re.finditer(" ", piece)]
    texts = source_texts()
    starts = [(end, after) for end, after in gaps if piece[:end].strip(" ,") in texts]
    ends = [(before, start) for before, start in gaps if piece[start:] in texts]
    return piece in texts or any(
        (end, start) == (before, after) or (start > after and f"\n{piece[after:before]}\n" in texts)
        for end, after in starts
        for before, start in ends
    )
