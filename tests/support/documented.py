"""Find the commands and files that pages and docstrings of scripts ask a reader to type and to open."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "experiments/*.md", "results/**/*.md", "benchmarks/*.md", "launch/*.md")
    for path in ROOT.glob(pattern)
)
SCRIPTS = sorted(path for folder in ("benchmarks", "experiments", "launch") for path in ROOT.glob(f"{folder}/[!_]*.py"))
WITH_DOCSTRINGS = (
    *SCRIPTS,
    ROOT / "lossline_jax/cli/main.py",
    *ROOT.glob("tests/*.py"),
    *ROOT.glob("tests/robustness/*.py"),
)
PROGRAMS = ("lossline-jax", "python", "make", "pytest", "bash")
# text that may precede a command and is no part of it
BEFORE = r"(?:[A-Z_]+=\S* +|(?:/usr/bin/)?time (?:-v )?|\$ )*(?:\.venv/bin/)?"

# It stands on a line of its own, above the commands that no test can run. grep finds all of them.
CLUSTER_MARK = "*Needs a cluster:*"

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command that a reader types, with the page or script that names it."""

    where: str
    words: tuple[str, ...]
    whole: bool  # True: a line of code, to be typed as it is. False: within a sentence, where it may be incomplete
    needs_cluster: bool = False  # the mark stands above its block

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def documented_commands() -> list[Command]:
    """Return every command once, with the first place that names it."""
    commands = {}
    for where, text in _texts():
        marked = _marked_lines(text)
        for code, whole in code_of(text):
            for words in _commands(code):
                command = Command(where, words, whole, whole and code in marked)
                commands.setdefault((words, whole, command.needs_cluster), command)
    return list(commands.values())


def documented_paths() -> list[tuple[Path, str]]:
    """Return every file that a page names in code or links to, with the page."""
    paths = []
    for page in PAGES:
        text = page.read_text()
        spans = {span for code, _ in code_of(text) for span in code.split()}
        named = {span.strip("(),;") for span in spans if re.fullmatch(r"[\w./-]*\w\.(?:py|md|toml|yaml)[(),;]*", span)}
        linked = set(re.findall(r"\]\(([^)#:]+)\)", text))
        paths += [(page, name) for name in sorted(named | linked)]
    return paths


def _texts() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        yield str(page.relative_to(ROOT)), page.read_text()
    for path in WITH_DOCSTRINGS:
        yield str(path.relative_to(ROOT)), _docstring_as_page(path)


def _docstring_as_page(path: Path) -> str:
    """Return a docstring as a page: lines that begin with a command are indented as code.

    A remark in parentheses at the end of such a line is left out.
    """
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    doc = re.sub(r"^ *(?:Command +)?(?=(?:lossline-jax|make|python \S+\.py) )", "    ", doc, flags=re.MULTILINE)
    return re.sub(r"^(    .*?) \(.*\)$", r"\1", doc, flags=re.MULTILINE)


def code_of(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of code of a page, and whether each is a line of its own."""
    text = re.sub(r"\\\n\s*", "", text)
    for language, block in re.findall(FENCED, text):
        yield from ((line, True) for line in block.splitlines() if language in ("", "sh", "bash"))
    prose = re.sub(FENCED, "", text)
    yield from ((line.strip(), True) for line in re.findall(r"^ {4}.*$", prose, flags=re.MULTILINE))
    prose = re.sub(r"^ {4}.*$", "", prose, flags=re.MULTILINE)
    yield from ((" ".join(span.split()), False) for span in re.findall(r"`([^`]+)`", prose))


def _marked_lines(text: str) -> set[str]:
    """Return the lines of code of the blocks that stand below the mark."""
    blocks = text.split(f"\n{CLUSTER_MARK}\n\n")[1:]
    below = (re.match(r"(?s:```.*?\n```$)|(?: {4}.*\n|\n)+", block, flags=re.MULTILINE) for block in blocks)
    return {line for block in below if block for line, _ in code_of(block[0])}


def _commands(code: str) -> Iterator[tuple[str, ...]]:
    for piece in re.split(r" && | ; ", code):
        if begin := re.match(rf"{BEFORE}({'|'.join(PROGRAMS)}) ", piece):
            yield tuple(shlex.split(piece[begin.start(1) :], comments=True))
