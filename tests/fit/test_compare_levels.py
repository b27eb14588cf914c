"""The command, the stored fits and the page tell trends over numeric levels and interactions of two factors."""

import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax.cli import main
from lossline_jax.fit.study.fit_study import compare_lines, fit_study
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.finding import finding
from lossline_jax.report.figures.plot import panel_svgs
from lossline_jax.report.page import figures_of
from lossline_jax.report.tables.judged import judged_table
from tests.support.planted_lines import FLOOR, cell

BASE = {"data": "wiki", "architecture": "gpt2", "lr": "0.001"}
FACTORS = ("data", "architecture", "lr")
AXES = ("val", "task")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Return a table: the gap rises by one noise a doubling of lr, and mamba2 is above on wiki and below on code."""
    generator = np.random.Generator(np.random.PCG64(4))
    settings = [(BASE, 0)] + [(BASE | {"lr": lr}, k) for lr, k in (("0.0005", -1), ("0.002", 1), ("0.004", 2))]
    settings += [(BASE | {"data": "code"}, 3), (BASE | {"architecture": "mamba2"}, 4)]
    settings += [(BASE | {"data": "code", "architecture": "mamba2"}, 3 - 5)]
    blocks = []
    for levels, gap in settings:
        planted = cell(generator, levels, 4, gap * FLOOR)
        blocks.append(pd.DataFrame({**levels, "run_id": planted.runs, "val": planted.x, "task": planted.y}))
    return pd.concat(blocks, ignore_index=True)


@pytest.fixture(scope="module")
def fits(frame) -> StudyFits:
    return fit_study(frame, *AXES, {"lr": 0.001, "data": "wiki"}, factors=FACTORS)


def test_the_command_tells_both_in_lines_of_at_most_100_columns(frame, tmp_path, capsys):
    path, out = tmp_path / "losses.csv", tmp_path / "fits.json"
    frame.to_csv(path, index=False)
    main.main(
        ["table", "compare", str(path), "--x", "val", "--y", "task", "--factors", *FACTORS, "--base", "lr=0.001",
         "data=wiki", "--out", str(out)]
    )  # fmt: skip
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert " ".join(text.split()).count("interaction with") == 2  # told at mamba2 and at code
    (row,) = [line for line in text.splitlines() if line.strip().startswith("per doubling")]
    assert row.endswith("rises")
    assert "architecture=mamba2: gap +" in text
    stored = StudyFits.from_json(json.loads(out.read_text()))
    trend = stored.comparison("lr").trend
    assert trend.interval[0] < FLOOR < trend.interval[1]
    assert stored.comparison("architecture").interactions_of("mamba2")[0].changes_sign


def test_fits_of_before_are_read(fits):
    plain = fits.to_json()
    for comparison in plain["comparisons"]:
        del comparison["trend"], comparison["interactions"]
    old = StudyFits.from_json(plain)
    assert all(item.trend is None and item.interactions == () for item in old.comparisons)
    assert StudyFits.from_json(fits.to_json()) == fits


def test_the_finding_and_the_figure_tell_them(frame, fits):
    table = judged_table(frame, fits, None)
    text = finding(table.factors, *AXES)
    assert "The gap rises with lr: +0.0" in text
    assert "per doubling." in text
    assert "(interaction with data, p <0.001)" in text
    (plot,) = figures_of(frame, fits, None, None).named(["trends"])
    assert [panel.heading for panel in plot.panels] == ["lr: the gap rises"]
    _, numbers = panel_svgs(plot)
    points = numbers.loc[numbers["kind"].str.startswith("gap of")]
    gaps = {f"gap of lr {level.level}": level.gap for level in fits.comparison("lr").levels} | {"gap of lr 0.001": 0}
    assert dict(zip(points["kind"], points["y"], strict=True)) == pytest.approx(gaps)
    assert sorted(points["x"]) == [0.0005, 0.001, 0.002, 0.004]
    line = numbers.loc[numbers["kind"] == "line"]
    ends = line.sort_values("x")["y"].to_numpy()
    assert ends[-1] - ends[0] == pytest.approx(fits.comparison("lr").trend.change)


def test_a_table_of_words_has_no_trend(frame):
    words = frame.assign(lr="lr " + frame["lr"].map({"0.001": "a", "0.0005": "b", "0.002": "c", "0.004": "d"}))
    compared = compare_lines(words, *AXES, factors=FACTORS)
    assert compared.comparison("lr").trend is None
