"""Everything that pages and docstrings ask a reader to type exists: verbs, flags, scripts, targets, files.

A `lossline-jax` command on a line of its own is parsed as `lossline-jax` parses it, and nothing is computed. A command
within a sentence may be incomplete, so only its verb, flags and files are looked up.
"""

import ast
import contextlib
import importlib
import io
import re
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import tyro

from lossline_jax.cli import main, parsing, verbs
from lossline_jax.errors import LosslineError
from tests.support.documented import PAGES, ROOT, code_of, documented_commands, documented_paths

COMMANDS = documented_commands()
LOSSLINE_COMMANDS = [
    command for command in COMMANDS if command.words[0] == "lossline-jax" and "VERB" not in command.words
]
# It takes the place of STUDY.py, and of a folder that a command would make.
STUDY = str(ROOT / "experiments/quickstart.py")
NUMBERS = {"I": "0", "N": "2", "K": "1"}
FLAGS_OF_OTHERS = {"--no-deps", "--logdir", "--env", "--num-jobs", "--build-arg"}
NEVER = {"--runs.3.optim.learning-rate"}  # BUILD_NOTES.md names it as a flag that does not exist
FILES_OF_OTHERS = {"STUDY.py", "process_data.py"}  # a file of the reader; a file of brendel-group/llm-line


class Parsed(Exception):
    """The command line was parsed. The exception stops it before any work."""


@pytest.fixture(autouse=True)
def parse_only(monkeypatch):
    monkeypatch.setattr(parsing, "tyro", SimpleNamespace(cli=_understand, conf=tyro.conf))
    monkeypatch.setattr(parsing.validate, "validate_study", lambda study, _: study)  # test_experiments.py checks them


def _understand(*arguments, **named):
    tyro.cli(*arguments, **named)
    raise Parsed


def complaint(words: list[str]) -> str:
    """Return the error message of the command line for these words, or an empty text."""
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
        try:
            main.dispatch(words)
        except Parsed:
            return ""
        except SystemExit as stop:
            return output.getvalue() if stop.code else ""
        except LosslineError as error:
            return str(error)
    return ""


def verb_of(words: tuple[str, ...]) -> str:
    """Return the name of the verb. A verb on a table has two words."""
    return " ".join(words[1:3]) if words[1] == "table" else words[1]


def experiment_of(word: str) -> Path | None:
    """Return the experiment that a word names. `my_study.py` is what `lossline-jax new` copies from own_data.py."""
    if re.fullmatch(r"my_\w+\.py", word):
        return ROOT / "experiments" / "own_data.py"
    names = (word, f"experiments/{word}.py") if word.startswith("experiments/") else (f"experiments/{word}.py",)
    return next((ROOT / name for name in names if (ROOT / name).is_file()), None)


def typed(words: tuple[str, ...]) -> list[str]:
    """Return the words after `lossline-jax`, with an experiment in the place of studies that do not exist."""
    name = verb_of(words).split()
    arguments = [NUMBERS.get(word, word) for word in words[1 + len(name) :]]
    if verbs.VERBS[" ".join(name)].source == "STUDY" and arguments and not arguments[0].startswith("-"):
        arguments[0] = str(experiment_of(arguments[0]) or STUDY)
        if "--experiment" in arguments:  # it goes with a folder, and the file is in the folder's place
            place = arguments.index("--experiment")
            assert (ROOT / arguments[place + 1]).is_file()
            del arguments[place : place + 2]
    return [*name, *arguments]


def flags_in(words) -> set[str]:
    """Return the flags as they are typed, without values and the brackets of a usage line."""
    return {word.strip("[]();,.:").split("=")[0] for word in words if re.match(r"\W?--[a-z]", word)}


@cache
def flags_of_parser(*arguments) -> frozenset[str]:
    """Return every flag in the help of a parser of tyro."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        patch.setenv("COLUMNS", "300")
        if arguments[0] is main:
            patch.setattr(parsing, "tyro", tyro)
            main.dispatch([*arguments[1:], "--help"])
        else:
            tyro.cli(arguments[0], args=["--help"])
    lines = re.findall(r"^[│|\s]*((?:-\w, )?--[a-z].*)$", output.getvalue(), flags=re.MULTILINE)
    return frozenset(flag for line in lines for flag in re.findall(r"--[a-z][\w.-]*", line))


@cache
def flags_of_verb(verb: str) -> frozenset[str]:
    """Return a verb's flags on a study or a table, and with a manifest."""
    calls = [[STUDY] if verbs.VERBS[verb].source == "STUDY" else []]
    calls += [["--manifest", "m.jsonl"]] if verbs.VERBS[verb].without_study else []
    return frozenset().union(*(flags_of_parser(main, *verb.split(), *words) for words in calls))


@cache
def knobs(path: Path) -> frozenset[str]:
    """Return the flags that an experiment adds, which are the arguments of its `study`."""
    nodes = ast.walk(ast.parse(path.read_text()))
    (study,) = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "study")
    return frozenset("--" + argument.arg.replace("_", "-") for argument in study.args.args)


@cache
def flags_of_script(path: Path) -> frozenset[str]:
    """Return every flag that a script declares. The script is read and not run."""
    if path.parent.name == "launch":
        sys.path[:0] = [] if str(path.parent) in sys.path else [str(path.parent)]
        return flags_of_parser(importlib.import_module(path.stem).Options)
    return frozenset(word for word in constants(path) if word.startswith("--")) | {"--help"}


def constants(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_commands_of_every_kind_are_found():
    assert {command.words[0] for command in COMMANDS} == {"lossline-jax", "python", "make", "pytest", "bash"}
    assert len(COMMANDS) > 120
    assert {verb_of(command.words) for command in LOSSLINE_COMMANDS} >= verbs.VERBS.keys() - {"show"}


@pytest.mark.parametrize("command", LOSSLINE_COMMANDS, ids=str)
def test_a_command_of_lossline_is_understood(command):
    verb = verb_of(command.words)
    if verb == "--help":
        return
    assert verb in verbs.VERBS
    if command.whole and not {"...", "|"} & set(command.words):
        assert complaint(typed(command.words)) == ""
    sources = filter(None, map(experiment_of, command.words[1:]))
    assert flags_in(command.words) - {"--help"} <= flags_of_verb(verb).union(*map(knobs, sources))


def script_of(words: tuple[str, ...]) -> Path:
    """Return the file that `python FILE` or `python -m MODULE` runs."""
    return ROOT / (f"{words[2].replace('.', '/')}.py" if words[1] == "-m" else words[1])


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.words[0] == "python"], ids=str)
def test_a_script_is_there_and_takes_its_flags(command):
    path = script_of(command.words)
    assert flags_in(command.words) <= flags_of_script(path)
    if path.parent.name == "benchmarks":  # the mode: `length | memory`, or one of them
        modes = {word for word in command.words[2:4] if re.fullmatch("[a-z]+", word)}
        assert modes <= constants(path) | {"lines", "laws", "forecasts"} or flags_in(command.words[2:3])


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] in ("make", "pytest", "bash")], ids=str)
def test_targets_and_files_are_there(command):
    if command.words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert command.words[1] in targets
    for word in command.words[1:]:
        if "/" in word:
            assert list(ROOT.glob(word.split("::")[0])), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_named_alone_are_flags_of_something(page):
    flags = frozenset().union(*map(flags_of_verb, verbs.VERBS))
    scripts = [
        path for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/**/*.py")) if "argparse" in path.read_text()
    ]
    launchers = [ROOT / "launch" / f"{name}.py" for name in ("local", "skypilot", "slurm", "tpu_vm", "xpk")]
    known = flags.union(FLAGS_OF_OTHERS, *map(flags_of_script, [*scripts, *launchers]))
    known = known.union(*map(knobs, ROOT.glob("experiments/[!_]*.py")))
    named = flags_in(word for code, _ in code_of(page.read_text()) for word in code.split())
    assert {flag for flag in named - NEVER if not flag.endswith(".*")} <= known


@pytest.mark.parametrize(("page", "name"), documented_paths(), ids=lambda part: str(part).removeprefix(f"{ROOT}/"))
def test_a_file_that_a_page_names_is_there(page, name):
    if name not in FILES_OF_OTHERS and not name.startswith("my_"):
        folders = (page.parent, *(ROOT / folder for folder in ("", "lossline_jax", "launch", "tests/robustness")))
        assert any((folder / name).exists() for folder in folders) or list(ROOT.glob(f"lossline_jax/**/{name}"))
