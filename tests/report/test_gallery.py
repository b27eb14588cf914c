"""The figures of the papers show the right runs in each panel, and equal input gives equal drawings."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.losses.published.read import read_published
from lossline_jax.report.content.points import as_long
from lossline_jax.report.content.run_names import describe_runs
from lossline_jax.report.figures.gallery import gallery
from lossline_jax.report.figures.palette import COLOUR_NAMES, level_style, level_styles, sequence_style, thinned
from lossline_jax.report.figures.plot import draw_sheet, panel_svgs, whole_figure
from lossline_jax.report.figures.style import SEQUENCE_COLOURS, css_variables, light_colours
from lossline_jax.report.figures.svg import new_figure, render
from tests.support import planted_figures as planted
from tests.support.shared_data import shared_path

SWEEP = "reference/loss_to_loss/brandfonbrener_sweep.csv"


def plots_of(rooms):
    return {plot.name: plot for room in rooms for exhibit in room.exhibits for plot in exhibit.plots}


def draw(panel):
    axes = new_figure(4, 3).add_subplot()
    return axes, panel.draw(axes)


@pytest.fixture(scope="module")
def frame():
    return planted.table()


@pytest.fixture(scope="module")
def fits(frame):
    return fit_study(frame, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=10))


def gallery_of(fits, frame):
    long = as_long(frame, fits)
    return gallery(fits, long, describe_runs(long, fits, ()))


@pytest.fixture(scope="module")
def rooms(fits, frame):
    return gallery_of(fits, frame)


@pytest.fixture(scope="module")
def plots(rooms):
    return plots_of(rooms)


@pytest.mark.slow
def test_rooms_come_in_reading_order(rooms):
    assert [room.id for room in rooms] == ["matched", "pools", "own", "pairs"]
    assert [exhibit.units for exhibit in rooms[0].exhibits] == [("bits/byte", "nats/token")] * 3
    assert [exhibit.plots[0].name for exhibit in rooms[1].exhibits] == [
        "pool_size", "pool_context_length", "pool_optimiser"
    ]  # fmt: skip


def test_panels_say_what_tells_them_apart(plots):
    assert [panel.heading for panel in plots["matched_data_bits_per_byte"].panels] == [
        "bpe, llama", "bpe, mamba", "bytes, llama", "bytes, mamba"
    ]  # fmt: skip
    assert [panel.heading for panel in plots["pool_size"].panels] == ["wiki, bpe, llama"]
    assert [panel.heading for panel in plots["train_to_train"].panels] == ["code", "letters"]


def test_every_mark_names_the_runs_that_it_shows(plots, fits, frame):
    panel = plots["matched_data_bits_per_byte"].panels[0]
    axes, drawn = draw(panel)
    runs = {level: {planted.run_id({"data": level}, seed) for seed in range(2)} for level in ("wiki", "code")}
    for k, level in enumerate(("wiki", "code")):
        assert set(drawn[f"points-{k}"].run_ids) == runs[level]
        assert set(drawn[f"curve-{k}"].run_ids) == set(drawn[f"curve-{k}-band"].run_ids) == runs[level]
        assert len(drawn[f"points-{k}"].titles) == 16
    assert axes.get_xlabel() == "wiki loss (bits/byte)"
    assert [text.get_text() for text in axes.texts] == ["32 checkpoints, 4 runs"]
    row = frame[(frame["run_id"] == planted.run_id({})) & (frame["step"] == 3)].set_index("eval_set")["bits_per_byte"]
    assert f"wiki {row['wiki']:.4f} · quiz {row['quiz']:.4f} bits/byte" in drawn["points-0"].titles[2]


def test_a_pool_has_one_curve_and_a_colour_a_level(plots):
    _, drawn = draw(plots["pool_size"].panels[0])
    assert [gid for gid in drawn if "band" not in gid] == ["points-0", "points-1", "curve-0"]
    assert len(set(drawn["curve-0"].run_ids)) == 4
    assert [entry.level for entry in plots["pool_size"].key] == ["small", "large", "one line for all"]


def test_panels_with_equal_tokenizer_have_equal_limits(plots):
    panels = [draw(panel)[0] for panel in plots["matched_data_nats_per_token"].panels]
    limits = [(axes.get_xlim(), axes.get_ylim()) for axes in panels]
    assert limits[0] == limits[1] != limits[2] == limits[3]


def test_a_level_has_one_style_and_its_validation_set_the_same_colour(frame, fits, plots):
    long = as_long(frame, fits)
    runs = describe_runs(long, fits, ())
    styles = level_styles(long, planted.BASE, runs)
    own = {(run.factor, run.level): run.style for run in runs.values() if run.factor in planted.BASE}
    assert own
    assert own.items() <= styles.items()  # a level has the style of its runs, also in Figure 1
    assert len({style.colour_name for (factor, _), style in styles.items() if factor == "data"}) == 3
    assert styles["data", "wiki"].colour_name == styles["size", "small"].colour_name == "base"
    for level in ("wiki", "code", "letters"):
        assert styles["data", level] == styles["eval_set", level]
    for plot in plots.values():
        for entry in plot.key:
            factor = {"set": "eval_set", "context": "context_length"}.get(entry.factor, entry.factor)
            if (factor, entry.level) in styles:
                assert entry.style == styles[factor, entry.level]


def test_styles_of_many_levels_stay_apart():
    shown = {(s.colour, s.marker, str(s.dashes), s.is_filled) for s in map(level_style, range(4 * len(COLOUR_NAMES)))}
    assert len(shown) == 4 * len(COLOUR_NAMES)
    assert [sequence_style(k, 3).colour_name for k in range(3)] == ["sequence-0", "sequence-4", "sequence-7"]
    assert sequence_style(0, 1).colour_name == "sequence-0"
    assert thinned(list(range(18)))[0] == 0
    assert thinned(list(range(18)))[-1] == 17
    for name in SEQUENCE_COLOURS:
        assert f"--c-{name}: " in css_variables(dark=True)
        assert f"var(--c-{name})" in light_colours().values()


def test_figures_of_a_table_that_cannot_fill_them_are_left_out(frame):
    subset = frame[(frame["data"] == "wiki") & (frame["size"] == "small") & frame["eval_set"].isin(["wiki", "quiz"])]
    subset = subset[subset["tokenizer"] == "bpe"]
    fits = fit_study(subset, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=5))
    assert set(plots_of(gallery_of(fits, subset))) == {
        "pool_context_length", "pool_optimiser", "own_validation_to_tasks"
    }  # fmt: skip


def test_equal_input_gives_equal_drawings(plots, fits, frame):
    second_plots = plots_of(gallery_of(fits, frame))
    assert list(second_plots) == list(plots)
    for name in ("matched_tokenizer_bits_per_byte", "pool_size"):
        assert panel_svgs(second_plots[name])[0] == panel_svgs(plots[name])[0]
        assert render(whole_figure(second_plots[name]), "pdf") == render(whole_figure(plots[name]), "pdf")


def test_a_panel_from_the_sheet_is_the_panel_drawn_alone(plots):
    """The page takes its panels from the sheet of the files. The sheet then is what it was before."""
    plot = next(plot for plot in plots.values() if len(plot.panels) > 1)
    sheet = draw_sheet(plot)
    before = render(sheet.figure, "svg")
    drawings, numbers = panel_svgs(plot, sheet)
    assert render(sheet.figure, "svg") == before
    for k, panel in enumerate(plot.panels):
        (alone,), its_numbers = panel_svgs(dataclasses.replace(plot, panels=(panel,)))
        assert alone.replace(f"{plot.name}-0-", f"{plot.name}-{k}-") == drawings[k]
        of_panel = numbers.loc[numbers["panel"] == panel.heading].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_panel, its_numbers)


def test_isoflop_figure_marks_the_least_loss():
    table = planted.isoflop_table()
    fits = fit_study(table, planted.X, planted.Y, factors=["data"], statistics=Statistics(num_resamples=5))
    plot = plots_of(gallery_of(fits, table))["isoflop"]
    axes, drawn = draw(plot.panels[0])
    (optima,) = [line for line in axes.get_lines() if line.get_gid() == "optima"]
    np.testing.assert_allclose(optima.get_xdata(), [1e7, 10**7.5, 1e8], rtol=1e-6)
    assert axes.texts[0].get_text() == "15 runs, a = 0.50"
    assert len(drawn["optima"].run_ids) == 15
    assert [entry.level for entry in plot.key] == ["6e+16", "6e+17", "6e+18", "least loss"]


@pytest.fixture(scope="module")
def sweep():
    table = read_published(shared_path(SWEEP))
    sets = ["fineweb_edu_100b", "starcoder", "hellaswag", "piqa"]
    return table[table["data"].isin(["fineweb-edu-100b", "starcoder"]) & table["eval_set"].isin(sets)]


def test_figures_of_the_published_sweep(sweep):
    fits = fit_study(
        sweep,
        "fineweb_edu_100b",
        "hellaswag",
        {"data": "fineweb-edu-100b"},
        factors=["data"],
        units=["published_loss"],
        statistics=Statistics(num_resamples=5),
    )
    plots = plots_of(gallery_of(fits, sweep))
    assert {"matched_data_published_loss", "pool_size", "isoflop", "compute_law_hellaswag"} <= set(plots)
    budgets = [item for item in fits.isoflops if item.panel["data"] == "fineweb-edu-100b"]
    assert len(budgets) == 8
    assert all(item.eval_set == "fineweb_edu_100b" for item in budgets)
    slope = np.polyfit(*(np.log([getattr(b, name) for b in budgets]) for name in ("budget", "params_min")), 1)[0]
    # a = beta / (alpha + beta) of the published law of this set: .4556 / (.4129 + .4556)
    assert slope == pytest.approx(0.4556 / (0.4129 + 0.4556), abs=0.03)
    text = "".join(panel_svgs(plots["compute_law_fineweb_edu_100b"])[0])
    assert len(re.findall("<title>", text)) == sweep["run_id"].nunique()
    assert not re.search(r"#[0-9a-f]{6}\b", text)


def test_a_wide_table_with_crossed_factors_has_its_matched_grids():
    generator = np.random.Generator(np.random.PCG64(1))
    x = np.tile(np.linspace(4.5, 2.5, 8), 8)
    runs = np.repeat(np.arange(8), 8)
    data, size = np.array(["web", "code"])[runs // 4], np.array(["small", "large"])[runs // 2 % 2]
    y = 0.3 + 0.95 * x - 0.4 * (data == "code") + generator.normal(0, 0.004, 64)
    table = pd.DataFrame({"run_id": runs.astype(str), "data": data, "size": size, "val": x, "test": y, "loss": x})
    fits = fit_study(table, "val", "test", {"data": "web"}, statistics=Statistics(num_resamples=5))
    plots = plots_of(gallery_of(fits, table))
    assert set(plots) == {"matched_data", "pool_size"}
    assert [entry.level for entry in plots["matched_data"].key] == ["web", "code"]
    _, drawn = draw(plots["matched_data"].panels[0])
    heights = [np.interp(3.5, drawn[gid].table["x"], drawn[gid].table["y"]) for gid in ("curve-0", "curve-1")]
    assert heights[1] - heights[0] == pytest.approx(-0.4, abs=0.01)
