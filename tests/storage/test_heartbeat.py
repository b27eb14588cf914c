"""Heartbeats show which process works on a run where no kernel holds a lock."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from etils import epath

from lossline_jax.errors import RunLocked
from lossline_jax.storage import heartbeat
from lossline_jax.storage.files import write_json
from lossline_jax.storage.heartbeat import Heartbeat, read_heartbeat, sending_heartbeats, wait_for_silence
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_lock import hold_run_lock, is_locked, lock_holder
from tests.support.paths import ROOT

BEAT = 0.2  # seconds
OTHER = {"host": "tpu-7", "pid": 4711, "token": "other", "beat": 3}


@pytest.fixture
def file(tmp_path):
    return epath.Path(tmp_path) / "run" / "alive.json"


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(BEAT / 10)


def test_a_process_sends_heartbeats_while_it_works_and_leaves_no_file(file):
    with sending_heartbeats(file, BEAT):
        assert read_heartbeat(file).pid == os.getpid()
        until(lambda: read_heartbeat(file).beat >= 2)
    assert not file.exists()


def test_the_heartbeat_is_removed_after_a_failure_too(file):
    with pytest.raises(ZeroDivisionError), sending_heartbeats(file, BEAT):
        _ = 1 / 0
    assert not file.exists()


def test_a_live_writer_is_refused_by_name(file):
    with (
        sending_heartbeats(file, BEAT),
        pytest.raises(RunLocked, match=rf"process {os.getpid()} on .* is working on this run"),
    ):
        wait_for_silence(file, wait=False, beat_seconds=BEAT)


def test_a_silent_writer_is_replaced_with_a_line_that_says_so(file, capsys):
    write_json(file, OTHER)
    began = time.monotonic()
    wait_for_silence(file, wait=False, beat_seconds=BEAT)
    assert time.monotonic() - began >= heartbeat.SILENT_BEATS * BEAT
    assert "process 4711 on tpu-7 gives no sign of life; taking over" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_a_clock_that_jumps_changes_nothing(file, seconds, monkeypatch):
    real = time.time
    with sending_heartbeats(file, BEAT):
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        with pytest.raises(RunLocked):
            wait_for_silence(file, wait=False, beat_seconds=BEAT)
        assert read_heartbeat(file).age_seconds >= 0
    write_json(file, OTHER)
    wait_for_silence(file, wait=False, beat_seconds=BEAT)


def test_a_waiting_process_continues_when_the_other_ends(file):
    with sending_heartbeats(file, BEAT):
        waiting = threading.Thread(target=wait_for_silence, args=(file, True, BEAT))
        waiting.start()
        time.sleep(2 * heartbeat.SILENT_BEATS * BEAT)
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_a_process_whose_run_was_taken_over_stops_and_leaves_the_sign_of_the_other(file):
    messages = []
    with sending_heartbeats(file, BEAT, lost=messages.append):
        write_json(file, OTHER)
        until(lambda: messages)
    assert messages[0].endswith("process 4711 on tpu-7 has taken over this run; this one stops")
    assert read_heartbeat(file) == Heartbeat(**OTHER)


def test_a_taken_over_process_ends_with_a_clear_last_line(file):
    code = f"""
        import time
        from etils import epath
        from lossline_jax.storage.heartbeat import sending_heartbeats
        with sending_heartbeats(epath.Path({str(file)!r}), {BEAT}):
            print("held", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **options)
    assert process.stdout.readline() == "held\n"
    write_json(file, OTHER)
    _, err = process.communicate(timeout=50)
    assert process.returncode == RunLocked.exit_code
    assert err.splitlines() == [f"lossline: {file}: process 4711 on tpu-7 has taken over this run; this one stops"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": 1}', "null"])
def test_a_file_that_is_no_heartbeat_counts_as_none(file, content):
    file.parent.mkdir()
    file.write_text(content)
    assert read_heartbeat(file) is None


def test_on_a_shared_disk_the_writer_on_another_machine_is_seen(tmp_path):
    run = StudyDir(epath.Path(tmp_path)).run("r")
    sign = run.root / "alive.json"
    with hold_run_lock(run.lock_file):
        assert lock_holder(run.lock_file) == read_heartbeat(sign)
        assert lock_holder(run.lock_file).is_of_this_machine
        own_sign = read_heartbeat(sign)
    assert not is_locked(run.lock_file)
    write_json(sign, OTHER)
    assert lock_holder(run.lock_file).host == "tpu-7"
    os.utime(sign, (0, 0))
    assert not is_locked(run.lock_file)  # its last heartbeat is decades old
    killed = dataclasses.asdict(own_sign)
    write_json(sign, {name: killed[name] for name in OTHER})
    assert not is_locked(run.lock_file)  # the process was on this machine, and the kernel holds no lock for it
