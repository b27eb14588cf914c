"""The evaluator gives the same scores on several processes of this machine as on one process."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.support.paths import ROOT, SUPPORT

SCRIPT = SUPPORT / "score_in_processes.py"


def score(count, folder):
    """Return the output of each of `count` processes, which have 4 devices together."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), str(count), str(port), folder],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    return [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]


def test_every_process_gets_the_scores_that_one_process_gets(tmp_path):
    (alone,) = score(1, tmp_path)
    first, second = score(2, tmp_path)
    assert len(alone) == 12 + 10 * 4
    assert first == second
    assert first == pytest.approx(alone, rel=1e-6)
