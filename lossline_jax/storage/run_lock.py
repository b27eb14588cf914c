"""Locks that allow one writer for each run and one for the run's rows.

A disk uses the kernel's lock, by filelock on every system. An object store, and a disk whose kernel has no locks, use
heartbeats (heartbeat.py).
"""

import contextlib
import errno
import time
from collections.abc import Iterator
from typing import IO

from etils import epath
from filelock import lock_descriptor

from lossline_jax.errors import LosslineError, RunLocked
from lossline_jax.storage import heartbeat
from lossline_jax.storage.files import is_remote, make_folder

LOCK_TRIES, LOCK_SECONDS = 5, 0.02  # number of tries to take a lock, and the pause between two tries
LOOK_TRIES, LOOK_SECONDS = 3, 0.002  # the same for a look at a lock, which itself holds the lock for an instant
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP)  # the system or the file system has no locks


@contextlib.contextmanager
def hold_run_lock(lock: epath.Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run, or of the rows of a run, while the block runs. A second process is refused.

    The kernel drops the lock when the process dies, so a killed run leaves nothing to clean up. An object store has no
    such lock, and some disks have none. There the heartbeat of another process is watched before the run is taken.

    Args:
        lock: file of the lock: `RunDir.lock_file` for training, `StudyDir.scoring_lock` for scoring.
        wait: True: wait until the process that holds the lock has ended. False: raise.

    Raises:
        RunLocked: another process holds the lock.
    """
    alive_file = _heartbeat_file(lock)
    with contextlib.ExitStack() as stack:
        if is_remote(lock):
            is_kernels = False
        else:
            make_folder(lock.parent)
            is_kernels = _take_lock(stack.enter_context(_open_lock(lock)), lock, wait)
        if not is_kernels:
            heartbeat.wait_for_silence(alive_file, wait, heartbeat.BEAT_SECONDS)
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
        locked = _kernel_answer(lock)
        if locked:
            return latest or heartbeat.Heartbeat()
        if locked is False and latest is not None and latest.is_of_this_machine:
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


def _take_lock(file: IO[bytes], lock: epath.Path, wait: bool) -> bool:
    """Take the kernel's lock, and return False if there are no such locks.

    There are a few tries, since `lock_holder` in another process also holds the lock for an instant.
    """
    try:
        if wait:
            return lock_descriptor(file.fileno())
        for tries_left in reversed(range(LOCK_TRIES)):
            if lock_descriptor(file.fileno(), blocking=False):
                return True
            if tries_left:
                time.sleep(LOCK_SECONDS)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    raise RunLocked(f"{lock}: another process is working on this run; run again when it is done")


def _kernel_answer(lock: epath.Path) -> bool | None:
    """Return True if a process holds the kernel's lock. None: the kernel has no locks here."""
    try:
        opened = lock.open("rb")  # only for reading, since the user may have no permission to write
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LosslineError(f"{lock}: cannot read ({error.strerror}); fix its permissions") from error
    with opened as file:
        try:
            for tries_left in reversed(range(LOOK_TRIES)):
                if lock_descriptor(file.fileno(), blocking=False):
                    return False
                if tries_left:
                    time.sleep(LOOK_SECONDS)
        except OSError as error:
            # EBADF: a disk of the network locks only files that are open for writing.
            if error.errno not in (*NO_LOCKS, errno.EBADF):
                raise
            return None
    return True


def _open_lock(lock: epath.Path) -> IO[bytes]:
    try:
        return lock.open("ab")
    except OSError as error:
        raise LosslineError(f"{lock}: cannot write ({error.strerror}); fix its permissions") from error
