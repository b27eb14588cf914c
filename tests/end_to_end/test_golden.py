"""Run ids are those of commit 3fa8c55. A study folder of that commit opens, and nothing is trained again."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from lossline_jax.cli.main import main
from lossline_jax.config.validate import validate_study
from lossline_jax.pipeline.experiment import load_study_function
from tests.support.paths import ROOT, TESTS

GOLDEN = TESTS / "golden"
RUN_IDS = json.loads((GOLDEN / "run_ids.json").read_text())
EXPERIMENTS = ROOT / "experiments"

# SHA-256 of the ids joined by newlines, first 16 digits, as they were at commit 3fa8c55
DIGESTS = {
    "llms_on_the_line": "72d4a95c0f882fd7",
    "llms_on_the_line_cpu": "96eb33bef633e9d0",
    "llms_on_the_line_small": "5af24b4ff4c7232e",
    "loss_to_loss_isoflop": "699a7fc9903884bd",
    "own_data": "b14a0e542d27c0c3",
    "quickstart": "28b962de06ac1e7f",
    "tokenizer_units": "789195e7dfa00296",
    "train_to_train": "01486dc4b03a8c48",
}


@pytest.fixture
def old_study(tmp_path):
    """Make a copy of the old study's folder that a test may write to."""
    return Path(shutil.copytree(GOLDEN / "old_study", tmp_path / "old_study"))


def evaluate(folder):
    """Run the command on one CPU device, as the study was made; this process has eight."""
    command = [sys.executable, "-m", "lossline_jax", "evaluate", str(folder), "--execution.cpu-devices", "1"]
    subprocess.run(command, check=True, capture_output=True)


def contents(folder):
    """Return every file under a folder with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_run_ids_of_every_experiment_are_those_of_before(path):
    study = validate_study(load_study_function(str(path))(), str(path))
    assert [run.run_id for run in study.runs] == RUN_IDS[path.stem]


@pytest.mark.parametrize("name", DIGESTS)
def test_the_golden_file_itself_is_unchanged(name):
    assert hashlib.sha256("\n".join(RUN_IDS[name]).encode()).hexdigest()[:16] == DIGESTS[name]


def test_an_old_study_says_that_all_is_done(old_study, capsys):
    main(["status", str(old_study)])
    out = capsys.readouterr().out
    assert out.count("done") >= 3
    assert "pending" not in out


def test_an_old_study_is_reported_without_training(old_study, capsys):
    before = contents(old_study / "runs")
    main(["report", str(old_study)])
    assert contents(old_study / "runs") == before
    assert (old_study / "report" / "report.html").read_text() != ""


def test_evaluating_an_old_study_adds_no_row_and_no_checkpoint(old_study):
    before = contents(old_study)
    evaluate(old_study)
    after = contents(old_study)
    kept = [path for path in before if path.parts[0] in ("runs", "prepared") or path.suffix == ".jsonl"]
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}


@pytest.mark.slow
def test_rows_of_an_old_study_that_are_lost_are_scored_again_from_its_checkpoints(old_study):
    losses = pandas.read_csv(old_study / "losses" / "losses.csv")
    for path in (old_study / "losses" / "rows").glob("*.jsonl"):
        path.unlink()
    checkpoints = sorted((old_study / "runs").glob("*/checkpoints/*"))
    evaluate(old_study)
    assert sorted((old_study / "runs").glob("*/checkpoints/*")) == checkpoints
    new_losses = pandas.read_csv(old_study / "losses" / "losses.csv")
    pandas.testing.assert_frame_equal(new_losses[losses.columns], losses, rtol=1e-5)  # it has later columns too
