"""Dead machines, full disks and clock jumps give a clear line or a clean resume, with the losses of a quiet run."""

import json
import os
import shutil
import signal
import subprocess

import pytest
from etils import epath

from lossline_jax.cli.main import main
from lossline_jax.errors import RunLocked
from lossline_jax.storage.files import read_json, write_json
from tests.support.gangs import Gang, copy_of, finish, last_logged, outcome, prepared_study, run_folder

pytestmark = pytest.mark.slow
RESTART = (42, -signal.SIGABRT)  # the code of the package, and that of jax when a peer misses its heartbeats
NOTICED_SECONDS = 60  # jax's own heartbeats take 100


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_study(tmp_path_factory.mktemp("prepared"), "--execution.log-every", "1").parent


@pytest.fixture(scope="module")
def quiet(prepared, tmp_path_factory):
    """Return the outcome of an undisturbed run of four processes."""
    return finish(copy_of(prepared, tmp_path_factory.mktemp("quiet")), 4, 1)


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory):
    """Run one undisturbed process, whose devices sum in another order, and return its manifest."""
    manifest = copy_of(prepared, tmp_path_factory.mktemp("alone"))
    finish(manifest, 1, 4)
    return manifest


@pytest.fixture(scope="module")
def quiet_alone(alone):
    """Return the rows of the single process, and the losses of its steps."""
    return outcome(alone)


@pytest.fixture(scope="module")
def trained(alone):
    """Return the folder of the run that the single process has trained."""
    return run_folder(alone)


@pytest.fixture
def manifest(prepared, tmp_path):
    return copy_of(prepared, tmp_path)


def status(manifest, capsys):
    capsys.readouterr()
    main(["status", str(manifest.parent)])
    return capsys.readouterr().out


def saved(manifest):
    return sorted(int(path.parent.name) for path in (run_folder(manifest) / "checkpoints").glob("*/meta.json"))


def damage(manifest, step, how):
    for path in sorted((run_folder(manifest) / "checkpoints" / f"{step:08d}" / "params").rglob("*")):
        if path.is_file() and path.stat().st_size > 2000:
            how(path)
            return
    raise AssertionError("no file to damage")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("victim", [0, 2])
def test_one_of_four_processes_killed_in_a_step(manifest, quiet, victim):
    with Gang(manifest, 4, 1, faults={victim: ("kill-step", 13)}) as gang:
        assert gang.seconds_to_end(victim) < NOTICED_SECONDS
        codes = gang.wait()
        assert codes[victim] == -signal.SIGKILL
        assert all(code in RESTART for k, code in enumerate(codes) if k != victim), gang.output()
    assert saved(manifest) == [8]
    assert finish(manifest, 4, 1) == quiet


def test_the_whole_job_killed_while_it_saves(manifest, quiet):
    with Gang(manifest, 4, 1, faults={0: ("stop-save", 16)}) as gang:
        gang.until((gang.folder / "saving").exists)
        gang.kill()
    assert saved(manifest) == [8]
    assert (run_folder(manifest) / "checkpoints" / "00000016" / "params").exists()
    assert finish(manifest) == quiet


def test_a_job_killed_between_checkpoint_and_row(manifest, quiet_alone, capsys):
    with Gang(manifest, 1, 4, faults={0: ("kill-row", 24)}) as gang:
        assert gang.wait() == [-signal.SIGKILL]
    assert saved(manifest) == [8, 16, 24]
    assert len(outcome(manifest)[0].splitlines()) == 6
    assert finish(manifest, 1, 4) == quiet_alone
    # the 30 missing rows are of the two runs that have not begun
    assert "15 of 45 rows, 30 missing, 0 double" in status(manifest, capsys)


def test_an_unforeseen_error_in_one_process_takes_all_down(manifest, quiet):
    with Gang(manifest, 4, 1, faults={2: ("error-step", 12)}) as gang:
        assert gang.seconds_to_end(2) < NOTICED_SECONDS
        codes = gang.wait()
    assert codes[2] == 1
    assert all(code in RESTART for k, code in enumerate(codes) if k != 2), gang.output()
    assert "[p2/4] lossline: ZeroDivisionError" in gang.last_line(2)
    assert finish(manifest) == quiet


def test_a_stuck_process_ends_itself(prepared, quiet, tmp_path):
    manifest = copy_of(prepared, tmp_path)
    study_file = epath.Path(manifest.parent / "study.json")
    study = read_json(study_file)
    study["execution"]["stall_seconds"] = 75.0  # faulty.py lets the stuck process check 15 seconds earlier
    write_json(study_file, study)
    with Gang(manifest, 4, 1, faults={1: ("stuck-step", 12)}) as gang:
        codes = gang.wait()
    assert all(code in RESTART for code in codes), gang.output()
    assert codes[1] == 42
    assert "[p1/4] lossline: stuck for 6" in gang.last_line(1)
    assert "(step 1" in gang.last_line(1)
    assert finish(manifest) == quiet


@pytest.mark.parametrize("receiver", [0, 3])
def test_sigterm_to_one_process_saves_and_asks_to_be_started_again(manifest, quiet, receiver):
    with Gang(manifest, 4, 1) as gang:
        gang.until(lambda: last_logged(manifest) >= 10)
        gang.processes[receiver].send_signal(signal.SIGTERM)
        assert gang.wait() == [42] * 4, gang.output()
    assert max(saved(manifest)) == last_logged(manifest) >= 11
    assert finish(manifest) == quiet


def test_sigterm_to_a_single_process(manifest, quiet_alone):
    with Gang(manifest, 1, 4) as gang:
        gang.until(lambda: last_logged(manifest) >= 10)
        gang.processes[0].send_signal(signal.SIGTERM)
        assert gang.wait() == [42], gang.output()
    assert max(saved(manifest)) == last_logged(manifest) >= 11
    assert finish(manifest, 1, 4) == quiet_alone


def test_sigterm_before_training_loses_nothing(manifest):
    """The signal comes while the data are opened, when there is nothing to save yet."""
    with Gang(manifest, 1, 4, faults={0: ("slow-start", 0)}) as gang:
        gang.until((gang.folder / "opening").exists)
        gang.processes[0].send_signal(signal.SIGTERM)
        assert gang.wait() == [42], gang.output()
        assert "Traceback" not in gang.output()


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_sigterm_while_a_checkpoint_is_scored_does_not_wait_for_the_devices(manifest, quiet_alone, trained, verb):
    """The program that scores the second checkpoint never ends, so a process that waits for it never ends."""
    run, words = run_folder(manifest), ()
    if verb == "evaluate":
        shutil.copytree(trained, run)
        words = ["evaluate", str(manifest.parent), "--only", run.name]
    with Gang(manifest, 1, 4, faults={0: ("endless-score", 2)}, words=words) as gang:
        gang.until((gang.folder / "scoring").exists)
        gang.processes[0].send_signal(signal.SIGTERM)
        assert gang.wait(60) == [42], gang.output()
        assert "Traceback" not in gang.output()
    rows = manifest.parent / "losses" / "rows" / f"{run.name}.jsonl"
    assert {json.loads(row)["step"] for row in rows.read_text().splitlines()} == {8}
    assert saved(manifest) == ([8, 16] if verb == "run" else [8, 16, 24, 32, 40])
    leftovers = [path.name for path in manifest.parent.rglob("*") if path.name.endswith((".part", "alive.json"))]
    assert leftovers == []
    with Gang(manifest, 1, 4, words=words) as gang:
        assert gang.wait() == [0], gang.output()
    assert outcome(manifest) == quiet_alone


def test_a_clock_that_jumps(manifest, quiet_alone, capsys):
    with Gang(manifest, 1, 4, faults={0: ("clock", 5)}) as gang:
        assert gang.wait() == [0], gang.output()
    assert outcome(manifest) == quiet_alone
    record = json.loads((run_folder(manifest) / "done.json").read_text())
    assert 0 < record["wall_seconds"] < 600
    assert all(0 <= seconds < 600 for seconds in record["seconds"].values())
    assert "-" not in status(manifest, capsys).split("done", 1)[1].splitlines()[0].split("rows")[0].replace("--", "")


@pytest.mark.parametrize("how", [truncate, flip_a_bit])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_goes_on(manifest, quiet_alone, how, capsys):
    with Gang(manifest, 1, 4, faults={0: ("kill-step", 18)}) as gang:
        gang.wait()
    damage(manifest, 16, how)
    with Gang(manifest, 1, 4) as gang:
        assert gang.wait() == [1]
    assert "damaged checkpoint" in gang.last_line(0)
    assert "delete this folder to resume from step 8" in gang.last_line(0)
    assert "failed" in status(manifest, capsys)
    shutil.rmtree(run_folder(manifest) / "checkpoints" / "00000016")
    assert finish(manifest, 1, 4) == quiet_alone


def test_a_second_job_on_a_live_run_is_refused(manifest, quiet):
    with Gang(manifest, 2, 2) as first:
        first.until(lambda: last_logged(manifest) >= 2)
        with Gang(copy_of_logs(manifest), 2, 2) as second:
            assert second.wait() == [RunLocked.exit_code] * 2
            assert all("another process is working on this run" in second.last_line(k) for k in (0, 1))
        assert first.wait() == [0, 0], first.output()
    assert outcome(manifest) == quiet


def copy_of_logs(manifest):
    """Return the manifest by another path, so that the logs of two gangs are different files."""
    other_root = manifest.parents[1] / "other"
    other_root.mkdir()
    (other_root / "tiny").symlink_to(manifest.parent)
    return other_root / "tiny" / "manifest.jsonl"


def test_a_full_disk_says_so_and_the_run_goes_on_when_there_is_room(manifest, quiet_alone):
    checkpoints = run_folder(manifest) / "checkpoints"
    checkpoints.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(checkpoints)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with Gang(manifest, 1, 4) as gang:
            (code,) = gang.wait()
        assert code in (1, 2), gang.output()
        assert "Traceback" not in gang.output()
        assert gang.last_line(0).startswith("lossline: "), gang.output()
        assert "free space" in gang.last_line(0), gang.last_line(0)
        assert saved(manifest) == [8][: len(saved(manifest))]
        subprocess.run(["mount", "-o", "remount,size=64m", str(checkpoints)], check=True)
        assert finish(manifest, 1, 4) == quiet_alone
    finally:
        subprocess.run(["umount", "-l", str(checkpoints)], check=True)
