"""Ends a process that makes no progress: heartbeats tell of dead processes, not of stuck ones."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from lossline_jax import logs
from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError

LOOKS = 20  # in the time that it waits


class Watchdog:
    """A context manager; while it is open, `progress` must be called again and again.

    Args:
        stall_seconds: how long it may not be; then the stacks of all threads and a line are written to stderr, and
            the process leaves with the code that engines start again.
        leave: what ends the process, given that code.

    Raises:
        LosslineError: a time that is none.
    """

    def __init__(self, stall_seconds: float, leave: Callable[[int], None] = os._exit):
        if not stall_seconds > 0:
            raise LosslineError(f"execution.stall_seconds: {stall_seconds:g} is no time to wait; give more than 0")
        self._limit, self._leave = stall_seconds, leave
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.progress("starting")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def progress(self, doing: str) -> None:
        """Something has been done, and `doing` comes next."""
        self._last = time.monotonic(), doing  # no clock of the wall: that one jumps

    def _watch(self) -> None:
        while not self._closed.wait(self._limit / LOOKS):
            since, doing = self._last
            if (quiet := time.monotonic() - since) > self._limit:
                faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
                logs.warning(
                    f"lossline: stuck for {quiet:.0f} s ({doing}), longer than execution.stall_seconds="
                    f"{self._limit:g}; leaving, the same command goes on from the newest checkpoint"
                )
                self._leave(RESTART_EXIT_CODE)
                return
