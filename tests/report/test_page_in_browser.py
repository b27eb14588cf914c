"""The page in a browser requests nothing, shows points, filters runs, changes colours and offers its numbers."""

import io

import pandas as pd
import pytest
from etils import epath

from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.formatting import human_count
from lossline_jax.report.page import write_report
from tests.support.browser import browser, until  # noqa: F401  (a fixture)
from tests.support.paths import ROOT
from tests.support.report_study import X, Y, losses_table, step_rows, study_config

STUDY = study_config()
DRAWING = "#line svg.plot >> nth=0"
BASE_POINTS = "#line-0-points-0 [data-run]"
CODE = next(run.run_id for run in STUDY.runs if run.factors["data"] == "code")


@pytest.fixture(scope="module")
def frame():
    return losses_table(STUDY)


@pytest.fixture(scope="module")
def address(frame, tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("page"))
    fits = fit_study(frame, X, Y, statistics=Statistics(num_resamples=20))
    return f"file://{write_report(frame, fits, folder, 'small', study=STUDY, steps=step_rows(STUDY))}"


@pytest.fixture
def open_page(browser, address):  # noqa: F811
    opened = []

    def open_(width=1280, fragment="", **kwargs):
        context = browser.new_context(viewport={"width": width, "height": 900}, **kwargs)
        page = context.new_page()
        page.messages, page.requested_urls = [], []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.on("request", lambda request: page.requested_urls.append(request.url))
        page.goto(address + fragment)
        opened.append(context)
        return page

    yield open_
    for context in opened:
        context.close()


def count_shown(page) -> int:
    return page.locator("svg.plot [data-run]:not(.filtered)").count()


@pytest.mark.slow
def test_it_renders_without_errors_and_asks_for_nothing(open_page, address):
    page = open_page()
    assert page.messages == []
    assert {url for url in page.requested_urls if not url.startswith("data:")} == {address}
    assert page.locator("#verdicts").bounding_box()["y"] < page.locator("#line").bounding_box()["y"]


def point_near(page, point, dx: float = 0.0):
    """Return the window position `dx` pixels to the right of `point`."""
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    return box["x"] + box["width"] / 2 + dx, box["y"] + box["height"] / 2


def test_pointing_near_a_point_tells_run_step_tokens_and_losses(open_page, frame):
    page = open_page()
    tip = page.locator("#tip")
    assert not tip.is_visible()
    page.mouse.move(*point_near(page, page.locator("#line-0-points-1 [data-run]").last, dx=6))
    name, position, losses, run = tip.inner_text().split("\n")
    assert name == "data: code"
    rows = frame[(frame["run_id"] == run) & (frame["step"] == frame["step"].max())].set_index("eval_set")
    assert run == CODE
    assert position == f"step {rows['step'].iloc[0]:,} · {human_count(rows['tokens_seen'].iloc[0])} tokens"
    assert losses == f"{X} {rows.at[X, 'nats_per_token']:.4f} · {Y} {rows.at[Y, 'nats_per_token']:.4f} nats/token"
    same = page.locator(f"{DRAWING} >> .same-run")
    assert same.count() == len(STUDY.base.checkpoint_steps)
    assert {same.nth(k).get_attribute("data-run") for k in range(same.count())} == {run}
    assert page.locator(".ring").is_visible()
    inside = page.evaluate("(box => box.left >= 0 && box.right <= innerWidth)(tip.getBoundingClientRect())")
    assert inside
    page.mouse.move(2, 2)
    assert not tip.is_visible()
    assert page.locator(".same-run, .ring").count() == 0


def test_arrow_keys_walk_along_the_points_and_to_other_runs(open_page):
    page = open_page()
    page.locator(DRAWING).focus()

    def press(key: str) -> tuple[str, int]:
        page.keyboard.press(key)
        _, position, _, run = page.locator("#tip").inner_text().split("\n")
        return run, int(position.split()[1].replace(",", ""))

    steps = STUDY.base.checkpoint_steps
    first = press("ArrowRight")
    assert [press("ArrowRight"), press("ArrowLeft")] == [(first[0], steps[1]), first]
    assert press("ArrowDown")[0] != first[0]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    stops = page.evaluate("document.querySelectorAll('svg [tabindex], svg a').length")
    assert stops == 0  # the tab key stops once at a drawing, and not at its points


def test_a_tap_shows_a_point_and_a_tap_elsewhere_hides_it(open_page):
    page = open_page(width=390, has_touch=True)
    page.touchscreen.tap(*point_near(page, page.locator(BASE_POINTS).last, dx=-9))
    assert page.locator("#tip").is_visible()
    page.locator("#line h2").tap()
    assert not page.locator("#tip").is_visible()


def test_filter_shows_the_pressed_levels_alone_and_restores_the_rest(open_page):
    page = open_page()
    num_points = count_shown(page)
    page.locator("nav a[href='#runs']").click()  # opens the folded section
    page.locator("#filter summary").click()
    page.locator("#filter button[data-factor=data][data-level=code]").click()
    selectors = [
        f"svg.plot [data-run='{CODE}']",
        f"#runs-table tr[data-run='{CODE}']",
        f"#losses-table tr[data-run='{CODE}']",
    ]
    for selector in selectors:
        assert page.locator(f"{selector}:not(.filtered)").count() == page.locator(selector).count() > 0
    assert 0 < count_shown(page) == page.locator(selectors[0]).count() < num_points
    visible = [page.locator(f"#{name}-table tbody tr[data-run] >> visible=true").count() for name in ("runs", "losses")]
    assert visible == [1, 1]
    runs_of = page.locator("svg.plot [data-runs] >> visible=true").evaluate_all("all => all.map(g => g.dataset.runs)")
    assert runs_of
    assert all(CODE in runs for runs in runs_of)
    assert page.locator("#shown").inner_text() == f"showing 1 of {len(STUDY.runs)} runs"
    page.locator("#filter button[data-factor=seed][data-level='1']").click()  # no run of this seed is trained on code
    assert page.locator("#shown").inner_text() == f"showing 0 of {len(STUDY.runs)} runs"
    page.locator("#show-all").click()
    assert count_shown(page) == num_points
    assert page.locator("#shown").inner_text() == "showing {0} of {0} runs".format(len(STUDY.runs))
    assert "#" not in page.url


def test_sections_after_the_third_are_folded_until_a_link_leads_there(open_page):
    page = open_page()
    assert page.locator("#line svg.plot").first.is_visible()
    assert not page.locator("#fits table").first.is_visible()
    page.locator("nav a[href='#fits']").click()
    assert page.locator("#fits table").first.is_visible()
    until(lambda: 0 <= page.evaluate("document.querySelector('#fits h2').getBoundingClientRect().top") < 120)


def test_points_that_are_filtered_out_do_not_answer(open_page):
    page = open_page(fragment="#only?data=wiki")
    page.locator(DRAWING).focus()
    runs = set()
    for _ in range(len(STUDY.runs)):
        page.keyboard.press("ArrowDown")
        runs.add(page.locator("#tip span").last.inner_text())
    assert CODE not in runs
    assert len(runs) > 2


def test_a_filtered_view_can_be_shared_and_outlives_a_link_to_a_section(open_page):
    page = open_page()
    page.locator("#filter summary").click()
    page.locator("#filter button[data-factor=seed][data-level='1']").click()
    page.locator("#filter button[data-factor=seed][data-level='2']").click()
    assert page.locator("#shown").inner_text() == f"showing 2 of {len(STUDY.runs)} runs"
    address = page.url
    page.locator("nav a[href='#runs']").click()
    top = "document.getElementById('runs').getBoundingClientRect().top"
    until(lambda: abs(page.evaluate(top)) < 100)
    assert page.url == address
    second_page = open_page(fragment="#" + address.partition("#")[2])
    assert count_shown(second_page) == count_shown(page)
    assert second_page.locator("#filter [aria-pressed=true]").count() == 2
    page_without_matches = open_page(fragment="#only?seed=99&planet=mars")
    assert page_without_matches.messages == []


@pytest.mark.parametrize(("system", "chosen"), [("light", "dark"), ("dark", "light")])
def test_colours_follow_the_system_until_the_reader_chooses(open_page, system, chosen):
    page = open_page(color_scheme=system)

    def paper() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(",")))

    assert (paper() > 600) == (system == "light")
    page.locator("#theme").select_option(chosen)
    assert (paper() > 600) == (chosen == "light")
    page.reload()
    assert (paper() > 600) == (chosen == "light")
    page.locator("#theme").select_option("auto")
    assert (paper() > 600) == (system == "light")


def csv_of(page, link) -> pd.DataFrame:
    with page.expect_download() as waiting:
        link.click()
    assert waiting.value.suggested_filename.endswith(".csv")
    return pd.read_csv(io.BytesIO(waiting.value.path().read_bytes()))


def test_numbers_come_out_as_they_went_in(open_page, frame):
    page = open_page()
    losses = csv_of(page, page.locator("#downloads a[download='losses.csv.gz']"))
    stated, losses = (table.dropna(axis="columns", how="all") for table in (frame, losses))
    pd.testing.assert_frame_equal(losses, stated, check_dtype=False)
    figure = csv_of(page, page.locator("#line a[download='line.csv.gz']"))
    points = figure[(figure["kind"] == "point") & (figure["panel"] == "bits/byte")].set_index(["runs", "step"])
    for axis, name in (("x", X), ("y", Y)):
        assert set(points[f"{axis}_axis"]) == {f"{name} loss (bits/byte)"}
        expected = frame[frame["eval_set"] == name].set_index(["run_id", "step"])["bits_per_byte"]
        assert points[axis].to_dict() == pytest.approx(expected.to_dict(), rel=1e-6)
    assert (figure["kind"] == "line").any()
    last = frame[frame["step"] == frame.groupby("run_id")["step"].transform("max")].set_index(["run_id", "eval_set"])
    page.locator("nav a[href='#runs']").click()
    table = csv_of(page, page.locator("#runs a[download='losses-table.csv.gz']")).set_index("run_id")
    for (run_id, name), row in last.iterrows():
        for column in ("nats_per_token", "bits_per_byte"):
            assert table.at[run_id, f"{name} {column}"] == row[column]
    verdicts = csv_of(page, page.locator("#verdicts a[download='verdict-table.csv.gz']"))
    assert verdicts["verdict"].tolist()[0] == "moves the line"


def test_the_tables_of_the_committed_study_fit_a_desktop(open_page):
    """Its levels have all the columns there are: two units, a course, detectable gaps and speedups of two sets."""
    page = open_page()
    page.goto((ROOT / "results/llms_on_the_line_cpu/report.html").as_uri())
    scrolls = "(box) => box.checkVisibility() && box.scrollWidth > box.clientWidth"
    wide = f"[...document.querySelectorAll('.scroll')].filter({scrolls}).length"
    assert page.locator("#verdicts table").is_visible()
    assert page.evaluate(wide) == 0


@pytest.mark.parametrize("width", [360, 390, 820])
def test_nothing_runs_out_of_a_narrow_window(open_page, width):
    page = open_page(width=width)
    page.locator("#filter summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details.fold').forEach((fold) => { fold.open = true; })")
    wide = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
    if width < 500:  # a table is a list of cards here
        assert page.evaluate(wide) == 0
    assert page.locator("#filter button[data-factor=data]").first.is_visible()
    assert page.locator("#filter").bounding_box()["height"] <= 0.75 * 900


@pytest.mark.slow
def test_without_scripts_all_is_still_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("svg.plot title").count() > 50
    assert not page.locator("#filter").is_visible()
    assert page.locator("#verdict-table tbody tr").count() >= 4
