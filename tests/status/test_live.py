"""`lossline-jax report --watch` serves progress and a page to this machine alone, and rebuilds it for new rows."""

import dataclasses
import http.client
import json
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
from etils import epath

from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.errors import LosslineError
from lossline_jax.losses.current_rows import current_rows
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.losses.row_count import count_rows, read_suite_sets
from lossline_jax.losses.table import append_rows, read_loss_rows
from lossline_jax.pipeline import study_files as study_files_verbs
from lossline_jax.status.live import LiveProgress, losses_so_far
from lossline_jax.status.server import HOST, LiveReport, serve, start_server
from lossline_jax.storage.files import write_atomic, write_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import write_result
from tests.support.browser import browser, until  # noqa: F401  (a fixture)
from tests.support.report_study import losses_table, result_of, step_rows, study_config

SUITE = SuiteConfig(validation=(ValidationSet("wiki"), ValidationSet("code")), cloze=(ClozeTask("wiki"),))
STUDY = dataclasses.replace(study_config(), suite=SUITE, validation_fraction=0.05)
TALL = "".join(f"<h2>Part {k}</h2><p style='height: 900px'>text</p>" for k in range(6))


@pytest.fixture
def folder(tmp_path):
    """Make a study whose runs have logged some steps and have no scores yet."""
    folder = StudyDir(epath.Path(tmp_path) / STUDY.name)
    study_files_verbs.save_study(STUDY, folder)
    write_json(folder.prepared_file, {"suites": {run.run_id: "suite" for run in STUDY.runs}})
    kinds = losses_table(STUDY).drop_duplicates("eval_set")
    sets = [
        {"name": name, "fingerprint": "f", "definition": definition}
        for name, definition in zip(kinds["eval_set"], kinds["loss_definition"], strict=True)
    ]
    write_json(folder.suites / "suite" / "manifest.json", {"sets": sets, "problems": {}})
    for run in STUDY.runs:
        log(folder, run, 5)
    return folder


def log(folder: StudyDir, run, count: int) -> None:
    """Write the first `count` rows of the run's log: a row every ten steps, 16384 tokens a second."""
    rows = [row | {"tokens_per_second": 16384.0, "time": 0.0} for row in step_rows(STUDY)[run.run_id][:count]]
    write_atomic(folder.run(run.run_id).steps_file, "".join(json.dumps(row) + "\n" for row in rows))


def rows_of(run) -> list[LossRow]:
    frame = losses_table(STUDY)
    rows = frame[frame["run_id"] == run.run_id].astype(object)
    return [LossRow(**row) for row in rows.where(rows.notna(), None).to_dict("records")]


def score(folder: StudyDir, runs) -> None:
    for run in runs:
        append_rows(folder.loss_rows(run.run_id), rows_of(run))


@pytest.fixture
def watch(folder):
    def build() -> str:
        frame = losses_so_far(STUDY, folder)
        if len(frame) < 50:
            raise LosslineError("too few points")
        return f"<html><body><main><h1>{len(frame)} rows</h1>{TALL}</main></body></html>"

    return LiveReport(STUDY, folder, build)


@pytest.fixture
def server(watch):
    http_server = start_server(watch, 0)
    yield http_server.server_port
    http_server.shutdown()
    http_server.server_close()


def get(port: int, path: str, host: str | None = None, method: str = "GET"):
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"{HOST}:{port}"})
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_losses_so_far_are_those_of_the_table(folder):
    failed_run, *other_runs = STUDY.runs
    score(folder, STUDY.runs)
    write_json(folder.run(failed_run.run_id).failed_file, {"reason": "loss is not finite"})
    append_rows(folder.loss_rows(other_runs[0].run_id), rows_of(other_runs[0])[:3])  # three rows twice
    outdated = [dataclasses.replace(row, eval_fingerprint="older") for row in rows_of(other_runs[1])]
    append_rows(folder.loss_rows(other_runs[1].run_id), outdated)
    whole = losses_table(STUDY)
    expected = whole[whole["run_id"] != failed_run.run_id].reset_index(drop=True)
    pd.testing.assert_frame_equal(losses_so_far(STUDY, folder), expected, check_dtype=False)


def test_a_run_newer_than_prepare_has_no_rows_and_does_not_end_the_page(folder):
    newer_run, *prepared_runs = STUDY.runs
    score(folder, prepared_runs)
    write_json(folder.prepared_file, {"suites": {run.run_id: "suite" for run in prepared_runs}})
    assert set(losses_so_far(STUDY, folder)["run_id"]) == {run.run_id for run in prepared_runs}
    assert newer_run.run_id in {run["run_id"] for run in LiveProgress(STUDY, folder).read()["runs"]}


def test_rows_that_count_are_the_same_for_page_count_and_table(folder):
    """The page, the count and the table treat changed sets, double rows and older definitions alike."""
    run = STUDY.runs[0]
    double, old = rows_of(run)[:3], [dataclasses.replace(row, eval_fingerprint="older") for row in rows_of(run)[5:7]]
    other_words = [dataclasses.replace(row, loss_definition="in older words") for row in rows_of(run)]
    append_rows(folder.loss_rows(run.run_id), [*other_words, *double, *old])
    sets, names = read_suite_sets(folder, "suite"), tuple(losses_table(STUDY)["eval_set"].unique())
    count = count_rows(folder, run.run_id, run.checkpoint_steps, set_names=names, sets=sets)
    page = losses_so_far(STUDY, folder)
    assert (count.scored, count.duplicates) == (len(page), 3) == (len(rows_of(run)), 3)
    assert current_rows(read_loss_rows(folder.loss_rows(run.run_id)), sets) == rows_of(run)
    assert page["loss_definition"].tolist() == [row.loss_definition for row in rows_of(run)]


def test_progress_shows_state_speed_and_time_left(folder):
    finished_run, active_run, *_ = STUDY.runs
    log(folder, finished_run, 10**6)
    write_result(folder.run(finished_run.run_id), result_of(finished_run, 61.0))
    progress = LiveProgress(STUDY, folder)
    with hold_run_lock(folder.run(active_run.run_id).lock_file):
        snapshot = progress.read()
        by_run = {run["run_id"]: run for run in snapshot["runs"]}
        assert [run["state"] for run in snapshot["runs"][:3]] == ["done", "running", "stopped"]
        assert (
            by_run[finished_run.run_id]["note"]
            == "1m01s; steps.jsonl has no rows after step 190, restore it from a copy"
        )
        seconds_left = (active_run.num_steps - 50) * 64 * 16 / 16384
        assert by_run[active_run.run_id]["seconds_left"] == pytest.approx(seconds_left)
        assert snapshot["seconds_left"] == pytest.approx(seconds_left * (len(STUDY.runs) - 1))
        log(folder, active_run, 6)
        assert progress.read()["runs"][1]["step"] == 60
    assert progress.read()["seconds_left"] is None


def test_before_the_first_rows_progress_stands_alone(watch, server):
    assert not watch.rebuild_if_grown()
    status, page = get(server, "/")
    assert status == 200
    assert 'id="live"' in page
    assert "<main>" not in page
    snapshot = json.loads(get(server, "/progress.json")[1])
    assert (snapshot["version"], snapshot["note"]) == (0, "no checkpoint has been scored yet")
    assert [(run["run_id"], run["step"]) for run in snapshot["runs"]] == [(run.run_id, 50) for run in STUDY.runs]
    assert snapshot["runs"][0]["num_steps"] == STUDY.base.num_steps
    assert snapshot["runs"][0]["loss_nats_per_token"] == pytest.approx(3 + 4 * 2.718281828 ** (-50 / 40))


def test_the_page_is_built_when_rows_come_and_again_only_for_more_rows(watch, server, folder):
    score(folder, STUDY.runs[:1])
    assert watch.rebuild_if_grown()
    assert json.loads(get(server, "/progress.json")[1])["note"] == "too few points"
    score(folder, STUDY.runs[1:])
    assert watch.rebuild_if_grown()
    assert not watch.rebuild_if_grown()
    page = get(server, "/")[1]
    assert f"<main><h1>{len(losses_table(STUDY))} rows</h1>" in page
    assert page.index('id="live"') < page.index("<main>")
    assert json.loads(get(server, "/progress.json")[1])["version"] == 1


@pytest.mark.parametrize(
    ("path", "host", "method", "status"),
    [
        ("/../study.json", None, "GET", 404),
        ("/figures/line.png", None, "GET", 404),
        ("/", "elsewhere.example:80", "GET", 403),
        ("/", "elsewhere.example", "GET", 403),
        ("/", f"{HOST}:1", "GET", 403),
        ("/progress.json", "elsewhere.example", "GET", 403),
        ("/", None, "POST", 501),
    ],
)
def test_the_server_refuses_other_paths_hosts_and_methods(server, path, host, method, status):
    assert get(server, path, host, method)[0] == status


def test_both_names_of_this_machine_are_answered(server):
    assert get(server, "/", f"localhost:{server}")[0] == 200


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_one_line(watch, port):
    with pytest.raises(LosslineError, match=rf"^--port {port}: the server cannot listen on it .*; give another port"):
        serve(watch, port, print)


def test_a_taken_port_is_one_line(watch, server):
    with pytest.raises(
        LosslineError, match=rf"^--port {server}: the server cannot listen on it \(Address already in use\)"
    ):
        serve(watch, server, print)


def test_a_damaged_file_is_reported_and_the_server_lives(server, folder):
    write_atomic(folder.run(STUDY.base.run_id).failed_file, "{")
    status, body = get(server, "/progress.json")
    assert (status, "failed.json: not valid JSON" in body) == (500, True)
    assert get(server, "/")[0] == 200


# A shell lets background jobs and their children ignore interrupts. This command handles them in any case.
HEEDING = """
import signal
from lossline_jax.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_the_verb_serves_until_interrupted_and_leaves_the_study_as_it_was(folder, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = [sys.executable, "-c", HEEDING, "report", str(folder.root), "--watch", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            assert line.startswith(f"http://{HOST}:"), line
            port = int(re.search(r":(\d+)/ ", line)[1])
            snapshot = json.loads(get(port, "/progress.json")[1])
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert process.stderr.read() == "stopped watching\n"
        finally:
            process.kill()
    assert len(snapshot["runs"]) == len(STUDY.runs)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_progress_shows_and_the_page_renews_itself(browser, watch, server, folder):  # noqa: F811
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    console_messages = []
    page.on("console", lambda message: console_messages.append(message.text))
    page.on("pageerror", lambda error: console_messages.append(str(error)))
    page.goto(f"http://{HOST}:{server}/")
    page.locator("#live-now tr").first.wait_for()
    assert page.locator("#live-now tr").count() == len(STUDY.runs)
    assert "0 done" in page.locator("#live-said").inner_text()
    assert page.locator("#live-note").inner_text() == "No report yet: no checkpoint has been scored yet"

    log(folder, STUDY.base, 8)
    page.locator("#live-now tr", has_text="step 80 of").wait_for(timeout=15_000)

    score(folder, STUDY.runs[:-1])
    watch.rebuild_if_grown()
    page.locator("main h1").wait_for(timeout=15_000)
    page.locator("#live-now tr").first.wait_for()
    page.locator("#live-details summary").click()
    page.evaluate("document.querySelectorAll('h2')[3].scrollIntoView(); scrollBy(0, 123)")
    top = "document.querySelectorAll('h2')[3].getBoundingClientRect().top"
    before, rows = page.evaluate(top), page.locator("main h1").inner_text()
    score(folder, STUDY.runs[-1:])
    watch.rebuild_if_grown()
    until(lambda: page.locator("main h1").inner_text() != rows)
    page.locator("#live-runs tr").first.wait_for()
    assert page.evaluate(top) == pytest.approx(before, abs=2)
    assert console_messages == []
    page.close()
