"""No verb prints a line that is wider than the terminal it is planned for."""

import shutil

import pytest

from lossline_jax.formatting import TABLE_WIDTH, display_width
from tests.cli.test_main import run_cli
from tests.support.paths import ROOT, TESTS

TABLE = str(ROOT / "examples" / "losses.csv")
QUICKSTART = str(ROOT / "experiments" / "quickstart.py")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return str(shutil.copytree(TESTS / "golden" / "old_study", tmp_path_factory.mktemp("s") / "t"))


def commands(study: str) -> list[list[str]]:
    x, y = "wiki", "techdoc_cloze"
    counts = ("--params", "params", "--tokens", "tokens")
    return [
        *(["plan", study], ["plan", QUICKSTART, "--chip", "v5e"], ["status", study], ["runs", study]),
        *(["show", study], ["compare", study], ["fit", study], ["laws"], ["laws", "chinchilla"]),
        ["table", "compare", TABLE, "--x", x, "--y", y],
        ["table", "fit", TABLE, "--x", x, "--y", y, "--by", "data"],
        ["table", "fit", TABLE, "--law", "chinchilla", "--y", y, "--input", "N=params", "D=tokens"],
        [
            "table",
            "predict",
            TABLE,
            "--y",
            y,
            "--params",
            "params",
            "--tokens",
            "tokens",
            "--at-params",
            "1e7",
            "--at-tokens",
            "1e8",
        ],
        ["table", "backtest", TABLE, "--y", y, *counts],
    ]


@pytest.mark.parametrize("index", range(14))
def test_the_widest_line_fits(study, capsys, index):
    words = commands(study)[index]
    code, out, err = run_cli(capsys, *words)
    assert code == 0, err
    assert out.count("\n") > 3
    wide = [line for line in out.splitlines() if display_width(line) > TABLE_WIDTH and study not in line]
    assert not wide, "\n".join(wide)
