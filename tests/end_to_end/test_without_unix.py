"""Verbs that train nothing work on a system without `fcntl` and `resource`, such as Windows."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT, SUPPORT, TESTS

TINY = str(SUPPORT / "tiny_study.py")
HIDDEN = """
import sys, warnings
warnings.filterwarnings("ignore", "only soft file lock is available")  # said on Unix alone
sys.modules["fcntl"] = sys.modules["resource"] = None
from lossline_jax.cli.main import main
main(sys.argv[1:])
"""


def lossline(folder, *words):
    """Run one command of lossline in a process in which neither module can be imported."""
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("plan", "quickstart"), "18 runs"),
        (("laws",), "steplaw batch"),
        (("new", "my_study"), "lossline-jax plan my_study.py"),
        (("table", "fit", str(ROOT / "examples/losses.csv"), "--x", "wiki", "--y", "techdoc_cloze"), "kappa"),
    ],
)
def test_verbs_without_a_study_folder_work(tmp_path, words, expected):
    done = lossline(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


def test_a_study_is_prepared_and_shown(tmp_path):
    tiny = (TINY, "--max-bytes", "60000")
    prepared = lossline(tmp_path, "prepare", *tiny)
    assert prepared.returncode == 0, prepared.stderr
    assert (tmp_path / "studies/tiny/prepared/prepared.json").is_file()
    assert not list(tmp_path.rglob("*.part"))
    status = lossline(tmp_path, "status", "studies/tiny")
    assert "0 of 3 runs done" in status.stdout, status.stderr
    shown = lossline(tmp_path, "show", str(TESTS / "golden/old_study"))
    assert "bits/byte" in shown.stdout, shown.stderr


def test_heartbeats_keep_a_second_writer_out(tmp_path):
    """Without locks of the kernel, a run is held as on an object store."""
    code = f"""
import sys
sys.modules["fcntl"] = None
from etils import epath
from lossline_jax.errors import RunLocked
from lossline_jax.storage import heartbeat
from lossline_jax.storage.run_lock import hold_run_lock, lock_holder
heartbeat.BEAT_SECONDS = 0.3
lock = epath.Path({str(tmp_path)!r}) / "runs" / "r" / "lock"
with hold_run_lock(lock):
    assert lock_holder(lock).is_of_this_machine
    try:
        with hold_run_lock(lock):
            raise AssertionError("held twice")
    except RunLocked:
        pass
assert lock_holder(lock) is None
with hold_run_lock(lock):
    print("free again")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "free again\n", done.stderr
