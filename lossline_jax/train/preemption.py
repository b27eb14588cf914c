"""SIGTERM as a request to save and leave, which an engine that takes machines away sends."""

import itertools
import signal
import threading
from types import FrameType

from jax.experimental import multihost_utils

from lossline_jax.processes import several

_asked = itertools.count(1)  # jax wants numbers that rise as long as the process lives, over all its runs


def stop_agreed() -> bool:
    """Whether a process of several got SIGTERM: the same answer in all, who must ask equally often.

    jax.distributed catches the signal, and lets the processes agree on the question from which on they say yes.
    """
    return multihost_utils.reached_preemption_sync_point(next(_asked))


class StopRequest:
    """Notes SIGTERM while its context is open, and puts the old handler back.

    One process (in its main thread) handles the signal itself; several agree (`stop_agreed`).
    """

    def __init__(self) -> None:
        self._noted = False
        self._alone = not several()
        self._handles = self._alone and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopRequest":
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def noted(self) -> bool:
        """Whether to stop now; the same answer in every process, if each asks after every step."""
        return self._noted if self._alone else stop_agreed()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
