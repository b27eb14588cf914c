"""A large table gets a light page: some checkpoints of each run are drawn, no extreme is lost, the count is told."""

import re

import numpy as np
import pandas as pd
import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.report.figures import thinning
from lossline_jax.report.figures.thinning import drawn_sentence, most_of_run, to_draw
from lossline_jax.report.page import write_report
from lossline_jax.report.tables import downloads
from tests.support import planted_figures as planted


def points_of(runs: dict[str, list[float]]) -> pd.DataFrame:
    rows = [(run, step, -float(step), y) for run, losses in runs.items() for step, y in enumerate(losses)]
    return pd.DataFrame(rows, columns=["run_id", "step", "x", "y"])


def test_a_small_table_is_drawn_whole():
    points = points_of({f"run {k}": list(np.arange(10.0)) for k in range(thinning.MOST_CHECKPOINTS // 10)})
    assert most_of_run(points) is None
    assert to_draw(points, None) is points
    assert drawn_sentence(7, 7) == ""


@pytest.mark.parametrize(("num_runs", "num_steps", "most"), [(8, 101, 100), (111, 84, 7), (1000, 20, 5)])
def test_runs_share_what_is_drawn(num_runs, num_steps, most):
    points = points_of({f"run {k}": [1.0] * num_steps for k in range(num_runs)})
    assert most_of_run(points) == most


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.floats(0, 9), min_size=1, max_size=60), min_size=1),
    st.integers(1, 12),
)
def test_ends_and_extremes_of_every_run_are_drawn(runs, most):
    points = points_of(runs)
    drawn = to_draw(points, most)
    assert drawn.index.is_monotonic_increasing
    for run, losses in runs.items():
        of_run = drawn.loc[drawn["run_id"] == run]
        assert len(of_run) <= most + 4
        assert len(of_run) >= min(most, len(losses))
        assert {min(losses), max(losses)} <= set(of_run["y"])
        assert 0 in set(of_run["step"])
        assert most == 1 or len(losses) - 1 in set(of_run["step"])


@pytest.mark.slow
def test_the_page_of_a_large_table_says_what_it_draws(tmp_path, monkeypatch):
    frame = planted.table(num_seeds=1, num_steps=20)
    fits = fit_study(frame, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=10))
    whole = write_report(frame, fits, epath.Path(tmp_path / "whole"), "whole").read_text()
    monkeypatch.setattr(thinning, "MOST_CHECKPOINTS", 100)
    monkeypatch.setattr(downloads, "MOST_WHOLE_ROWS", 10)
    thin = write_report(frame, fits, epath.Path(tmp_path / "thin"), "thin").read_text()
    assert " are drawn" not in whole
    caption = re.search(r"n = (\d+) checkpoints of \d+ runs. ([\d,]+) of them are drawn", thin)
    drawing = next(svg for svg in re.findall("<svg.*?</svg>", thin, re.S) if 'id="line-0-points-0"' in svg)
    assert caption
    assert drawing.count("<title>") == int(caption[2]) < int(caption[1])
    assert "<g data-run=" in drawing
    assert not re.search("<use[^>]* data-run=", drawing)  # points of one run share its mark
    assert re.search("<use[^>]* data-run=", whole)
    assert len(thin) < len(whole)
    assert f"{len(frame):,} rows, losses to 7 digits" in thin
