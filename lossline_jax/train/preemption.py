"""SIGTERM as a request to save and leave, which an engine that takes machines away sends."""

import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

RESTART_EXIT_CODE = 42  # "checkpointed, restart me": xpk and the launchers of this house restart on it


class StopRequest:
    """Notes SIGTERM while its context is open, and puts the old handler back.

    One process (in its main thread) handles the signal itself. Of several, each must stop at the same step:
    there jax.distributed catches the signal and agrees on one.
    """

    def __init__(self) -> None:
        self._noted = False
        self._alone = jax.process_count() == 1
        self._handles = self._alone and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopRequest":
        if self._handles:
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles:
            signal.signal(signal.SIGTERM, self._previous)

    def after(self, step: int) -> bool:
        """Whether to stop now that `step` is dispatched; the same answer in every process."""
        return self._noted if self._alone else multihost_utils.reached_preemption_sync_point(step)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True
