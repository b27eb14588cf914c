"""Write the reference pages of the site: the command line from its parser, and Python from the public names.

The pages exist on the site alone, so they cannot disagree with the code.
"""

import ast
import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from lossline_jax.cli import main, verbs
from lossline_jax.cli.parsing import COMMAND, parse_options

ROOT = Path(__file__).parents[2]
EXPERIMENT = str(ROOT / "experiments/quickstart.py")
OWN_FLAGS = "options"  # title that the parser gives to the flags of a verb itself
GROUPS = {  # in the order of the page
    "A new experiment": verbs.NEW_VERBS,
    "The road of a study": verbs.STUDY_VERBS,
    "Weights in and out": verbs.WEIGHT_VERBS,
    "Any table of losses": verbs.TABLE_VERBS,
    "Laws and published tables": verbs.OTHER_VERBS,
    "Schedulers": verbs.ENGINE_VERBS,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site."""
    pages = {
        "command_line": command_line(),
        "python": python("lossline_jax", "ll", "Python: `lossline_jax`"),
        "fit": python("lossline_jax.fit", "ll.fit", "Python: `lossline_jax.fit`"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def command_line() -> str:
    """Return the page of the command line: for each verb its help, and a table of its flags."""
    if missing := verbs.VERBS.keys() - {name for group in GROUPS.values() for name in group}:
        raise ValueError(f"docs/hooks/reference.py: GROUPS has no place for {sorted(missing)}")
    shared: dict[str, list[tuple[str, str]]] = {}
    lines = [
        "# Command line",
        f"Each command is `{COMMAND} VERB ...`. `{COMMAND} VERB ... --help` prints the same flags in a terminal.",
    ]
    for title, group in GROUPS.items():
        lines.append(f"## {title}")
        for name, verb in group.items():
            lines += _verb(f"{COMMAND} {name}", verb, shared)
            if verb.without_study is not None:
                lines += _verb(f"{COMMAND} {name} --manifest", verb.without_study, shared)
    shared |= _boxes(lambda: main.dispatch(["run", EXPERIMENT, "--help"]))
    lines += [
        "## Flags that several verbs have",
        "A verb that takes an experiment file also takes the knobs of the experiment, which are the arguments of its "
        "function, and the flags `--execution.*`. They set how a run is executed, and never which run it is.",
    ]
    for title, flags in shared.items():
        if title != OWN_FLAGS:
            lines += [f"### {title.removesuffix(' options')}", _table(flags)]
    return "\n\n".join(lines) + "\n"


def _verb(command: str, verb: verbs.Verb, shared: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    """Yield the paragraphs of a verb. Flags under another title are added to `shared`."""
    words = "" if verb.source is None else f" {verb.source}"
    boxes = _boxes(lambda: parse_options(verb.options, ["--help"], f"{command}{words}"))
    boxes.pop("positional arguments", None)  # the sentence of the verb names it
    own = boxes.pop(OWN_FLAGS, [])
    shared |= boxes
    yield f"### {command.removeprefix(COMMAND + ' ')}"
    yield f"```text\n{command}{words} [flags]\n```"
    yield f"{_escaped(verb.help[0].upper() + verb.help[1:])}."
    if rest := inspect.cleandoc(verb.options.__doc__ or "").partition("\n\n")[2]:
        yield _escaped(rest)
    if len(own) > 1:
        yield _table(own[1:])  # the first is --help
    if boxes:
        names = (title.removesuffix(" options") for title in boxes)
        yield "Also: " + ", ".join(f"[`--{name}.*`](#{name})" for name in names) + "."


def _table(flags: list[tuple[str, str]]) -> str:
    rows = (f"| {flag} | {text} |" for flag, text in flags)
    return "\n".join(["| flag | meaning |", "|---|---|", *rows])


def _boxes(show_help: Callable[[], object]) -> dict[str, list[tuple[str, str]]]:
    """Return the flags of a help text with their meanings, as Markdown, under the title of their box.

    The lines of a box stand between `│`. A flag begins at the left, and its meaning is indented or on the same line.
    """
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # a stream that cannot show a frame gets another form
    with (
        mock.patch.dict("os.environ", {"COLUMNS": "110", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        show_help()
    output.seek(0)
    boxes: dict[str, list[tuple[str, str]]] = {}
    flags: list[tuple[str, str]] = []
    for line in output.read().splitlines():
        if title := re.match(r"╭─ (.+?) ─", line):
            flags = boxes.setdefault(title[1], [])
        elif flag := re.match(r"│ (-\S.*?)(?:  +(.*?))?\s*│$", line):
            flags.append((f"`{flag[1]}`", _escaped(flag[2] or "")))
        elif flags and (more := re.match(r"│ {2,}(.*?)\s*│$", line)):
            flags[-1] = (flags[-1][0], f"{flags[-1][1]} {_escaped(more[1])}".strip())
    return boxes


def _escaped(text: str) -> str:
    """Return text for a cell of a table, where stars and bars have no meaning outside code."""
    code_and_text = re.split(r"(`[^`]*`)", text)
    escaped = (piece if piece.startswith("`") else re.sub(r"([|*<_\[])", r"\\\1", piece) for piece in code_and_text)
    return re.sub(r"\bdocs/(\w+)\.md", r"[docs/\1.md](../\1.md)", "".join(escaped))


def python(module: str, alias: str, title: str) -> str:
    """Return the page of a module's public names, in the order of its imports, grouped by where they are defined."""
    path = ROOT / module.replace(".", "/") / "__init__.py"
    imports = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_public(node)]
    imports.sort(key=lambda node: node.lineno)
    lines = [f"# {title}", f"```python\n{_import(module, alias)}\n```"]
    for node in imports:
        home = ROOT / (node.module.replace(".", "/") + ".py")
        home = home if home.is_file() else home.with_suffix("") / "__init__.py"
        summary = ast.get_docstring(ast.parse(home.read_text(encoding="utf-8"))).split("\n\n")[0]
        lines += [f"## {node.module.removeprefix('lossline_jax.')}", " ".join(summary.split())]
        lines += [f"::: {module}.{name.name}" for name in node.names]
    return "\n\n".join(lines) + "\n"


def _is_public(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossline_jax.")


def _import(module: str, alias: str) -> str:
    return "import lossline_jax as ll" if alias == "ll" else "import lossline_jax as ll  # ll.fit is this module"
