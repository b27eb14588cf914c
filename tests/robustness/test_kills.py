"""A command that is killed and run again ends as an undisturbed one. Two commands at once both succeed."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lossline_jax.errors import RunFailed, RunLocked
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.losses.table import read_losses
from lossline_jax.pipeline import failures as failures_verbs
from lossline_jax.pipeline import report as report_verbs
from lossline_jax.pipeline import study as study_verbs
from lossline_jax.pipeline.study_files import open_study
from lossline_jax.storage.files import read_json

TESTS = Path(__file__).parents[1]


def environment():
    engines = ("SLURM_", "TPU_", "JAX_", "XLA_FLAGS", "OMPI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(engines)}
    return {**kept, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(TESTS.parent)}


def kills(count, seed):
    command = [sys.executable, str(TESTS / "robustness" / "kills.py"), str(count), str(seed)]
    process = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_a_killed_command_given_again_ends_as_an_undisturbed_one():
    assert "2 cases: 2 without effect" in kills(2, 0)


@pytest.mark.slow
@pytest.mark.skipif("ROBUSTNESS_ALL" not in os.environ, reason="several minutes; set ROBUSTNESS_ALL=1")
def test_every_verb_killed_at_writes_renames_folders_and_moments():
    assert "26 cases: 26 without effect" in kills(26, 1)


@pytest.mark.slow
def test_two_runs_at_once_from_nothing_both_end_well(tmp_path):
    command = [
        sys.executable,
        "-m",
        "lossline_jax",
        "run",
        str(TESTS / "support" / "tiny_study.py"),
        "--root",
        str(tmp_path),
    ]
    command += ["--max-bytes", "60000", "--tokens", "4096"]
    options = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **options) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0, 0], "\n\n".join(err[-1000:] for _, err in outputs)
    assert all("report: " in out and "not finished" not in out for out, _ in outputs)
    status = subprocess.run([*command[:3], "status", str(tmp_path / "tiny")], **options)
    assert "3 of 3 runs done; 45 of 45 rows, 0 missing, 0 double" in status.stdout


def test_a_run_of_another_process_is_awaited_and_continued(capsys):
    runs = [SimpleNamespace(run_id=name) for name in ("done", "busy", "failed")]
    waited = []

    def train_and_evaluate(run, wait=False):
        waited.append((run.run_id, wait))
        if run.run_id == "failed":
            raise RunFailed("the other process says why")

    runner = SimpleNamespace(study=SimpleNamespace(runs=runs), train_and_evaluate=train_and_evaluate)
    failures = {"busy": RunLocked("lock"), "failed": RunLocked("lock")}
    finished, new_failures = study_verbs._retry_locked_runs(runner, failures)
    assert waited == [("busy", True), ("failed", True)]
    assert finished == {"busy"}
    assert {run_id: str(error) for run_id, error in new_failures.items()} == {"failed": "the other process says why"}
    assert "another process works on busy; waiting until it is done" in capsys.readouterr().err


def test_runs_that_another_process_keeps_are_named_with_what_to_do():
    with pytest.raises(RunLocked, match="another process works on a, b; run again when it is done"):
        failures_verbs.raise_failures({"a": RunLocked("lock"), "b": RunLocked("lock")})
    with pytest.raises(RunFailed, match="2 runs failed or are busy"):
        failures_verbs.raise_failures({"a": RunLocked("lock"), "b": RunFailed("nan")})


def test_a_page_says_which_runs_it_lacks():
    study, folder = open_study(str(TESTS / "golden" / "old_study"))
    frame, fits = read_losses(folder.losses_parquet), StudyFits.from_json(read_json(folder.fits_file))
    assert report_verbs._with_unfinished(fits, study, folder, frame) == fits
    run = study.runs[1]
    partial = frame[(frame["run_id"] != run.run_id) | (frame["step"] < run.num_steps)]
    (note,) = set(report_verbs._with_unfinished(fits, study, folder, partial).failures) - set(fits.failures)
    count = len(run.checkpoint_steps)
    assert note.startswith(f"run {run.run_id} is not finished, {count - 1} of {count} checkpoints are in the losses")
