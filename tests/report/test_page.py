"""The report is complete, needs no other file, agrees with the table, is safe, and is the same every time."""

import base64
import dataclasses
import io
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from etils import epath

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.gap import PairGap
from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.study.table_lines import LineOptions, fit_lines
from lossline_jax.fit.tables.columns import UNITS
from lossline_jax.report.content.finding import finding
from lossline_jax.report.content.points import Unit, as_long
from lossline_jax.report.content.run_names import _styles, describe_runs
from lossline_jax.report.content.wording import NONE, listed, signed_text
from lossline_jax.report.figures.labels import LineName, place_names
from lossline_jax.report.figures.plot import panel_svgs
from lossline_jax.report.figures.residual_figure import residual_plot
from lossline_jax.report.figures.speedup_figure import speedup_plots
from lossline_jax.report.figures.svg import new_figure
from lossline_jax.report.figures.training_figure import smooth
from lossline_jax.report.page import write_report
from lossline_jax.report.tables import table as tables
from lossline_jax.report.tables.fits import lines_table
from lossline_jax.report.tables.table import training_time
from lossline_jax.report.tables.verdicts import group_by_factor
from tests.support.report_study import CORPORA, PLANTED_GAP, SETS, X, Y, losses_table, step_rows, study_config


class Page(HTMLParser):
    """A parser that keeps the texts, attributes and tables of a page."""

    VOID = ("meta", "link", "br", "input")

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.ids: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.table = None
        self.html = html
        self.feed(html)
        assert self.open == [], "unbalanced tags"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table" and "id" in attrs:
            self.table = self.tables.setdefault(attrs["id"], [])
        if tag == "tr" and self.table is not None:
            self.table.append([])
        if tag in ("td", "th") and self.table is not None:
            self.table[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.table = None

    def handle_data(self, data):
        if self.table and self.table[-1] and "title" not in self.open[2:]:
            self.table[-1][-1] += data.strip() + " "


@pytest.fixture(scope="module")
def study():
    return study_config()


@pytest.fixture(scope="module")
def frame(study):
    return losses_table(study)


@pytest.fixture(scope="module")
def fits(frame) -> StudyFits:
    return fit_study(frame, X, Y, statistics=Statistics(num_resamples=20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return epath.Path(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(study, frame, fits, folder) -> str:
    corpora = {"wiki": {"documents": 1234, "bytes": 5_000_000, "sha256": "ab" * 32, "licence": "CC BY-SA"}}
    path = write_report(frame, fits, folder, "small", study=study, steps=step_rows(study), corpora=corpora)
    return path.read_text()


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_every_section_is_there_and_every_run_is_named(page, html, study):
    sections = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert sections == {
        "verdicts", "speedups", "line", "matched", "pools", "own", "pairs", "training", "fits", "runs",
        "configurations", "corpora", "downloads",
    }  # fmt: skip
    for run in study.runs:
        assert run.run_id in html
    assert study.question in html


def test_the_page_says_which_level_saves_compute(page, fits):
    """Other data lowers the loss of the task alone, so it saves compute on the task and makes no difference on x."""
    header, *rows = page.tables["speedup-table"]
    assert [cell.strip() for cell in header][1::3] == [f"compute at equal {name} bits/byte" for name in (X, Y)] + [
        "runs vs reference"
    ]
    row = next(row for row in rows if row[0].strip() == "code")
    on_x, on_y = (next(item for item in fits.speedups if (item.factor, item.loss) == ("data", loss)) for loss in (X, Y))
    for cells, item in ((row[1:4], on_x), (row[4:7], on_y)):
        (level,) = item.levels
        assert cells[0].startswith(level.verdict)
        assert cells[1].startswith(f"{level.speedup:.2f}")
    assert on_x.levels[0].speedup == pytest.approx(1.0, abs=0.1)
    lowest = on_y.levels[0].pairs[0].by_loss[-1]
    wiki_loss, shifted = ((lowest.loss - gap - 0.2) / 0.95 for gap in (0.0, PLANTED_GAP))
    assert lowest.speedup == pytest.approx(((shifted - 1.6) / (wiki_loss - 1.6)) ** (1 / 0.3), rel=0.1)
    assert on_y.levels[0].verdict == "saves compute"
    assert any("one run of this level" in cell for row in rows for cell in row)


def test_the_figure_of_speedups_has_the_numbers_of_the_fits(study, frame, fits):
    long = as_long(frame, fits)
    (on_x, on_y) = speedup_plots(fits.speedups, long, describe_runs(long, fits, study.runs))
    assert [panel.heading for panel in on_x.panels] == ["Data", "Tokenizer", "Size"]
    numbers = panel_svgs(on_y)[1]
    (pair,) = next(item for item in fits.speedups if (item.factor, item.loss) == ("data", Y)).levels[0].pairs
    drawn = numbers.loc[numbers["panel"] == "Data"]
    assert drawn["x"].tolist() == [at.level_compute for at in pair.by_loss]
    assert drawn["y"].tolist() == [at.speedup for at in pair.by_loss]
    assert drawn["low"].tolist() == [at.interval[0] for at in pair.by_loss]


def test_nothing_is_fetched(page, html, folder):
    for tag, attrs in page.tags:
        if tag == "a" and attrs["href"].startswith("figures/"):  # a link to a file beside the page; a click fetches it
            assert (folder / attrs["href"]).exists()
            continue
        assert tag not in ("iframe", "img", "object", "embed", "audio", "video")
        for name in ("src", "href", "action", "data", "srcset", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_ids_are_unique_and_references_resolve(page, html):
    assert len(page.ids) == len(set(page.ids))
    references = set(re.findall(r"url\(#([^)]+)\)", html))
    references |= {a["href"][1:] for _, a in page.tags if a.get("href", "").startswith("#")}
    assert references <= set(page.ids)


def test_no_drawing_keeps_a_colour_of_its_own(html):
    for drawing in re.findall(r"<svg.*?</svg>", html, re.S):
        assert not re.search(r"#[0-9a-f]{6}\b", drawing)  # so that the light and the dark theme both apply to it


def test_losses_in_the_table_are_those_of_the_frame(page, frame, study):
    head, *rows = page.tables["losses-table"]
    names = [cell.split()[0] for cell in head[1:]]
    assert names == list(SETS)
    last = frame[frame["step"] == frame.groupby("run_id")["step"].transform("max")]
    base = last[last["run_id"] == study.base.run_id].set_index("eval_set")
    assert [row[0].split() for row in rows[:2]] == [["base", "seed", "0"], ["code", "data,", "seed", "0"]]
    for name, cell in zip(names, rows[0][1:], strict=True):
        nats, bits = cell.split()[:2]
        assert nats == f"{base.loc[name, 'nats_per_token']:.3f}"
        assert bits == f"{base.loc[name, 'bits_per_byte']:.3f}"
    assert rows[0][-1].split()[-1] == "37.5%"
    assert len(rows) == len(study.runs)


def test_gaps_in_the_table_are_those_of_the_fits(page, fits):
    head, *rows = page.tables["verdict-table"]
    column = next(k for k, cell in enumerate(head) if "bits/byte" in cell)
    shown = {row[0].split()[0]: row[column].split()[0] for row in rows if len(row) == len(head)}  # others are notes
    for comparison in fits.comparisons_in("bits_per_byte"):
        assert shown[comparison.factor] == "noise"
        for level in comparison.levels:
            assert shown[level.level] == signed_text(level.gap)


def test_the_table_has_the_far_end_and_the_word_of_each_gap(page, fits):
    head, *rows = page.tables["verdict-table"]
    column = next(k for k, cell in enumerate(head) if cell.startswith("far end"))
    by_level = {row[0].split()[0]: row for row in rows if len(row) == len(head)}
    levels = [level for item in fits.comparisons_in("bits_per_byte") for level in item.levels]
    assert any(level.course is not None for level in levels)
    for level in levels:
        cell = by_level[level.level][column]
        assert cell.split()[0] == (NONE if level.course is None else signed_text(level.course.far))
        if level.course is not None and level.course.word:
            assert f", {level.course.word}" in by_level[level.level][1]


def test_drawings_keep_letters_of_eleven_pixels_on_a_phone(page):
    """The width that page.css keeps on a narrow screen, `--readable`, follows from the smallest letters."""
    drawings = re.findall(r'<svg [^>]*class="plot".*?</svg>', page.html, re.DOTALL)
    assert len(drawings) > 3
    for svg in drawings:
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        letters = [
            float(size) for text in re.findall("<text[^>]*>", svg) for size in re.findall(r"size: ([\d.]+)", text)
        ]
        readable = float(re.search(r"--readable: (\d+)px", svg)[1])
        assert readable * min(letters) / width == pytest.approx(11, abs=0.05)
    assert "min-width: var(--readable)" in page.html


def test_the_finding_names_the_planted_factor(fits):
    text = finding(group_by_factor(fits.comparisons, {}), X, Y, "")
    gap = re.match(r"Data moves the line: code by −(\S+) bits/byte", text)  # because tokenizers are compared
    assert gap is not None
    assert -float(gap[1]) == pytest.approx(PLANTED_GAP, abs=0.01)
    assert "nats/token" not in text.partition("In nats/token")[0]
    (data,) = [c for c in fits.comparisons_in("bits_per_byte") if c.factor == "data"]
    assert data.levels[0].gap == pytest.approx(PLANTED_GAP, abs=0.01)


def test_the_finding_does_not_average_gaps_of_both_signs():
    level = LevelGap(
        "b", "moves", "", -0.004, (-0.02, 0.01), "", -0.3,
        pairs=(PairGap("l", 0.2, (0.18, 0.22), 9, 3, 3), PairGap("s", -0.208, (-0.23, -0.19), 9, 3, 3)),
    )  # fmt: skip
    factor = FactorComparison(
        "data", "a", "nats_per_token", "moves", "", 0.012, "seeds", 8, 0.036, 0.001, 0.001, 0.01, 400.0, (level,)
    )
    text = finding(group_by_factor([factor], {}), X, Y, "")
    assert text == "Data moves the line: b from −0.208 nats/token (s) to +0.200 nats/token (l)."


def test_factors_of_other_names_have_colours_of_their_own():
    styles = _styles([("base", "base"), ("corpus", "a"), ("corpus", "b"), ("width", "1"), ("width", "2")])
    assert styles["corpus", "a"].hue == styles["corpus", "b"].hue != styles["width", "1"].hue
    drawn = {(style.colour, style.dashes, style.filling) for style in styles.values()}
    assert len(drawn) == len(styles)


def test_corpora_are_those_of_the_manifests(page):
    assert [cell.strip() for cell in page.tables["corpora-table"][1]] == [
        "wiki", "1,234", "5,000,000", "abababababababab…", "CC BY-SA"
    ]  # fmt: skip


def test_titles_of_points_name_their_run_step_and_loss(html, study, frame):
    row = frame[(frame["run_id"] == study.base.run_id) & (frame["eval_set"] == X)].iloc[3]
    titles = [title for title in re.findall(r"<title>(.*?)</title>", html, re.S) if title.startswith(study.base.run_id)]
    matches = [
        title for title in titles if f"step {row['step']:,} " in title and f"wiki {row['nats_per_token']:.4f}" in title
    ]
    assert matches


def test_downloads_hold_the_whole_table(page, frame):
    link = next(a for tag, a in page.tags if a.get("download") == "losses.csv.gz")
    media, _, content = link["href"].partition(",")
    assert media == "data:application/gzip;base64"
    downloaded = pd.read_csv(io.BytesIO(base64.b64decode(content)), compression="gzip")
    stated, downloaded = (table.dropna(axis="columns", how="all") for table in (frame, downloaded))
    pd.testing.assert_frame_equal(downloaded, stated, check_dtype=False)


def test_a_run_that_ends_above_an_earlier_loss_has_the_lowest_one_too(study, frame, fits):
    run_id, step = study.runs[0].run_id, study.runs[0].checkpoint_steps[2]
    long = as_long(frame, fits)
    is_planted = (long["run_id"] == run_id) & (long["step"] == step) & (long["eval_set"] == X)
    long.loc[is_planted, "bits_per_byte"] = 0.75
    units = [Unit("bits_per_byte", "bits_per_byte", "bits/byte")]
    table = tables.losses_table(long, describe_runs(long, fits, study.runs), units)
    cells = {(run, column.name): cell for run, row in zip(table.run_ids, table.rows, strict=True)
             for column, cell in zip(table.columns, row, strict=True)}  # fmt: skip
    assert cells[run_id, X].sub.endswith(f"lowest 0.750 at step {step}")
    assert [key for key, cell in cells.items() if "lowest" in cell.sub] == [(run_id, X)]


def test_figures_are_written_in_three_formats(html, folder):
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    stems = {
        "residual", "forest", "line", "training", "pool_size", f"speedup_{X}", f"speedup_{Y}",
        "own_validation_to_validation", "own_validation_to_tasks", "train_to_train",
        *(f"matched_{factor}_{unit}" for factor in ("data", "tokenizer") for unit in UNITS),
    }  # fmt: skip
    files = {path.name: path for path in (folder / "figures").iterdir()}
    assert set(files) == {stem + suffix for stem in stems for suffix in starts}
    for name, path in files.items():
        assert path.read_bytes().startswith(starts["." + name.rpartition(".")[2]])


@pytest.mark.slow
def test_equal_input_gives_equal_bytes(study, frame, fits, folder, html, tmp_path):
    second_folder = epath.Path(tmp_path)
    path = write_report(frame, fits, second_folder, "small", study=study, steps=step_rows(study), corpora=CORPORA)
    assert path.read_text() == html
    for first in (folder / "figures").iterdir():
        assert (second_folder / "figures" / first.name).read_bytes() == first.read_bytes(), first.name


def test_the_residual_figure_shows_the_planted_gap(study, frame, fits):
    """The base runs lie on zero, and the runs on code lie at the planted gap."""
    long = as_long(frame, fits)
    runs = describe_runs(long, fits, study.runs)
    judged = group_by_factor(fits.comparisons, {(run.factor, run.level): run.name for run in runs.values()})
    plot = residual_plot(fits, long, runs, judged, unit=Unit("bits_per_byte", "bits_per_byte", "bits/byte"))
    _, table = panel_svgs(plot)
    residuals = table.loc[table["kind"] == "point"].groupby("runs")["y"].mean()
    (code,) = [run for run in runs.values() if run.factor == "data"]
    assert residuals[study.base.run_id] == pytest.approx(0.0, abs=0.01)
    assert residuals[code.run_id] == pytest.approx(PLANTED_GAP, abs=0.01)
    assert [entry.level for entry in plot.key if entry.factor == "data"] == ["code"]


def test_hostile_labels_stay_text(tmp_path):
    script = "<script>alert('&')</script>"
    hostile = study_config(label=script, question=script)
    table = losses_table(hostile)
    result = fit_study(
        table, X, Y, {"data": "wiki"}, factors=["data"], units=["bits_per_byte"], statistics=Statistics(num_resamples=5)
    )
    path = write_report(table, result, epath.Path(tmp_path), script, study=hostile)
    text = path.read_text()
    assert "&lt;script&gt;" in text
    assert [tag for tag, _ in Page(text).tags].count("script") == 3  # the page has levels, names and code


def test_a_wide_table_without_runs_or_units(tmp_path):
    generator = np.random.Generator(np.random.PCG64(0))
    x = np.tile(np.linspace(3.4, 2.6, 12), 2)
    series = np.repeat(["first", "second"], 12)
    table = pd.DataFrame({"series": series, "val": x, "test": 1 + 0.9 * x - 0.4 * (series == "second")})
    table["test"] += generator.normal(0, 0.003, 24)
    for base in ({"series": "first"}, None):
        if base:
            result = fit_study(table, "val", "test", base, factors=["series"], statistics=Statistics(num_resamples=5))
        else:
            result = fit_lines(table, "val", "test", by=("series",), options=LineOptions(num_resamples=5))
        text = write_report(table, result, epath.Path(tmp_path), "t").read_text()
        sections = {attrs["id"] for tag, attrs in Page(text).tags if tag == "section"}
        assert sections == {"line", "fits", "runs", "downloads"} | ({"verdicts"} if base else set())
        assert "What moves the line of test against val?" in text
        assert ("cannot tell which factor" in text) == (base is None)


def test_failed_and_unidentified_fits_are_named(fits):
    line, second_line = fits.lines[:2]
    failed = dataclasses.replace(line.fit, status="failed", note="no start ended", parameters={}, intervals={})
    unidentified = dataclasses.replace(second_line.fit, status="not identified", not_identified=("E_x",), bounds_hit=())
    lines = (dataclasses.replace(line, fit=failed, band=None), dataclasses.replace(second_line, fit=unidentified))
    table = lines_table(dataclasses.replace(fits, lines=lines), {})
    assert table.rows[0][1].text == "failed"
    assert {cell.text for cell in table.rows[0][4:8]} == {"–"}
    assert table.notes[0] == "No start ended"
    cells = dict(zip([column.name for column in table.columns], table.rows[1], strict=True))
    assert (cells["status"].text, cells["E_x"].tone) == ("curve only", "quiet")
    assert cells["E_x"].title.startswith("not identified")
    middle = second_line.middle
    assert middle is not None
    assert float(cells["height"].text) == pytest.approx(second_line.fit.predict(middle.x).item(), rel=1e-3)
    low, high = middle.slope_interval
    assert low <= middle.slope <= high


def test_training_time_counts_every_step_once():
    rows = [{"step": s, "step_seconds": t} for s, t in ((10, 1.0), (20, 2.0), (20, 3.0), (25, 1.0))]
    assert training_time(rows) == "45s"  # 10 x 1 + 10 x 3 (the later row of step 20) + 5 x 1


def test_smoothing_keeps_a_straight_line_inside():
    rows = [{"step": s, "tokens_seen": 8 * s, "loss_nats_per_token": 5 - s / 100} for s in range(1, 101)]
    curve = smooth(rows[::-1])
    inner = curve["tokens_seen"].between(5 * 8, 95 * 8)
    np.testing.assert_allclose(curve["loss"][inner], 5 - curve["tokens_seen"][inner] / 800)


def test_names_beside_lines_do_not_overlap():
    axes = new_figure(5, 4).add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    x = np.linspace(0.4, 0.6, 5)
    place_names(axes, [LineName(f"line {k}", "#000000", x, x + 0.01 * k) for k in range(4)])
    boxes = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    for k, box in enumerate(boxes):
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
        assert not any(box.overlaps(previous) for previous in boxes[:k])


def test_signed_numbers_and_lists_have_their_text():
    assert signed_text(-0.3994) == "−0.399"
    assert signed_text(-0.0001) == "0.000"
    assert signed_text(None) == signed_text(math.nan) == "–"
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.slow
def test_a_run_of_unknown_data_and_tokens_has_its_place_in_the_page(study, frame, tmp_path):
    last = frame[(frame["run_id"] == study.base.run_id) & (frame["step"] == frame["step"].max())]
    public_run = last.assign(run_id="public-1", data="unknown", optimiser=None, tokens_seen=None, train_flops=None)
    table = pd.concat([frame, public_run], ignore_index=True)
    fits = fit_study(table, X, Y, statistics=Statistics(num_resamples=5))
    text = write_report(table, fits, epath.Path(tmp_path), "small", study=study).read_text()
    assert "runs public-1: data and optimiser not known: not compared" in text


def test_a_run_that_is_not_yet_scored_on_x_does_not_stop_the_report(study, frame, fits, tmp_path):
    is_unscored = (frame["run_id"] == study.base.run_id) & (frame["eval_set"] == X)
    path = write_report(frame[~is_unscored], fits, epath.Path(tmp_path), "small", study=study, steps=step_rows(study))
    assert "training loss against tokens" in path.read_text()
