"""Run one of two processes that lose each other: `python lost_peer.py INDEX COORDINATOR WAY`.

The process that stays prints JSON.

killed   process 1 dies, and process 0 waits for it in a program of both
late     process 1 does not reach a barrier in time
silent   process 1 dies, and process 0 waits at a barrier until the heartbeat of process 1 is missed
"""

import json
import os
import sys
import time

import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.distributed.processes import connect
from lossline_jax.distributed.shutdown import explain_device_error


def wait_for_peer(way: str) -> None:
    if way == "killed":
        while True:
            np.asarray(multihost_utils.broadcast_one_to_all(np.int32(1)))
    seconds = {"late": 2, "silent": 100}[way]
    distributed.global_state.client.wait_at_barrier("meet", 1000 * seconds)


def main(index: int, coordinator: str, way: str) -> None:
    connect(ProcessesConfig(coordinator=coordinator, count=2, index=index, heartbeat_seconds=5))
    if index == 1:
        if way == "late":
            time.sleep(10)
        os._exit(9)
    try:
        wait_for_peer(way)
    except Exception as error:  # noqa: BLE001 - whichever class the libraries raise is to be explained
        explained = explain_device_error(error)
        print(json.dumps({"error": str(error), "kind": type(explained).__name__, "message": str(explained)}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
