"""`lossline compare` and `lossline report` on any table of losses, from the command line."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_lines import BASE, cell
from shared_data import shared_path

from lossline_jax import cli
from lossline_jax.fit.study_fits import StudyFits

AXES = ("--x", "val", "--y", "task")


def table(settings, num_runs=4) -> pd.DataFrame:
    """A wide table: rows of a planted gap for each setting (levels, gap)."""
    generator = np.random.Generator(np.random.PCG64(0))
    blocks = []
    for levels, gap in settings:
        made = cell(generator, levels, num_runs, gap)
        blocks.append(pd.DataFrame({**levels, "name": made.runs, "val": made.x, "task": made.y}))
    return pd.concat(blocks, ignore_index=True)


SETTINGS = [(BASE, 0.0), (BASE | {"data": "code"}, 0.3), (BASE | {"size": "d32"}, 0.0)]


@pytest.fixture
def losses(tmp_path):
    def write(frame: pd.DataFrame) -> str:
        frame.to_csv(tmp_path / "losses.csv", index=False)
        return str(tmp_path / "losses.csv")

    return write


def test_compare_answers_for_every_factor(losses, capsys, tmp_path):
    out = tmp_path / "fits.json"
    cli.main(["compare", "--losses", losses(table(SETTINGS)), *AXES, "--run", "name", "--out", str(out)])
    text = capsys.readouterr().out
    verdicts = {line.split()[0]: line for line in text.splitlines() if line.startswith(("data ", "size "))}
    assert verdicts["data"].endswith("  moves")
    assert verdicts["size"].endswith("does not move")
    fits = StudyFits.from_json(json.loads(out.read_text()))
    assert [c.factor for c in fits.comparisons] == ["data", "size"]
    assert fits.comparisons[0].levels[0].gap == pytest.approx(0.3, abs=0.03)


def test_report_of_a_table_without_a_study(losses, capsys, tmp_path):
    out = tmp_path / "page"
    cli.main(["report", "--losses", losses(table(SETTINGS)), *AXES, "--run", "name", "--out", str(out)])
    page = (out / "report.html").read_text()
    assert "Data moves the line: code by +0." in page
    assert (out / "figures" / "line.png").exists()


def test_the_published_points_give_the_published_gaps(capsys):
    path = shared_path("reference/loss_to_loss/llms_on_the_line_fig1_points.csv")
    axes = ("--x", "fineweb_edu_val_loss", "--y", "hellaswag_test_loss")
    cli.main(["compare", "--losses", str(path), *axes, "--factors", "series", "--base", "series=base"])
    text = capsys.readouterr().out
    assert "pretraining_data  -0.39" in text
    assert "does not tell runs apart" in text


def test_confounded_factors_are_named(losses, capsys):
    both = BASE | {"data": "code", "optimiser": "adam"}
    cli.main(["compare", "--losses", losses(table([(BASE, 0.0), (both, 0.3)])), *AXES, "--run", "name"])
    text = capsys.readouterr().out
    assert "data=code: confounded with optimiser: no two settings differ in data alone (wiki and code)" in text
    assert "moves" not in text.replace("does it move", "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base", "data"], "--base: 'data' is not FACTOR=LEVEL"),
        (["--base", "data=kode"], "no run has data 'kode'; did you mean 'code'?"),
        (["--base", "seed=1", "dat=wiki"], "'dat' is no factor of this table; did you mean 'data'?"),
        (["--factors", "dta"], "the table has no column 'dta'; did you mean 'data'?"),
        (["--run", "nam"], "the table has no column 'nam'; did you mean 'name'?"),
        (["--margin", "0"], "--margin: 0 noise floors are no margin"),
    ],
)
def test_mistakes_get_one_line(losses, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "--losses", losses(table(SETTINGS)), *AXES, *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
