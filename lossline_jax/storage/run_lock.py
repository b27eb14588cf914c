"""Locks that allow one writer for each run and one for the run's rows.

A disk uses the kernel's lock. An object store has no locks and uses heartbeats (heartbeat.py).
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from typing import IO

from etils import epath

from lossline_jax.errors import LosslineError, RunLocked
from lossline_jax.storage import heartbeat
from lossline_jax.storage.files import is_remote, make_folder

LOCK_TRIES, LOCK_SECONDS = 5, 0.02  # number of tries to take a lock, and the pause between two tries


@contextlib.contextmanager
def hold_run_lock(lock: epath.Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run, or of the rows of a run, while the block runs. A second process is refused.

    The kernel drops the lock when the process dies, so a killed run leaves nothing to clean up. An object store has no
    such lock. There the heartbeat of another process is watched before the run is taken.

    Args:
        lock: file of the lock: `RunDir.lock_file` for training, `StudyDir.scoring_lock` for scoring.
        wait: True: wait until the process that holds the lock has ended. False: raise.

    Raises:
        RunLocked: another process holds the lock.
    """
    alive_file = _heartbeat_file(lock)
    if is_remote(lock):
        heartbeat.wait_for_silence(alive_file, wait, heartbeat.BEAT_SECONDS)
        with heartbeat.sending_heartbeats(alive_file, heartbeat.BEAT_SECONDS):
            yield
        return
    make_folder(lock.parent)
    with _open_lock(lock) as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _take_lock(file, lock)
        with heartbeat.sending_heartbeats(alive_file, heartbeat.BEAT_SECONDS):
            yield


def lock_holder(lock: epath.Path) -> heartbeat.Heartbeat | None:
    """Return the heartbeat of the process that holds `lock`, as far as this machine can see. None: no process does.

    On a disk the kernel knows the processes of this machine. Processes of another machine that shares the disk, and
    all processes on an object store, are known by their heartbeats.

    Args:
        lock: file of the lock, as for `hold_run_lock`.
    """
    latest = heartbeat.read_heartbeat(_heartbeat_file(lock))
    if not is_remote(lock):
        if _is_locked(lock):
            return latest or heartbeat.Heartbeat()
        if latest is not None and latest.is_of_this_machine:
            return None  # the process was killed, and the kernel has dropped its lock
    if latest is not None and latest.age_seconds < heartbeat.SILENT_BEATS * heartbeat.BEAT_SECONDS:
        return latest
    return None


def is_locked(lock: epath.Path) -> bool:
    """Return True if a process holds the lock right now; see `lock_holder`."""
    return lock_holder(lock) is not None


def _heartbeat_file(lock: epath.Path) -> epath.Path:
    """Return `alive.json` for the file `lock`, and `<run>.alive.json` for `<run>.lock`."""
    return lock.parent / f"{lock.name.removesuffix('lock')}alive.json"


def _take_lock(file: IO[bytes], lock: epath.Path) -> None:
    """Try a few times to take the lock, since `lock_holder` in another process also holds the lock for an instant."""
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if not tries_left:
                raise RunLocked(f"{lock}: another process is working on this run; run again when it is done") from error
        time.sleep(LOCK_SECONDS)


def _is_locked(lock: epath.Path) -> bool:
    try:
        opened = lock.open("rb")  # only for reading, since the user may have no permission to write
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LosslineError(f"{lock}: cannot read ({error.strerror}); fix its permissions") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open_lock(lock: epath.Path) -> IO[bytes]:
    try:
        return lock.open("ab")
    except OSError as error:
        raise LosslineError(f"{lock}: cannot write ({error.strerror}); fix its permissions") from error
