"""Figures for papers have the asked size, and laws, predictions and backtests are drawn where their numbers are."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import lossline_jax as ll
from lossline_jax.cli.main import main
from lossline_jax.cli.parsing import flag_of
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.report.figures.paper import draw_panel, inches, paper_figure
from lossline_jax.report.page import figures_of
from tests.support.report_study import X, Y, losses_table, study_config


@pytest.fixture(scope="module")
def figures():
    study = study_config()
    frame = losses_table(study)
    return figures_of(frame, fit_study(frame, X, Y, statistics=Statistics(num_resamples=5)), study, None)


@pytest.fixture(scope="module")
def sweep():
    """Make a table of losses on a Chinchilla law, 35 runs of five budgets."""
    generator = np.random.Generator(np.random.PCG64(0))
    budgets = np.repeat([1e17, 3e17, 1e18, 3e18, 1e19], 7)
    params = np.tile(np.geomspace(0.2, 5, 7), 5) * 3e-2 * np.sqrt(budgets)
    tokens = budgets / (6 * params)
    loss = 1.8 + 400 / params**0.34 + 410 / tokens**0.28 + generator.normal(0, 0.004, 35)
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


def test_widths_are_read_in_the_units_of_papers():
    assert [inches(text) for text in ("3.3in", "3.3", "25.4 mm", "2.54cm", "72.27pt")] == pytest.approx(
        [3.3, 3.3, 1, 1, 1]
    )
    for text in ("3foo", "", "-3in", "0.1in", "100in"):
        with pytest.raises(ArgumentError) as refused:
            inches(text)
        assert refused.value.message_with(flag_of).startswith("--width: ")
        assert str(refused.value).startswith("width: ")  # in Python it is an argument


@pytest.mark.parametrize("name", ["residual", "forest", "line"])
def test_a_figure_has_the_width_and_the_letters_of_the_paper(figures, name):
    (plot,) = figures.named([name])
    drawn = paper_figure(plot, width=3.3, font=7)
    assert drawn.get_size_inches()[0] == pytest.approx(3.3)
    on_page = paper_figure(plot)
    ratio = drawn.axes[0].xaxis.label.get_fontsize() / on_page.axes[0].xaxis.label.get_fontsize()
    assert ratio == pytest.approx(7 / 8.5)
    boxes = [axes.get_position() for axes in drawn.axes]
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)


def test_panels_that_would_be_too_narrow_stand_below_each_other(figures):
    (plot,) = figures.named(["line"])
    assert len(plot.panels) == 2
    lefts = {round(axes.get_position().x0, 6) for axes in paper_figure(plot, width=3.3).axes}
    assert len(lefts) == 1
    assert len({round(axes.get_position().x0, 6) for axes in paper_figure(plot, width=7.0).axes}) == 2
    assert len(paper_figure(plot, panel=2).axes) == 1
    with pytest.raises(LosslineError, match="panels 1 to 2, not 3"):
        paper_figure(plot, panel=3)


def test_a_panel_is_drawn_into_axes_of_the_caller(figures):
    left, right = Figure(figsize=(8, 3)).subplots(1, 2)
    (plot,) = figures.named(["forest"])
    assert draw_panel(plot, right) is right
    assert right.has_data()
    assert not left.has_data()


def test_a_name_that_no_figure_has_is_refused(figures):
    with pytest.raises(LosslineError, match="no figure 'residul'; did you mean 'residual'"):
        figures.named(["residul"])


def test_the_command_writes_the_chosen_figure_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    losses_table(study_config()).to_csv("losses.csv", index=False)
    main(["table", "figure", "losses.csv", "--x", X, "--y", Y, "--only", "residual", "--width", "84mm"])
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"residual.png", "residual.pdf", "residual.svg"}
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", (tmp_path / "figures" / "residual.pdf").read_bytes())
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * 8.4 / 2.54, abs=0.5)
    for words, message in ((["--font", "90"], "--font: 90"), (["--only", "nothing"], "no figure 'nothing'")):
        with pytest.raises(SystemExit) as leaving:
            main(["table", "figure", "losses.csv", "--x", X, "--y", Y, "--out", "other", *words])
        assert leaving.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "other").exists()


def test_predictions_are_drawn_at_their_budget_with_their_interval(sweep):
    fitted = ll.fit.forecast(sweep, "loss", params="params", tokens="tokens")
    predicted = fitted.predict(flops=1e20)
    axes = ll.draw(predicted)
    (prediction,) = predicted.predictions
    assert isinstance(axes.figure, Figure)
    diamond = next(line for line in axes.get_lines() if line.get_marker() == "D")
    assert diamond.get_xydata()[0] == pytest.approx([1e20, prediction.estimate])
    bars = [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) == 2]
    assert [list(bar) for bar in bars] == [[prediction.lower, prediction.upper]]
    (curve,) = [line for line in ll.draw(fitted).get_lines() if line.get_linestyle() == "-"]
    at = np.interp(np.log(1e20), np.log(curve.get_xdata()), curve.get_ydata())
    assert at == pytest.approx(prediction.estimate, rel=1e-3)


def test_a_backtest_is_drawn_as_predicted_against_actual(sweep):
    result = ll.fit.backtest(sweep, "loss", params="params", tokens="tokens")
    (score,) = result.scores
    held_out = sweep[sweep["params"] * sweep["tokens"] * 6 > 5e18]
    assert sorted(score.actual) == pytest.approx(sorted(held_out["loss"]))
    errors = np.abs(np.array(score.predicted) / np.array(score.actual) - 1)
    assert errors.mean() == pytest.approx(score.error)
    points = next(line for line in ll.draw(result).get_lines() if line.get_linestyle() == "None")
    assert np.array_equal(points.get_xydata(), np.column_stack([score.actual, score.predicted]))


def test_a_band_is_drawn_and_other_values_are_refused():
    x = np.tile(np.linspace(2.5, 5.0, 8), 3)
    y = 0.9 * (x - 1.5) ** 1.2 + 1 + np.random.Generator(np.random.PCG64(1)).normal(0, 0.01, 24)
    fit = fit_line(x, y, np.repeat(["a", "b", "c"], 8))
    resamples = bootstrap(fit, {"x": x}, y, clusters=np.repeat(["a", "b", "c"], 8), num_resamples=20)
    axes = ll.draw(resamples)
    assert len(axes.collections) == 1
    assert ll.draw(fit, ax=axes) is axes
    assert axes.get_lines()[0].get_ydata() == pytest.approx(axes.get_lines()[1].get_ydata())
    with pytest.raises(TypeError, match="no figure for a str"):
        ll.draw("line")
