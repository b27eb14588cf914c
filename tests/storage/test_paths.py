"""Writes are atomic, and a lock keeps a second writer out."""

import subprocess
import sys
import textwrap
import threading

import pytest
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_json, write_atomic, write_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_lock import hold_run_lock, is_locked


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path):
    path = epath.Path(tmp_path) / "deep" / "value.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": "ü"})
    assert read_json(path) == {"a": "ü"}
    assert [item.name for item in path.parent.iterdir()] == ["value.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = epath.Path(tmp_path) / "value.txt"
    write_atomic(path, "old")
    monkeypatch.setattr("os.fsync", lambda descriptor: None)

    def full_disk(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full_disk)
    with pytest.raises(LosslineError, match="No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in path.parent.iterdir()] == ["value.txt"]


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(LosslineError, match="cannot create this folder.*choose another"):
        write_atomic(epath.Path(blocker) / "study" / "x.txt", "x")


def test_a_second_process_on_a_live_run_is_refused_and_a_dead_one_leaves_no_trace(tmp_path):
    run = StudyDir(epath.Path(tmp_path)).run("r")
    code = textwrap.dedent(
        f"""
        from etils import epath
        from lossline_jax.storage.paths import StudyDir
        from lossline_jax.storage.run_lock import hold_run_lock
        with hold_run_lock(StudyDir(epath.Path({str(tmp_path)!r})).run("r").lock_file):
            print("held", flush=True)
            input()
        """
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LosslineError, match="another process is working on this run"), hold_run_lock(run.lock_file):
        pass
    assert is_locked(run.lock_file)
    holder.kill()
    holder.wait()
    assert not is_locked(run.lock_file)
    with hold_run_lock(run.lock_file):
        pass


def test_looking_for_a_writer_keeps_no_writer_out(tmp_path):
    lock = StudyDir(epath.Path(tmp_path)).run("r").lock_file
    with hold_run_lock(lock):
        pass
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_locked(lock)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(50):
            with hold_run_lock(lock):
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
