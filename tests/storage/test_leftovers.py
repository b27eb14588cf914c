"""Partial files and folders of a killed process are removed. Those of a live process are kept."""

import os
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from lossline_jax.storage.files import write_atomic
from lossline_jax.storage.leftovers import YOUNG_SECONDS, remove_leftovers
from lossline_jax.storage.staged_folder import staged_folder

WRITER = """
import sys, time
from etils import epath
from lossline_jax.storage.staged_folder import staged_folder
with staged_folder(epath.Path(sys.argv[1]) / "store") as part:
    (part / "tokens").write_text("half")
    print(part, flush=True)
    time.sleep(600)
"""


def grow_old(path):
    os.utime(path, (time.time() - 2 * YOUNG_SECONDS,) * 2)


def test_a_part_is_removed_once_its_writer_is_dead_and_not_before(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    part = writer.stdout.readline().strip()
    grow_old(part)
    assert remove_leftovers(tmp_path) == []
    assert os.path.exists(part)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert remove_leftovers(tmp_path) == [part]
    assert os.listdir(tmp_path) == []


def test_a_file_aside_is_removed_when_it_is_old_enough(tmp_path):
    part = tmp_path / ".rows.jsonl.0123abcd.part"
    part.write_text("half a row")
    assert remove_leftovers(tmp_path) == []
    grow_old(part)
    assert remove_leftovers(tmp_path, tmp_path / "absent", epath.Path("gs://bucket/folder")) == [str(part)]


@pytest.mark.parametrize("name", ["rows.part", ".rows.jsonl", ".hidden.part", "x.0123abcd.part"])
def test_what_a_user_put_there_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    grow_old(tmp_path / name)
    assert remove_leftovers(tmp_path) == []


def test_nothing_is_left_aside_after_a_write(tmp_path):
    write_atomic(epath.Path(tmp_path) / "a.json", "{}")
    with staged_folder(epath.Path(tmp_path) / "store") as part:
        (part / "manifest.json").write_text("{}")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "store"]
