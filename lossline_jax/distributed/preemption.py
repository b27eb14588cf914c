"""Treat SIGTERM as a request to save and leave. Engines send it before they take a machine away."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from lossline_jax.distributed.processes import is_distributed
from lossline_jax.errors import RESTART_EXIT_CODE

_call_numbers = itertools.count(1)  # jax needs numbers that increase over the life of the process, over all its runs


def stop_agreed() -> bool:
    """Return whether one of several processes got SIGTERM. All processes get the same answer.

    Every process must call this function equally often. jax.distributed catches the signal, and lets the processes
    agree on the call from which on the answer is True.
    """
    return multihost_utils.reached_preemption_sync_point(next(_call_numbers))


class StopRequest:
    """A context manager that records SIGTERM while it is open. It restores the previous handler on exit.

    A single process handles the signal itself, in its main thread. Several processes agree with `stop_agreed`.
    """

    def __init__(self) -> None:
        self._received = self._may_raise = False
        self._alone = not is_distributed()
        self._handles = self._alone and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopRequest":
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def requested(self) -> bool:
        """Return whether to stop now. All processes get the same answer if each of them asks after every step."""
        return self._received if self._alone else stop_agreed()

    @contextlib.contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """Let SIGTERM interrupt the block in a single process. The resumed run must repeat the work in the block.

        Raises:
            SystemExit: code 42 at SIGTERM inside the block, or before the block if the signal came earlier.
        """
        self._may_raise = True
        try:
            if self._received:
                raise SystemExit(RESTART_EXIT_CODE)
            yield
        finally:
            self._may_raise = False

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if self._may_raise:
            self._may_raise = False  # so that a second signal does not interrupt the exit
            raise SystemExit(RESTART_EXIT_CODE)
