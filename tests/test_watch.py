"""`lossline report --watch`: served to this machine alone, with progress, renewed as rows come."""

import dataclasses
import http.client
import json
import threading
from http.server import ThreadingHTTPServer

import pytest
from browser import browser  # noqa: F401  (a fixture)
from etils import epath
from report_study import losses_table, step_rows, study_config

from lossline_jax import pipeline
from lossline_jax.errors import LosslineError
from lossline_jax.rundir import StudyDir, write_atomic
from lossline_jax.table import LossRow, append_rows
from lossline_jax.watch import HOST, Watch, _handler, frame_of_rows, serve

STUDY = dataclasses.replace(study_config(), validation_fraction=0.05)


@pytest.fixture
def folder(tmp_path):
    """A study whose runs have logged some steps and been scored nowhere yet."""
    folder = StudyDir(epath.Path(tmp_path) / STUDY.name)
    pipeline.save_study(STUDY, folder)
    for run_id, rows in step_rows(STUDY).items():
        logged = [row | {"tokens_per_second": 20e3, "time": 0.0} for row in rows[:5]]
        write_atomic(folder.run(run_id).steps_file, "".join(json.dumps(row) + "\n" for row in logged))
    return folder


def score(folder: StudyDir, runs) -> None:
    frame = losses_table(STUDY)
    for run in runs:
        rows = frame[frame["run_id"] == run.run_id].astype(object)
        append_rows(
            folder.loss_rows(run.run_id), [LossRow(**row) for row in rows.where(rows.notna(), None).to_dict("records")]
        )


@pytest.fixture
def watch(folder):
    def build() -> str:
        frame = frame_of_rows(STUDY, folder)
        if len(frame) < 50:
            raise LosslineError("too few points")
        return f"<html><body><main>{len(frame)} rows</main></body></html>"

    return Watch(STUDY, folder, build)


@pytest.fixture
def server(watch):
    made = ThreadingHTTPServer((HOST, 0), _handler(watch))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_port
    made.shutdown()
    made.server_close()


def get(port: int, path: str, host: str | None = None, method: str = "GET"):
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"{HOST}:{port}"})
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_before_the_first_rows_progress_stands_alone(watch, server):
    assert not watch.rebuild_if_grown()
    status, page = get(server, "/")
    assert status == 200
    assert 'id="live"' in page
    assert "<main>" not in page
    told = json.loads(get(server, "/progress.json")[1])
    assert (told["version"], told["note"]) == (0, "no checkpoint has been scored yet")
    assert [(run["run_id"], run["step"]) for run in told["runs"]] == [(run.run_id, 50) for run in STUDY.runs]
    assert told["runs"][0]["num_steps"] == STUDY.base.num_steps
    assert told["runs"][0]["loss"] == pytest.approx(3 + 4 * 2.718281828 ** (-50 / 40))


def test_it_is_built_when_rows_come_and_not_again_until_more_do(watch, server, folder):
    score(folder, STUDY.runs[:1])
    assert watch.rebuild_if_grown()
    assert json.loads(get(server, "/progress.json")[1])["note"] == "too few points"
    score(folder, STUDY.runs[1:])
    assert watch.rebuild_if_grown()
    assert not watch.rebuild_if_grown()
    page = get(server, "/")[1]
    assert f"<main>{len(losses_table(STUDY))} rows</main>" in page
    assert page.index('id="live"') < page.index("<main>")
    assert json.loads(get(server, "/progress.json")[1])["version"] == 1


@pytest.mark.parametrize(
    ("path", "host", "method", "status"),
    [
        ("/../study.json", None, "GET", 404),
        ("/figures/line.png", None, "GET", 404),
        ("/", "elsewhere.example:80", "GET", 403),
        ("/", "elsewhere.example", "GET", 403),
        ("/", None, "POST", 501),
    ],
)
def test_it_gives_nothing_else(server, path, host, method, status):
    assert get(server, path, host, method)[0] == status


def test_a_taken_port_is_one_line(watch, server):
    with pytest.raises(LosslineError, match=rf"--port {server}: cannot be listened on"):
        serve(watch, server, print)


def test_progress_shows_and_the_page_renews_itself(browser, watch, server, folder):  # noqa: F811
    page = browser.new_page()
    page.goto(f"http://{HOST}:{server}/")
    page.locator("#live-runs tr").first.wait_for()
    assert page.locator("#live-runs tr").count() == len(STUDY.runs)
    assert "0 of 7 runs done; no report yet" in page.locator("#live-said").inner_text()
    score(folder, STUDY.runs)
    watch.rebuild_if_grown()
    page.locator("main").wait_for(timeout=15_000)
    assert "rows" in page.locator("main").inner_text()
