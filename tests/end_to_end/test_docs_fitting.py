"""Every command and code block of docs/fitting.md runs on the published table, and gives the numbers of the page."""

import re
import shlex

import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.cli.main import main
from tests.support.paths import ROOT
from tests.support.shared_data import shared_path

PAGE = (ROOT / "docs" / "fitting.md").read_text()
COMMANDS = [
    shlex.split(command, comments=True)[1:]
    for command in re.findall(r"^    (lossline-jax .*)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)
]


@pytest.fixture
def in_the_folder_of_the_table(tmp_path, monkeypatch):
    (tmp_path / "sweep.csv").symlink_to(shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv").resolve())
    monkeypatch.chdir(tmp_path)


def test_the_page_has_commands():
    assert {" ".join(words[:2]) for words in COMMANDS if words[0] == "table"} == {
        "table fit",
        "table backtest",
        "table predict",
    }
    assert ["laws"] in COMMANDS


@pytest.mark.usefixtures("in_the_folder_of_the_table")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_commands(words, capsys):
    main(words)
    out = capsys.readouterr().out
    assert "Not fitted" not in out
    for row in re.findall(r"^    ((?:size and tokens|data=).*\S)\s*$", PAGE, flags=re.MULTILINE):
        if words[1:2] in (["backtest"], ["predict"]) and "--x" not in words and row.split()[0] in out:
            figures = re.findall(r"\d+\.\d+%?", row)
            if words[1] == ("backtest" if "%" in row else "predict"):
                assert all(figure in out for figure in figures), row


@pytest.mark.usefixtures("in_the_folder_of_the_table")
def test_code():
    first, laws, second = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(first, names)
    assert names["translated"].predict(N=3.31e9, D=50.35e9) == pytest.approx(1.01, abs=0.01)
    exec(laws, names)
    shared, other = (item.fit for item in names["laws"].fits)
    assert shared.parameters["alpha"] == other.parameters["alpha"]
    assert shared.parameters["E"] != other.parameters["E"]
    assert shared.intervals["beta"] == other.intervals["beta"]
    x = np.linspace(2, 6, 30)
    names |= {"jnp": jnp, "x": x, "y": 0.8 - 2 * np.exp(-x / 1.3)}
    exec(second.replace("fit.fit_law(", "found = fit.fit_law("), names)
    assert names["found"].parameters == pytest.approx({"top": 0.8, "k": 2.0, "tau": 1.3}, rel=1e-4)
