"""End a process that makes no progress. Heartbeats only detect dead processes, not stuck ones."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from lossline_jax import logs
from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError

CHECKS_PER_LIMIT = 20  # checks within the time limit, so a stuck process ends at most a twentieth of it too late


class Watchdog:
    """A context manager that ends the process if `progress` is not called within a time limit.

    At the limit, the stacks of all threads and a message are written to stderr. The process then leaves with the exit
    code on which engines start it again.

    Args:
        stall_seconds: the time limit, in seconds.
        leave: function that ends the process with the given exit code.

    Raises:
        LosslineError: the time limit is not above 0.
    """

    def __init__(self, stall_seconds: float, leave: Callable[[int], None] = os._exit) -> None:
        if not stall_seconds > 0:
            raise LosslineError(
                f"execution.stall_seconds: {stall_seconds:g} is not a valid time to wait; give more than 0"
            )
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
        """Start the time limit again.

        Args:
            doing: the work that comes next, for the message.
        """
        self._last = time.monotonic(), doing  # the wall clock can jump, the monotonic clock cannot

    def _watch(self) -> None:
        while not self._closed.wait(self._limit / CHECKS_PER_LIMIT):
            since, doing = self._last
            if (stuck_for := time.monotonic() - since) > self._limit:
                if sys.__stderr__ is not None:
                    faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
                logs.warning(
                    f"lossline: stuck for {stuck_for:.0f} s ({doing}), longer than execution.stall_seconds="
                    f"{self._limit:g}; leaving, the same command continues from the newest checkpoint"
                )
                self._leave(RESTART_EXIT_CODE)
                return
