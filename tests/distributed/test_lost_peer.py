"""jax reports a lost peer in words that it does not document. Each way to lose a peer is provoked here."""

import json
import subprocess
import sys

import pytest

from lossline_jax.distributed.shutdown import PEER_IS_GONE, explain_device_error
from tests.support.gangs import environment, free_coordinator
from tests.support.paths import SUPPORT

WAYS = {"killed": ("Gloo", "Connection"), "late": ("DEADLINE_EXCEEDED",), "silent": ("UNAVAILABLE", "heartbeat")}


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_peer_asks_for_a_restart(way):
    coordinator = free_coordinator()
    first, second = (
        subprocess.Popen(
            [sys.executable, SUPPORT / "lost_peer.py", str(index), coordinator, way],
            env=environment(1),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    )
    out, err = first.communicate(timeout=150)
    second.communicate(timeout=60)
    assert first.returncode == 0, err
    lost = json.loads(out.splitlines()[-1])
    assert all(word in PEER_IS_GONE and word in lost["error"] for word in WAYS[way]), lost
    assert lost["kind"] == "Restart"
    assert lost["message"].startswith("lost the other processes (")


def test_a_process_alone_has_lost_nobody():
    assert explain_device_error(ValueError("UNAVAILABLE: no such thing")) is None
