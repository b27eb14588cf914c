"""`lossline-jax status` and `lossline-jax resubmit` read every state of a run from the run folders alone."""

import dataclasses
import json
import re
import subprocess
import sys
import time

import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.cli.main import main
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.errors import LosslineError
from lossline_jax.losses.loss_row import LossRow
from lossline_jax.losses.table import append_rows, write_frame
from lossline_jax.pipeline import report as report_verbs
from lossline_jax.pipeline import study_files as study_files_verbs
from lossline_jax.status.resubmit import index_ranges
from lossline_jax.status.runs import Cost, failed_runs, last_row, run_cost, run_status
from lossline_jax.status.study import read_status
from lossline_jax.storage.files import write_atomic, write_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_lock import hold_run_lock
from lossline_jax.storage.run_records import (
    CheckpointMeta,
    CheckpointRecord,
    write_checkpoint,
    write_failure,
    write_result,
)
from lossline_jax.summary import as_text
from lossline_jax.summary.status import status_text
from tests.support.report_study import losses_table, result_of, study_config

SUITE = SuiteConfig(validation=(ValidationSet("wiki"), ValidationSet("code")), cloze=(ClozeTask("wiki"),))
STUDY = dataclasses.replace(study_config(), suite=SUITE, validation_fraction=0.05)
STUDY = dataclasses.replace(STUDY, runs=STUDY.runs[:6])
DONE, RUNNING, FAILED, STOPPED, PENDING, UNSCORED = STUDY.runs
NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path):
    """Make six runs: done, running (where a test holds its lock), failed, stopped, pending, and done except a row."""
    folder = StudyDir(epath.Path(tmp_path) / STUDY.name)
    study_files_verbs.write_manifest(STUDY, folder)
    write_json(folder.prepared_file, {"suites": {run.run_id: "suite" for run in STUDY.runs}})
    sets = [{"name": name, "fingerprint": "f", "definition": "words"} for name in STUDY.suite.set_names]
    write_json(folder.suites / "suite" / "manifest.json", {"sets": sets, "problems": {}})
    for run, step in ((DONE, DONE.num_steps), (RUNNING, 50), (FAILED, 30), (STOPPED, 20), (UNSCORED, 5)):
        log(folder, run, step)
    for run in (DONE, UNSCORED):
        write_result(folder.run(run.run_id), result_of(run, 1800.0, num_devices=16, device_kind="TPU v5 lite"))
    write_failure(folder.run(FAILED.run_id), "loss is nan at step 31", step=31, learning_rate=0.1)
    append_rows(folder.loss_rows(DONE.run_id), rows_of(DONE))
    append_rows(folder.loss_rows(UNSCORED.run_id), rows_of(UNSCORED)[:-1])
    return folder


def log(folder: StudyDir, run, step: int) -> None:
    row = {"step": step, "loss_nats_per_token": 3.5, "tokens_per_second": 16384.0, "time": NOW}
    write_atomic(folder.run(run.run_id).steps_file, json.dumps(row) + "\n")


def rows_of(run) -> list[LossRow]:
    """Return a row for every (checkpoint, set)."""
    frame = losses_table(STUDY)
    like = frame[frame["run_id"] == run.run_id].iloc[:1].astype(object)
    first = LossRow(**like.where(like.notna(), None).to_dict("records")[0])
    return [
        dataclasses.replace(first, step=step, eval_set=name, eval_fingerprint="f")
        for step in run.checkpoint_steps
        for name in STUDY.suite.set_names
    ]


def line_of(text: str, run) -> str:
    """Return the row of a run, and its note below the table."""
    index, lines = STUDY.runs.index(run), text.splitlines()
    (row,) = [line for line in lines if line.startswith(f"{index}  ")]
    assert row.split()[1] in run.run_id  # a long id has two lines
    return " ".join([row, *(line for line in lines if line.startswith(f"  {index}: "))])


def test_status_shows_state_time_left_reason_and_cost_of_each_run(folder):
    with hold_run_lock(folder.run(RUNNING.run_id).lock_file):
        text = status_text(read_status(STUDY, folder))
    left = (RUNNING.num_steps - 50) * RUNNING.tokens_per_step / 16384
    assert re.search(
        rf" running +50/{RUNNING.num_steps} +3.500 .* {left:.0f}s .*16.4k tokens/s", line_of(text, RUNNING)
    )
    assert re.search(r" done .* 8 +30m00s$", line_of(text, DONE))
    assert "loss is nan at step 31" in line_of(text, FAILED)
    assert re.search(r" stopped .*the same command resumes it", line_of(text, STOPPED))
    assert re.search(rf" pending +0/{PENDING.num_steps} ", line_of(text, PENDING))
    summary = text.split("\n\n")[-1].splitlines()
    assert summary[0].startswith("2 of 6 runs done, 1 running, 1 stopped, 1 failed; ")
    assert summary[1].startswith("about ")
    assert summary[2:] == ["spent 16 chip-hours of TPU v5 lite, $19.20 on demand", "report: not yet written"]


@pytest.mark.parametrize("seconds", [-86_400, 0, 3600])
def test_a_clock_that_was_set_back_gives_no_negative_age(folder, monkeypatch, seconds):
    monkeypatch.setattr(time, "time", lambda: NOW + seconds)
    directory = folder.run(STOPPED.run_id)
    note = run_status(STOPPED, directory, last_row(directory)).note
    assert note.startswith("last step 1h00m ago" if seconds > 0 else "last step 0s ago")


def test_the_cost_of_an_unfinished_run_is_that_of_its_newest_whole_checkpoint(folder):
    directory = folder.run(STOPPED.run_id)
    assert run_cost(directory) is None
    for step, wall in ((10, 360.0), (20, 720.0)):
        meta = CheckpointMeta(step, 16 * step, "data", "run", {"wall": wall}, num_devices=4, device_kind="H100")
        write_checkpoint(directory, CheckpointRecord(meta, files={}))
    (directory.checkpoints / "00000030").mkdir()  # the folder that a killed save leaves
    assert run_cost(directory) == Cost(pytest.approx(0.8), "H100")
    (directory.checkpoints / "00000020" / "meta.json").write_text('{"meta')
    assert run_cost(directory) is None


def test_a_run_whose_devices_nobody_wrote_down_has_no_cost(folder):
    write_result(folder.run(DONE.run_id), result_of(DONE, 1800.0))
    assert run_cost(folder.run(DONE.run_id)) is None


def test_failed_runs_have_no_part_in_fits_and_are_named_there(folder):
    """One of the runs failed after it was scored."""
    failures = failed_runs(STUDY, folder)
    assert failures == {FAILED.run_id: "loss is nan at step 31"}
    frame = losses_table(STUDY)
    write_frame(frame, folder.losses_parquet)
    with pytest.raises(LosslineError, match=r"or that have failed .*`lossline-jax evaluate` again"):
        report_verbs.fit(STUDY, folder)
    write_frame(frame[frame["run_id"] != FAILED.run_id], folder.losses_parquet)
    text = as_text(report_verbs.fit(STUDY, folder))
    assert f"run {FAILED.run_id} failed and is left out: loss is nan at step 31" in " ".join(text.split())
    fits = json.loads(folder.fits_file.read_text())
    assert not [line for line in fits["lines"] if FAILED.run_id in line["run_ids"]]


def test_a_report_of_other_axes_than_those_fitted_is_refused(folder):
    frame = losses_table(STUDY)
    write_frame(frame[frame["run_id"] != FAILED.run_id], folder.losses_parquet)
    report_verbs.fit(STUDY, folder)
    turned = dataclasses.replace(STUDY, x=STUDY.y, y=STUDY.x)
    with pytest.raises(LosslineError, match=r"the fits are of .* run `lossline-jax fit` again"):
        report_verbs.report(turned, folder)


def resubmit(capsys, *argv):
    main(["resubmit", *argv])
    return capsys.readouterr()


def test_resubmit_lists_what_is_not_done_and_says_what_it_leaves_out(folder, capsys):
    manifest = str(folder.root / "manifest.jsonl")
    with hold_run_lock(folder.run(RUNNING.run_id).lock_file):
        out, err = resubmit(capsys, manifest)
    assert out == "3-5\n"
    assert err.splitlines() == [
        "3 of 6 runs to start; 1 are done",
        f"left out: 1 {RUNNING.run_id}: running",
        f"left out: 2 {FAILED.run_id}: failed: loss is nan at step 31 (--failed includes it)",
    ]
    assert resubmit(capsys, str(folder.root), "--failed").out == "1-5\n"


def test_resubmit_takes_the_experiment_file_too(folder, tmp_path, capsys):
    experiment = tmp_path / "experiment.py"
    experiment.write_text(
        "from tests.support.report_study import study_config\n\ndef study():\n    return study_config()\n"
    )
    by_folder = resubmit(capsys, str(folder.root))
    assert by_folder.out == "1,3-5\n"
    assert resubmit(capsys, str(experiment), "--root", str(folder.root.parent)) == by_folder


def test_a_run_that_cannot_be_scored_is_a_failed_one(folder, capsys):
    write_json(folder.unscored_file(UNSCORED.run_id), {"reason": "step 7: loss of wiki is nan"})
    out, err = resubmit(capsys, str(folder.root))
    assert out == "1,3-4\n"
    assert f"left out: 5 {UNSCORED.run_id}: failed: step 7: loss of wiki is nan" in err


def test_resubmit_prints_nothing_once_all_is_done(folder, capsys):
    (folder.run(FAILED.run_id).failed_file).unlink()
    for run in STUDY.runs:
        write_result(folder.run(run.run_id), result_of(run, 1.0))
        folder.loss_rows(run.run_id).unlink(missing_ok=True)
        append_rows(folder.loss_rows(run.run_id), rows_of(run))
    out, err = resubmit(capsys, str(folder.root))
    assert (out, err) == ("", "all 6 runs are done\n")


def test_a_manifest_of_other_runs_is_refused(folder, capsys):
    (folder.root / "manifest.jsonl").write_text('{"run_id": "nobody"}\n')
    with pytest.raises(SystemExit) as stop:
        main(["resubmit", str(folder.root)])
    assert stop.value.code == 2
    assert "write it again: lossline-jax plan" in capsys.readouterr().err


def test_resubmit_and_status_need_no_jax(folder):
    for verb in ("resubmit", "status"):
        code = f"import sys; from lossline_jax.cli.main import main; main([{verb!r}, {str(folder.root)!r}]); "
        code += "assert not {'jax', 'pandas', 'flax'} & sys.modules.keys(), 'slow'"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@given(st.sets(st.integers(0, 60)))
def test_compact_indices_name_each_run_once(indices):
    text = index_ranges(sorted(indices))
    parsed_indices = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        parsed_indices += range(int(first), int(last or first) + 1)
    assert parsed_indices == sorted(indices)
    assert len(text.split(",")) <= max(1, len(indices))


def test_rows_of_a_run_whose_folder_was_deleted_are_reported(folder):
    run_id = DONE.run_id
    assert "its rows still count" not in status_text(read_status(STUDY, folder))
    folder.run(run_id).root.rmtree()
    line = line_of(status_text(read_status(STUDY, folder)), DONE)
    assert " pending " in line
    assert "its folder is gone, its rows still count: `prune --removed-runs`, or train it again" in line
