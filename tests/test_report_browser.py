"""The page in a browser: it asks for nothing, tells of points, filters, changes colours and gives its numbers away."""

import io

import pandas as pd
import pytest
from browser import browser  # noqa: F401  (a fixture)
from etils import epath
from report_study import X, Y, losses_table, step_rows, study_config

from lossline_jax.config import to_json
from lossline_jax.fit.study_lines import fit_study
from lossline_jax.report.page import write_report

STUDY = study_config()
BASE_POINTS = "#line-0-points-0 [data-run]"


@pytest.fixture(scope="module")
def frame():
    return losses_table(STUDY)


@pytest.fixture(scope="module")
def address(frame, tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("page"))
    fits = fit_study(frame, X, Y, num_resamples=20)
    return f"file://{write_report(frame, fits, to_json(STUDY), step_rows(STUDY), folder, 'small', X, Y)}"


@pytest.fixture
def open_page(browser, address):  # noqa: F811
    opened = []

    def open_(width=1280, fragment="", **kwargs):
        context = browser.new_context(viewport={"width": width, "height": 900}, **kwargs)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address + fragment)
        opened.append(context)
        return page

    yield open_
    for context in opened:
        context.close()


def shown(page) -> int:
    return page.locator("svg.plot [data-run]:not(.filtered)").count()


def test_it_renders_without_errors_and_asks_for_nothing(open_page, address):
    page = open_page()
    assert page.said == []
    assert {url for url in page.asked if not url.startswith("data:")} == {address}
    assert page.locator("#verdicts").bounding_box()["y"] < page.locator("#line").bounding_box()["y"]


def test_pointing_at_a_point_tells_run_step_tokens_and_losses(open_page, frame):
    page = open_page()
    point = page.locator(BASE_POINTS).last
    point.hover(force=True)
    tip = page.locator("#tip")
    assert tip.is_visible()
    run, position, losses = tip.inner_text().split("\n")
    row = frame[(frame["run_id"] == run) & (frame["eval_set"] == X)].iloc[-1]
    assert run == STUDY.base.run_id
    assert position.startswith(f"step {row['step']:,} · ")
    assert losses.startswith(f"{X} {row['nats_per_token']:.4f} · {Y} ")
    assert page.locator("#line svg").first.locator(".same-run").count() == len(STUDY.base.checkpoint_steps)
    page.mouse.move(2, 2)
    assert not tip.is_visible()


def test_arrow_keys_walk_along_the_points(open_page):
    page = open_page()
    page.locator("#line svg").first.focus()
    told = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        told.append(page.locator("#tip").inner_text())
    assert len(set(told)) == 3
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_a_tap_shows_a_point_and_a_tap_elsewhere_hides_it(open_page):
    page = open_page(width=390, has_touch=True)
    page.locator(BASE_POINTS).last.tap(force=True)
    assert page.locator("#tip").is_visible()
    page.locator("h2").nth(1).tap()
    assert not page.locator("#tip").is_visible()


def test_filter_hides_points_curves_and_rows_and_restores_them(open_page):
    page = open_page()
    everything = shown(page)
    page.locator("#filter summary").click()
    page.locator("#filter input[data-factor=data][value=code]").uncheck()
    code = next(run.run_id for run in STUDY.runs if run.factors["data"] == "code")
    assert shown(page) < everything
    assert page.locator(f"svg.plot [data-run='{code}']:not(.filtered)").count() == 0
    assert not page.locator(f"#runs-table tr[data-run='{code}']").is_visible()
    curves = page.locator(f"svg.plot [data-runs*='{code}']")
    assert curves.count() > 0
    assert curves.locator("visible=true").count() == 0
    assert page.locator("#shown").inner_text() == f"{len(STUDY.runs) - 1} of {len(STUDY.runs)} runs shown"
    page.locator("#filter button").click()
    assert shown(page) == everything


def test_a_filtered_view_can_be_shared(open_page):
    page = open_page()
    page.locator("#filter summary").click()
    page.locator("#filter input[data-factor=seed][value='1']").uncheck()
    fragment = "#" + page.url.partition("#")[2]
    again = open_page(fragment=fragment)
    assert shown(again) == shown(page)
    assert not again.locator("#filter input[data-factor=seed][value='1']").is_checked()


@pytest.mark.parametrize(("system", "other"), [("light", "dark"), ("dark", "light")])
def test_colours_follow_the_system_until_the_reader_chooses(open_page, system, other):
    page = open_page(color_scheme=system)

    def paper() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(",")))

    assert (paper() > 600) == (system == "light")
    page.locator("#theme").select_option(other)
    assert (paper() > 600) == (other == "light")


def csv_of(page, link) -> pd.DataFrame:
    with page.expect_download() as waiting:
        link.click()
    assert waiting.value.suggested_filename.endswith(".csv")
    return pd.read_csv(io.BytesIO(waiting.value.path().read_bytes()))


def test_numbers_come_out_as_they_went_in(open_page, frame):
    page = open_page()
    losses = csv_of(page, page.locator("#downloads a[download='losses.csv.gz']"))
    pd.testing.assert_frame_equal(losses, frame, check_dtype=False)
    figure = csv_of(page, page.locator("#line a[download='line.csv.gz']"))
    points = figure[(figure["kind"] == "point") & (figure["panel"] == "nats/token")].set_index(["runs", "step"])
    wiki = frame[frame["eval_set"] == X].set_index(["run_id", "step"])["nats_per_token"]
    assert points["x"].to_dict() == pytest.approx(wiki.to_dict(), rel=1e-6)
    assert (figure["kind"] == "line").any()
    verdicts = csv_of(page, page.locator("#verdicts a[download='verdict-table.csv.gz']"))
    assert verdicts["verdict"].tolist()[0] == "moves the line"


@pytest.mark.parametrize("width", [360, 390, 820])
def test_nothing_runs_out_of_a_narrow_window(open_page, width):
    page = open_page(width=width)
    page.locator("#filter summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_all_is_still_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("svg.plot title").count() > 50
    assert not page.locator("#filter").is_visible()
    assert page.locator("#verdict-table tbody tr").count() >= 4
