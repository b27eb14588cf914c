"""Dry runs of launchers print what they would submit. The supervisor of gangs runs with shell scripts as workers."""

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import ROOT
from tests.support.report_study import study_config

LAUNCH = ROOT / "launch"
sys.path.insert(0, str(LAUNCH))

import gang  # noqa: E402
import skypilot  # noqa: E402
import slurm  # noqa: E402
import tpu_vm  # noqa: E402
import xpk  # noqa: E402
from etils import epath  # noqa: E402
from selection import Chosen  # noqa: E402

from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet  # noqa: E402
from lossline_jax.errors import LosslineError  # noqa: E402
from lossline_jax.pipeline import study_files as study_files_verbs  # noqa: E402
from lossline_jax.status.resubmit import Resubmission, Standing  # noqa: E402
from lossline_jax.storage.files import write_json  # noqa: E402
from lossline_jax.storage.paths import StudyDir  # noqa: E402

SUITE = SuiteConfig(validation=(ValidationSet("wiki"), ValidationSet("code")), cloze=(ClozeTask("wiki"),))
STUDY = dataclasses.replace(study_config(), suite=SUITE, validation_fraction=0.05)
XPK = os.environ.get("XPK") or shutil.which("xpk")


@pytest.fixture
def folder(tmp_path):
    """Return a prepared study of seven runs, of which the third has failed."""
    folder = StudyDir(epath.Path(tmp_path) / STUDY.name)
    study_files_verbs.write_manifest(STUDY, folder)
    write_json(folder.prepared_file, {"suites": {}})
    write_json(folder.run(STUDY.runs[2].run_id).failed_file, {"reason": "loss is nan at step 3", "time": 0})
    return folder


def on_cloud(*indices: int) -> Chosen:
    """Return runs of the same study, in a bucket."""
    standings = tuple(Standing(k, STUDY.runs[k].run_id, "open") for k in indices)
    return Chosen(STUDY, StudyDir(epath.Path("gs://bucket/studies/small")), Resubmission(standings, False))


def launch(script, folder, *flags, **environment):
    """Start a launcher in its own process, as a user starts it."""
    command = [sys.executable, str(LAUNCH / script), str(folder.root), *flags]
    everything = {**os.environ, "PYTHONPATH": str(LAUNCH.parent), **environment}
    return subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(script, folder, *flags, **environment):
    process = launch(script, folder, *flags, **environment)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.terminate()  # it also ends its gangs
    return process.returncode, out, err


def read_until(marker, stream) -> str:
    """Return the first line that contains `marker`."""
    for line in stream:
        if marker in line:
            return line
    raise AssertionError(f"no line with {marker!r}")


def worker(folder, text) -> list[str]:
    """Return the flags that replace lossline by a shell script. It gets `run --manifest M --index K ...`."""
    path = Path(folder.root) / "worker.sh"
    path.write_text(f"index=$5; process=${{8#*=}}; mark={shlex.quote(str(folder.root))}/mark_$index; {text}")
    return ["--lossline", f"bash {path}", "--no-fit"]


def table(out) -> dict[int, list[str]]:
    """Return the supervisor's row of each run by index: state, number of starts, and the other columns."""
    rows = [re.split(r"  +", line.strip()) for line in out.splitlines() if re.match(r" *\d", line)]
    return {int(row[0]): row[2:] for row in rows}


# the supervisor


def test_each_run_gets_what_it_asks_for_and_a_failure_stops_no_other(folder):
    """Run 0 asks twice for another start, 1 crashes once, 2 failed earlier, 3 fails, and 4 to 6 end at once."""
    script = """
    echo "begin $index"; touch $mark; echo x >> $mark; starts=$(wc -l < $mark)
    case $index in
      0) [ $starts -gt 2 ] || exit 42;;
      1) [ $starts -gt 1 ] || kill -9 $$;;
      3) echo "lossline: no such corpus" >&2; exit 2;;
    esac"""
    code, out, err = output_of("local.py", folder, *worker(folder, script), "--runs-at-once", "3")
    rows = table(out)
    assert {k: row[:2] for k, row in rows.items()} == {
        0: ["done", "3"], 1: ["done", "2"], 3: ["failed", "1"], 4: ["done", "1"], 5: ["done", "1"], 6: ["done", "1"],
    }  # fmt: skip
    assert rows[3][-1] == "lossline: no such corpus"
    assert code == 1
    assert err.count("[0] begin 0") == 3
    assert "[3] lossline: no such corpus" in err
    assert "left out: 2 " in err


def test_crashes_without_a_new_checkpoint_end_after_the_retries(folder):
    script = "echo x >> $mark; kill -SEGV $$"
    _, out, _ = output_of("local.py", folder, *worker(folder, script), "--retries", "1", "--runs-at-once", "6")
    assert {row[0] for row in table(out).values()} == {"gave up"}
    assert {row[1] for row in table(out).values()} == {"2"}


def test_a_crash_after_a_new_checkpoint_does_not_count(folder):
    checkpoints = folder.run(STUDY.runs[0].run_id).checkpoints
    script = f"""
    [ $index -eq 0 ] || exit 0
    echo x >> $mark; starts=$(wc -l < $mark)
    mkdir -p {checkpoints}/0000000$starts && echo '{{}}' > {checkpoints}/0000000$starts/meta.json
    [ $starts -gt 4 ] || kill -9 $$"""
    _, out, _ = output_of("local.py", folder, *worker(folder, script), "--retries", "1", "--runs-at-once", "2")
    assert table(out)[0][:2] == ["done", "5"]


def alive(pids) -> list[int]:
    def running(pid):
        try:
            return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False

    return [pid for pid in pids if running(pid)]


def test_one_dead_process_takes_its_gang_down_and_the_gang_starts_again_on_another_port(folder):
    """Process 1 of the first gang of run 0 is killed. Process 0 and its child would still sleep for minutes."""
    script = """
    [ $index -eq 0 ] || exit 0
    echo "$6 $8"; echo $6 >> $mark.ports
    [ -e $mark ] && exit 0
    if [ $process = 1 ]; then sleep 0.5; touch $mark; kill -9 $$; fi
    echo $$ >> $mark.pids; sleep 300 & echo $! >> $mark.pids; wait"""
    began = time.monotonic()
    flags = ["--processes", "2", "--runs-at-once", "6"]
    code, out, err = output_of("local.py", folder, *worker(folder, script), *flags)
    assert code == 0, err
    assert time.monotonic() - began < 200  # a gang that waits for its sleeper takes 300 seconds
    assert table(out)[0][:2] == ["done", "2"]
    root = Path(folder.root)
    assert alive(int(pid) for pid in (root / "mark_0.pids").read_text().split()) == []
    ports = (root / "mark_0.ports").read_text().split()
    assert len(ports) == 4
    assert len(set(ports)) == 2
    assert re.search(r"\[0 p0\] --processes.coordinator=127.0.0.1:\d+ --processes.index=0", err)
    assert re.search(r"\[0 p1\] --processes.coordinator=127.0.0.1:\d+ --processes.index=1", err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_notice_is_passed_on_and_checkpoints_are_waited_for(folder, number):
    script = """trap 'sleep 1; echo saved > $mark; exit 42' TERM; echo ready; while true; do sleep 0.1; done"""
    process = launch("local.py", folder, *worker(folder, script), "--runs-at-once", "2")
    for _ in range(2):
        read_until("ready", process.stderr)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 42
    assert sorted(path.name for path in Path(folder.root).glob("mark_*")) == ["mark_0", "mark_1"]
    assert {row[0] for row in table(out).values()} == {"stopped"}


def test_who_does_not_leave_in_time_is_killed(folder):
    script = """trap '' TERM; echo $$ > $mark; echo ready; while true; do sleep 0.1; done"""
    process = launch("local.py", folder, *worker(folder, script), "--grace-seconds", "1")
    read_until("ready", process.stderr)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 42
    assert alive([int((Path(folder.root) / "mark_0").read_text())]) == []


@pytest.mark.parametrize(
    ("codes", "verdict"),
    [
        ((0, 0), "done"), ((0, 42), "restart"), ((42, None), "restart"), ((-15, 42), "restart"), ((143, 0), "restart"),
        ((-9, 42), "crashed"), ((137, None), "crashed"), ((-9, 1), "failed"), ((42, 2), "failed"),
        ((1, None), "failed"), ((75, None), "busy"), ((-9, 75), "busy"), ((75, 1), "failed"), ((42, 75), "busy"),
    ],
)  # fmt: skip
def test_the_verdict_on_a_gang_is_that_of_its_worst_end(codes, verdict):
    assert gang.Ending(codes, "").verdict == verdict


def test_gpus_are_shared_out_without_overlap(folder):
    flags = ["--dry-run", "--gpus", "8", "--runs-at-once", "2", "--processes", "2"]
    _, out, _ = output_of("local.py", folder, *flags)
    assert "[0 p0] CUDA_VISIBLE_DEVICES=0,1 " in out
    assert "[0 p1] CUDA_VISIBLE_DEVICES=2,3 " in out
    assert "[1 p0] CUDA_VISIBLE_DEVICES=4,5 " in out
    import local

    options = local.Options("m", gpus=8, runs_at_once=2, processes=2)
    members = local.gang_of(options, on_cloud(0), 0, slot=1, port=1)
    assert [member.environment["CUDA_VISIBLE_DEVICES"] for member in members] == ["4,5", "6,7"]
    code, _, err = output_of("local.py", folder, "--gpus", "7", "--runs-at-once", "2")
    assert code == 2
    assert err.splitlines()[-1].endswith(
        "--gpus: 7 GPUs cannot be divided by --runs-at-once times --processes; give a multiple"
    )


def test_each_run_has_a_log_file_with_all_its_starts(folder, tmp_path):
    script = """echo "line of $index"; echo x >> $mark; [ $index -ne 0 ] || [ $(wc -l < $mark) -gt 1 ] || exit 42"""
    code, out, err = output_of("local.py", folder, *worker(folder, script), "--runs-at-once", "2")
    assert code == 0
    logs = {path.name: path.read_text() for path in (Path(folder.root) / "logs").iterdir()}
    ids = {index: STUDY.runs[index].run_id for index in table(out)}
    assert logs == {f"{k}_{run_id}.log": f"[{k}] line of {k}\n" * (1 + (k == 0)) for k, run_id in ids.items()}
    assert f"logs of the runs: {folder.root}/logs/INDEX_RUN.log" in err
    output_of("local.py", folder, *worker(folder, script), "--logs", str(tmp_path / "own"))
    assert (tmp_path / "own" / f"1_{ids[1]}.log").read_text() == "[1] line of 1\n"
    (tmp_path / "file").write_text("")
    code, _, err = output_of("local.py", folder, *worker(folder, script), "--logs", str(tmp_path / "file"))
    assert code == 2
    assert f"--logs: {tmp_path}/file: cannot be made" in err.splitlines()[-1]


SITES = {
    "local.py": (),
    "slurm.py": ("--logs", "/logs"),
    "xpk.py": ("--project", "proj", "--zone", "z1", "--cluster", "tpus", "--image", "r/lossline"),
    "tpu_vm.py": ("--project", "proj", "--zone", "z1", "--package", "lossline_jax[tpu,gcs] @ git+https://h/l"),
    "skypilot.py": ("--package", "lossline_jax[cuda,gcs] @ git+https://h/l"),
}


@pytest.mark.parametrize("script", SITES)
def test_a_dry_run_needs_neither_prepared_data_nor_a_bucket(folder, script):
    folder.prepared_file.unlink()
    before = sorted(Path(folder.root).rglob("*"))
    code, out, err = output_of(script, folder, "--dry-run", *SITES[script])
    assert code == 0, err
    assert f"dry run: {folder.root} is not prepared; a start needs `lossline-jax prepare` first" in err
    assert ("do not see this disk" in err) == (script not in ("local.py", "slurm.py"))
    assert f"{folder.root}/manifest.jsonl" in out
    assert "7 of 7 runs to start" in err
    assert sorted(Path(folder.root).rglob("*")) == before


@pytest.mark.parametrize("script", SITES)
def test_a_dry_run_of_an_experiment_asks_no_bucket(folder, script):
    experiment = StudyDir(epath.Path(ROOT / "experiments" / "quickstart.py"))
    flags = ("--root", "gs://nobody-owns-this/studies", *SITES[script])
    code, out, err = output_of(script, experiment, "--dry-run", *flags)
    assert code == 0, err
    assert "gs://nobody-owns-this/studies/quickstart/manifest.jsonl" in out
    assert "all 18 runs; a start needs `lossline-jax prepare`" in err
    code, out, err = output_of(script, experiment, *flags)
    assert (code, out) == (2, "")
    assert "--root gs://nobody-owns-this/studies --manifest" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "flag", "value"),
    [
        ("xpk.py", "--project", "my-project"), ("xpk.py", "--cluster", "my-cluster"), ("xpk.py", "--zone", "ZONE"),
        ("xpk.py", "--image", "us-docker.pkg.dev/PROJECT/lossline/lossline"), ("xpk.py", "--project", "P"),
        ("tpu_vm.py", "--project", "your_project"), ("tpu_vm.py", "--package", "lossline_jax[tpu,gcs] @ git+https://..."),
        ("skypilot.py", "--package", "lossline_jax[cuda,gcs] @ ADDRESS"), ("slurm.py", "--root", "gs://my-bucket/studies"),
    ],
)  # fmt: skip
def test_placeholders_of_the_documentation_are_refused_by_name(script, flag, value):
    sites = dict(zip(SITES[script][::2], SITES[script][1::2], strict=True)) | {flag: value}
    experiment = StudyDir(epath.Path(ROOT / "experiments" / "quickstart.py"))
    words = [word for pair in sites.items() for word in pair]
    code, out, err = output_of(script, experiment, "--dry-run", *words)
    assert (code, out) == (2, "")
    assert re.search(rf"{flag}: '\S*' is a placeholder of the documentation; give your own", err.splitlines()[-1])


def test_a_study_that_is_not_prepared_is_refused_by_each_launcher(folder):
    folder.prepared_file.unlink()
    for script in SITES:
        code, out, err = output_of(script, folder)
        assert (code, out) == (2, "")
        assert "run `lossline-jax prepare` first" in err.splitlines()[-1]


# SLURM


def test_the_slurm_dry_run_prints_both_scripts_and_submits_nothing(folder):
    flags = ["--dry-run", "--partition", "gpu", "--gpus-per-node", "8", "--tasks-per-node", "8", "--options=--qos=spot"]
    code, out, _ = output_of("slurm.py", folder, *flags, PATH="/nowhere")
    assert code == 0
    array, fit = out.split("sbatch --parsable")[1:]
    directives = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", array, flags=re.MULTILINE))
    assert directives == {
        "job-name": "lossline-small", "array": "0-1,3-6%16", "output": f"{folder.root}/logs/%A_%a.log", "nodes": "1",
        "ntasks-per-node": "8", "gpus-per-node": "8", "cpus-per-task": "8", "time": "24:00:00", "partition": "gpu",
        "signal": "B:TERM@120", "requeue": "", "open-mode": "append", "qos": "spot",
    }  # fmt: skip
    assert '--index "$SLURM_ARRAY_TASK_ID"' in array
    assert fit.startswith(" --dependency=afterany:ARRAY ")
    assert f"lossline_jax evaluate {folder.root}\n" in fit
    for script in (array, fit):
        text = script[script.index("#!/bin/bash") : script.index("EOF", 10)]
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert sorted(path.name for path in Path(folder.root).iterdir()) == [
        "manifest.jsonl", "prepared", "runs", "study.json",
    ]  # fmt: skip


def test_the_fit_job_has_a_partition_of_its_own():
    options = slurm.Options("m", partition="gpu", gpus_per_node=8, memory="200G", options=("--qos=spot",), logs="/logs")

    def directives(options):
        script = slurm.fit_script(options, on_cloud(0))
        return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", script, flags=re.MULTILINE))

    same = {"job-name": "lossline-small-fit", "output": "/logs/%j_fit.log", "ntasks": "1", "time": "24:00:00"}
    on_gpus = {"cpus-per-task": "8", "mem": "200G", "partition": "gpu", "qos": "spot"}
    assert directives(options) == {**same, **on_gpus}
    apart = dataclasses.replace(options, fit_partition="cpu", fit_cpus=4, fit_options=("--qos=long",))
    assert directives(apart) == {**same, "cpus-per-task": "4", "partition": "cpu", "qos": "long"}
    assert directives(dataclasses.replace(apart, fit_memory="16G"))["mem"] == "16G"
    assert "#SBATCH --partition=gpu\n" in slurm.run_script(apart, on_cloud(0))


def test_slurm_needs_a_folder_for_logs_where_the_study_is_in_a_bucket():
    options = slurm.Options("m", coordinator="127.0.0.1")
    with pytest.raises(slurm.LosslineError, match=r"--logs: SLURM cannot write"):
        slurm.run_script(options, on_cloud(0))
    script = slurm.run_script(dataclasses.replace(options, logs="/logs"), on_cloud(0, 2))
    assert "--array=0,2%16" in script
    assert "export JAX_COORDINATOR_ADDRESS=127.0.0.1:$((61440 + SLURM_JOB_ID % 4096))\n" in script


# xpk

CLUSTER = {"project": "p", "zone": "us-west4-a", "cluster": "tpus", "image": "registry/lossline"}


def test_what_only_a_site_knows_has_no_default(capsys):
    """A dry run refuses too, because it would print a placeholder as if it were a real value."""
    with pytest.raises(LosslineError, match="^--project, --zone, --cluster, --image: not given"):
        xpk.launch(xpk.Options("m", dry_run=True), on_cloud(0))
    with pytest.raises(LosslineError, match="^--project, --zone, --package: not given"):
        tpu_vm.launch(tpu_vm.Options("m", dry_run=True), on_cloud(0))
    assert capsys.readouterr().out == ""


@given(st.text(), st.integers(0, 9999), st.integers(1, 99))
def test_workload_names_are_as_kubernetes_takes_them(study, index, attempt):
    name = xpk.workload_name(study, index, attempt)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) < 40


@given(st.text(min_size=1), st.sets(st.tuples(st.integers(0, 9999), st.integers(1, 99)), min_size=2, max_size=2))
def test_another_run_or_attempt_has_another_name(study, two):
    assert len({xpk.workload_name(study, *index_and_attempt) for index_and_attempt in two}) == 2


def test_xpk_gets_a_workload_a_run(capsys):
    assert xpk.launch(xpk.Options("m", dry_run=True, slices=2, **CLUSTER), on_cloud(0, 5)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert shlex.split(lines[1]) == [
        "xpk", "workload", "create", "--workload", "small-5", "--project", "p", "--zone", "us-west4-a",
        "--cluster", "tpus", "--device-type", "v5litepod-16", "--num-slices", "2",
        "--docker-image", "registry/lossline", "--priority", "medium",
        "--max-restarts", "100", "--restart-on-exit-codes", "42", "--termination-grace-period-seconds", "120",
        "--command", "exec lossline-jax run --manifest gs://bucket/studies/small/manifest.jsonl --index 5", "--spot",
    ]  # fmt: skip
    assert lines[2].startswith("# when all have ended: lossline-jax evaluate gs://bucket/studies/small")


@pytest.mark.slow
@pytest.mark.skipif(XPK is None, reason="xpk is not installed: pip install xpk, or set XPK")
@pytest.mark.parametrize(("device", "hosts"), [("v5litepod-16", 4), ("v5p-32", 4), ("h100-80gb-8", 1)])
def test_xpk_itself_takes_the_command_and_its_jobset_restarts_on_42(tmp_path, device, hosts):
    """The dry run of xpk writes the shell script. It runs a stand-in for lossline, and its shell gets SIGTERM."""
    yaml = pytest.importorskip("yaml")
    options = xpk.Options("m", xpk=f"{XPK}", device_type=device, manifest_folder=str(tmp_path), **CLUSTER)
    command = [*xpk.workload_command(options, on_cloud(3), 3), "--dry-run", "--skip-validation"]
    process = subprocess.run(
        command, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stdout + process.stderr
    jobset = yaml.safe_load((tmp_path / "small-3.yaml").read_text())
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "small-3")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 100
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == hosts
    fatal = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert fatal["operator"] == "NotIn"
    assert {42, 137, 143} <= set(fatal["values"])
    assert not {1, 2} & set(fatal["values"])
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 120
    shell = next(container for container in pod["containers"] if "command" in container)["command"]
    assert_sigterm_reaches_lossline(shell, tmp_path)


def assert_sigterm_reaches_lossline(shell, tmp_path):
    stand_in = tmp_path / "lossline-jax"
    stand_in.write_text('#!/bin/bash\ntrap "exit 42" TERM\necho "ready $@"\nwhile true; do sleep 0.1; done\n')
    stand_in.chmod(0o755)
    text = shell[-1].replace("/usr/share/workload", str(tmp_path))
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen([*shell[:-1], text], env=path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert (
            read_until("ready", process.stdout)
            == "ready run --manifest gs://bucket/studies/small/manifest.jsonl --index 3\n"
        )
        process.terminate()
        process.communicate(timeout=120)
        assert process.returncode == 42
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# TPU VMs

PLACE = {"project": "p", "zone": "us-west4-a", "package": "lossline_jax[tpu,gcs] @ git+https://host/lossline"}


@pytest.mark.parametrize(
    ("package", "lacking"),
    [("git+https://host/lossline", "no gcs and no tpu"), ("lossline_jax[tpu] @ git+https://host/lossline", "no gcs,")],
)  # the message has the whole requirement, with the address that was given
def test_a_package_without_the_extras_is_refused_before_a_slice_is_asked_for(package, lacking):
    with pytest.raises(
        LosslineError,
        match=rf"^--package: .*{lacking}.*; write 'lossline_jax\[tpu,gcs\] @ git\+https://host/lossline'$",
    ):
        tpu_vm.launch(tpu_vm.Options("m", dry_run=True, **{**PLACE, "package": package}), on_cloud(0))


def test_the_commands_for_a_slice(capsys):
    assert tpu_vm.launch(tpu_vm.Options("m", dry_run=True, **PLACE), on_cloud(1, 4)) == 0
    create, state, install, work, delete = capsys.readouterr().out.splitlines()
    place = "--project=p --zone=us-west4-a"
    assert create == (
        "gcloud compute tpus queued-resources create lossline-small --node-id=lossline-small "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --valid-until-duration=6h --spot "
        + place
    )
    assert "queued-resources describe lossline-small" in state
    assert "tpu-vm ssh lossline-small --worker=all" in install
    assert (
        "for index in 1 4; do ~/lossline/bin/lossline-jax run --manifest gs://bucket/studies/small/manifest.jsonl"
        in work
    )
    assert delete == f"gcloud compute tpus queued-resources delete lossline-small --force --quiet {place}"


def stand_in_gcloud(tmp_path, codes, install=0) -> tuple[str, Path]:
    """Return a stand-in for gcloud and its log of calls. A call that works on runs exits with the next of `codes`."""
    call_log, left = tmp_path / "asked", tmp_path / "codes"
    left.write_text("".join(f"{code}\n" for code in codes))
    script = tmp_path / "gcloud"
    script.write_text(f"""#!/bin/bash
echo "$@" >> {call_log}
case "$*" in
  *describe*) echo ACTIVE;;
  *"pip install"*) exit {install};;
  *"for index"*) code=$(head -1 {left}); sed -i 1d {left}; exit $code;;
esac
""")
    script.chmod(0o755)
    return str(script), call_log


@pytest.mark.parametrize(("codes", "creations"), [((0,), 1), ((255, 42, 0), 3)])
def test_a_slice_that_is_taken_away_is_asked_for_again_and_given_back_at_the_end(
    tmp_path, monkeypatch, codes, creations
):
    gcloud, call_log = stand_in_gcloud(tmp_path, codes)
    left = iter([on_cloud(1)] * (creations - 1) + [on_cloud()])
    monkeypatch.setattr(tpu_vm, "choose", lambda options: next(left))
    assert tpu_vm.launch(tpu_vm.Options("m", gcloud=gcloud, poll_seconds=0, **PLACE), on_cloud(1, 4)) == 0
    verbs = [line.split()[2:4] for line in call_log.read_text().splitlines()]
    assert verbs == creations * [
        ["queued-resources", "create"], ["queued-resources", "describe"], ["tpu-vm", "ssh"], ["tpu-vm", "ssh"],
        ["queued-resources", "delete"],
    ]  # fmt: skip


def test_a_slice_that_is_refused_is_not_deleted_and_one_that_leaves_runs_undone_is_no_success(tmp_path, monkeypatch):
    gcloud, call_log = stand_in_gcloud(tmp_path, (0,))
    monkeypatch.setattr(tpu_vm, "choose", lambda options: on_cloud(1))
    assert tpu_vm.launch(tpu_vm.Options("m", gcloud=gcloud, poll_seconds=0, **PLACE), on_cloud(1)) == 1
    call_log.unlink()
    refusing = tmp_path / "refusing"
    refusing.write_text(f'#!/bin/bash\necho "$@" >> {call_log}\nexit 1\n')
    refusing.chmod(0o755)
    with pytest.raises(LosslineError, match="refused"):
        tpu_vm.launch(tpu_vm.Options("m", gcloud=str(refusing), poll_seconds=0, **PLACE), on_cloud(1))
    assert "delete" not in call_log.read_text()


def test_a_package_that_cannot_be_installed_asks_for_no_other_slice(tmp_path):
    gcloud, call_log = stand_in_gcloud(tmp_path, (0,), install=1)
    with pytest.raises(tpu_vm.LosslineError, match=r"--package: .* cannot be installed on lossline-small"):
        tpu_vm.launch(tpu_vm.Options("m", gcloud=gcloud, poll_seconds=0, **PLACE), on_cloud(1, 4))
    verbs = [line.split()[3] for line in call_log.read_text().splitlines()]
    assert verbs == ["create", "describe", "ssh", "describe", "delete"]


def test_a_start_that_cannot_work_gives_the_slice_back_and_asks_for_no_other(tmp_path):
    gcloud, call_log = stand_in_gcloud(tmp_path, (2,))
    with pytest.raises(
        LosslineError, match="lossline-small: a run cannot be started, and could not be on another slice"
    ):
        tpu_vm.launch(tpu_vm.Options("m", gcloud=gcloud, poll_seconds=0, **PLACE), on_cloud(1, 4))
    assert [line.split()[3] for line in call_log.read_text().splitlines()] == [
        "create",
        "describe",
        "ssh",
        "ssh",
        "delete",
    ]


@pytest.mark.parametrize(
    ("codes", "code", "indices"),
    [("0 1 0", 0, "1 4 6"), ("0 42 0", 42, "1 4"), ("137", 137, "1"), ("2 0 0", 2, "1"), ("75 0 75", 0, "1 4 6")],
)
def test_what_the_workers_do_goes_on_after_a_failure_and_leaves_after_a_notice(tmp_path, codes, code, indices):
    """The shell line itself runs, with a stand-in for lossline that exits with the given codes."""
    home = tmp_path / "lossline" / "bin"
    home.mkdir(parents=True)
    (home / "lossline-jax").write_text(
        f'#!/bin/bash\necho -n "$5 " >> {tmp_path}/done\nread code rest < {tmp_path}/codes\n'
        f"echo $rest > {tmp_path}/codes\nexit $code\n"
    )
    (home / "lossline-jax").chmod(0o755)
    (tmp_path / "codes").write_text(codes + "\n")
    process = subprocess.run(
        ["bash", "-c", tpu_vm.work_command(on_cloud(1, 4, 6))], env={**os.environ, "HOME": str(tmp_path)}
    )
    assert process.returncode == code
    assert (tmp_path / "done").read_text().split() == indices.split()


def test_the_flags_are_those_of_gcloud(capsys):
    """gcloud refuses an unknown flag before it asks for a login."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    tpu_vm.launch(tpu_vm.Options("m", dry_run=True, **PLACE), on_cloud(1))
    environment = {**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    for line in capsys.readouterr().out.splitlines():
        process = subprocess.run(shlex.split(line), env=environment, capture_output=True, text=True, timeout=60)
        assert not re.search(r"unrecognized arguments|Invalid choice|must be specified", process.stderr), process.stderr


# files


@pytest.mark.parametrize(("indices", "rank", "expected"), [("0 3 5", "1", "3"), ("7", "0", "7"), ("0 3", "2", None)])
def test_a_job_of_skypilot_runs_its_line_of_the_manifest(tmp_path, indices, rank, expected):
    """The shell lines themselves run, with a stand-in for lossline."""
    yaml = pytest.importorskip("yaml")
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task["name"] == "lossline"
    program = tmp_path / "lossline" / "bin" / "lossline-jax"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/bash\necho "$@"\n')
    program.chmod(0o755)
    given = {"HOME": str(tmp_path), "MANIFEST": "gs://b/m.jsonl", "INDICES": indices, "SKYPILOT_JOB_RANK": rank}
    done = subprocess.run(["bash"], input=task["run"], env=given, capture_output=True, text=True)
    if expected is None:
        assert done.returncode
        assert "there are more jobs than INDICES" in done.stderr
    else:
        assert done.stdout == f"run --manifest gs://b/m.jsonl --index {expected}\n"
    for part in ("setup", "run"):
        refused = subprocess.run(["bash"], input=task[part], env=task["envs"], capture_output=True, text=True)
        assert "launch/skypilot.yaml: fill in" in refused.stderr
        assert refused.returncode


def test_skypilot_gets_a_job_for_each_run_that_is_not_done(capsys):
    package = "lossline_jax[cuda,gcs] @ git+https://host/lossline"
    assert skypilot.launch(skypilot.Options("m", dry_run=True, package=package), on_cloud(0, 3, 5)) == 0
    command, end = capsys.readouterr().out.splitlines()
    assert shlex.split(command) == [
        "sky", "jobs", "launch", "-p", "lossline", "--num-jobs", "3", str(LAUNCH / "skypilot.yaml"),
        "--env", "MANIFEST=gs://bucket/studies/small/manifest.jsonl", "--env", f"PACKAGE={package}",
        "--env", "INDICES=0 3 5", "--yes",
    ]  # fmt: skip
    assert end.startswith("# when all have ended: lossline-jax evaluate gs://bucket/studies/small")
    assert skypilot.launch(skypilot.Options("m", dry_run=True, package=package), on_cloud()) == 0
    assert "sky jobs" not in capsys.readouterr().out
    with pytest.raises(LosslineError, match="^--package: .* asks for no gcs"):
        skypilot.launch(skypilot.Options("m", package="lossline_jax @ git+https://host/l"), on_cloud(0))


def test_every_setting_is_a_flag_of_its_launcher():
    from settings import Local, SkyPilot, Slurm, TpuVm, Xpk

    for script, settings in (
        ("local", Local),
        ("slurm", Slurm),
        ("xpk", Xpk),
        ("tpu_vm", TpuVm),
        ("skypilot", SkyPilot),
    ):
        command = [sys.executable, str(LAUNCH / f"{script}.py"), "--help"]
        environment = {**os.environ, "PYTHONPATH": str(LAUNCH.parent)}
        help_text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for field in dataclasses.fields(settings):
            assert f"--{field.name.replace('_', '-')}" in help_text
        assert "--dry-run" in help_text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runs-at-once", "0"], "--runs-at-once: 0 is too small; give 1 or more"),
        (["--gpus", "-1"], "--gpus: -1 is too small; give 0 or more"),
        (["--retries", "many"], "--retries"),
        (["--runs-at-one", "1"], "--runs-at-once"),
    ],
)
def test_a_setting_that_cannot_be_used_gets_one_line(folder, flags, message):
    code, _, err = output_of("local.py", folder, "--dry-run", *flags)
    assert code == 2
    assert message in err
    assert err.strip().count("\n") == 0


def test_a_reader_that_leaves_early_gets_no_stack_trace(folder):
    script = f"{sys.executable} {ROOT}/launch/local.py {folder.root} --dry-run | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 141)  # 0: all was written before the reader left
