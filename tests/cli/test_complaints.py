"""A mistake in a flag gets one line with the flag and the fix, for verbs, experiments and tables."""

import re

import pytest

from lossline_jax.cli import complaints
from tests.cli.test_main import TINY, run_cli

TABLE = ("t.csv", "--x", "a", "--y", "b")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plan", TINY, "--tokens", "abc"], "--tokens: 'abc' is not a whole number; give one, such as 10240"),
        (["plan", TINY, "--tokens=1e3"], "--tokens: '1e3' is not a whole number; give one, such as 10240"),
        (["plan", TINY, "--other-rate", "fast"], "--other-rate: 'fast' is not a number; give one, such as 0.003"),
        (["plan", TINY, "--tokns", "3"], "--tokns: no such flag, did you mean --tokens?; `lossline-jax plan"),
        (["plan", TINY, "--zzzz", "3"], f"--zzzz: no such flag; `lossline-jax plan {TINY} --help` lists the flags"),
        (["plan", TINY, "--tokens"], "--tokens: has no value; write one after it, or leave the flag out"),
        (["plan", TINY, "--tokens", "3", "4"], "--tokens: '4' is more than this flag takes; leave it out"),
        (["plan", TINY, "--manifest", "m.jsonl"], "--manifest: 'm.jsonl' is more than this flag takes; leave it out"),
        (["plan", TINY, "more"], "'more': neither a flag nor the value of one; `lossline-jax plan"),
        (["plan", TINY, "-x"], "-x: no such flag; `lossline-jax plan"),
        (["train", TINY, "--execution.remat", "ful"], "--execution.remat: 'ful' is not one of"),
        (["train", TINY, "--execution.fsdp", "maybe"], "--execution.fsdp: 'maybe' is not one of"),
        (["run", TINY, "--processes.count", "two"], "--processes.count: 'two' is not a whole number; give one"),
        (["run", "--manifest"], "--manifest: has no value; write one after it, or leave the flag out"),
        (["run", "--manifest", "m.jsonl", "--index", "a"], "--index: 'a' is not a whole number; give one"),
        (["table", "fit", "t.csv", "--x", "a"], "--y: missing; `lossline-jax table fit t.csv --help` says what to"),
        (["table", "compare", "t.csv"], "--x, --y: missing; `lossline-jax table compare t.csv --help` says what to"),
        (["table", "fit", *TABLE, "--form", "kaplun"], "--form: 'kaplun' is not one of kaplan, chinchilla; did you"),
        (["table", "compare", *TABLE, "--margin", "wide"], "--margin: 'wide' is not a number; give one, such as 3.0"),
        (["table", "predict", "t.csv", "--y", "b", "--at-params", "1e6", "x"], "--at-params: 'x' is not a number"),
        (["import-losses", "t.csv", "--outt", "f.csv"], "--outt: no such flag, did you mean --out?; `lossline-jax"),
        (["laws", "--lst"], "--lst: no such flag; `lossline-jax laws --help` lists the flags"),
        (["status", TINY, "--execution.remat", "full"], "--execution.remat: means nothing to `status`, which"),
        (["show", TINY, "--profile", "3"], "--profile: no such flag; `lossline-jax show"),
    ],
)
def test_a_wrong_flag_gets_one_line(capsys, argv, message):
    code, out, err = run_cli(capsys, *argv)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"lossline: {message}")


def test_the_parser_breaks_no_line_of_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    _, _, err = run_cli(capsys, "table", "fit", *TABLE, "--objective-of-the-law", "least")
    assert err.startswith("lossline: --objective-of-the-law: no such flag")
    assert err.count("\n") == 1


def test_a_box_of_an_unknown_form_is_given_in_full():
    lines = (
        "╭─ News ─────╮",
        "│ Two things │",
        "│ ────────── │",
        "│     went   │",
        "│ For full helptext, x │",
        "╰───╯",
    )
    box = "\n".join(lines)
    assert complaints.one_line(box, [], "x") == "Two things; went"


def test_what_an_experiment_prints_is_shown(capsys, tmp_path):
    path = tmp_path / "loud.py"
    path.write_text(f"import sys\nexec(open({TINY!r}).read())\nquiet = study\n" + LOUD)
    code, _, err = run_cli(capsys, "plan", str(path), "--root", str(tmp_path))
    assert code == 0
    assert err == "a word from the author\n" * 2  # for the defaults, and for the flags
    code, _, err = run_cli(capsys, "plan", str(path), "--tokens", "-1")
    assert code == 2
    assert "tokens: -1" in err.splitlines()[-1]


LOUD = """
def study(tokens: int = 10240) -> StudyConfig:
    print("a word from the author", file=sys.stderr)
    return quiet(tokens)
"""


@pytest.mark.parametrize("verb", ["fit", "compare", "report", "status", "show", "export-weights"])
def test_verbs_that_use_no_device_have_no_flags_for_it(capsys, verb):
    _, out, _ = run_cli(capsys, verb, TINY, "--help")
    assert "--max-bytes" in out
    assert "--execution" not in out


@pytest.mark.parametrize("verb", ["run", "prepare", "status"])
def test_help_without_a_study_shows_the_flags_and_where_the_others_are(capsys, verb):
    code, out, _ = run_cli(capsys, verb, "--help")
    assert code == 0
    assert re.search(rf"usage: lossline-jax {verb} STUDY", out)
    assert "--root" in out
    assert f"`lossline-jax {verb} quickstart --help`" in " ".join(out.split())
