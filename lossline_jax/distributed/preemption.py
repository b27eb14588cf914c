"""SIGTERM as a request to save and leave, which an engine that takes machines away sends."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils

from lossline_jax.distributed.processes import is_distributed
from lossline_jax.errors import RESTART_EXIT_CODE

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
        self._noted = self._may_raise = False
        self._alone = not is_distributed()
        self._handles = self._alone and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopRequest":
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def requested(self) -> bool:
        """Whether to stop now; the same answer in every process, if each asks after every step."""
        return self._noted if self._alone else stop_agreed()

    @contextlib.contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """Let SIGTERM break off the block, of a process that is alone: what is in it must be done again at resume.

        Raises:
            SystemExit: code 42, inside the block; before it, if the signal has come already.
        """
        self._may_raise = True
        try:
            if self._noted:
                raise SystemExit(RESTART_EXIT_CODE)
            yield
        finally:
            self._may_raise = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
        if self._may_raise:
            self._may_raise = False  # a second signal leaves the first one its way out
            raise SystemExit(RESTART_EXIT_CODE)
