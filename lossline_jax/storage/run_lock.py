"""One writer of a run, or of its rows: the kernel's lock on a disk, a sign of life in an object store."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from typing import IO

from etils import epath

from lossline_jax.errors import LosslineError, RunLocked
from lossline_jax.storage import heartbeat
from lossline_jax.storage.files import is_remote, make_folder

LOCK_TRIES, LOCK_SECONDS = 5, 0.02  # of a lock that must be free: how often, and how long between two tries


@contextlib.contextmanager
def hold_run_lock(lock: epath.Path, wait: bool = False) -> Iterator[None]:
    """Refuse a second process on what `lock` stands for: a run that is trained, or the rows of one that is scored.

    The kernel holds the lock and drops it when the process dies, so a killed run leaves nothing to clean up.
    An object store has no such lock: there the sign of life of another process is watched before the run is taken.

    Args:
        wait: for a process that holds it, instead of giving up.

    Raises:
        RunLocked: another process holds it.
    """
    sign = _sign_file(lock)
    if is_remote(lock):
        heartbeat.wait_for_silence(sign, wait, heartbeat.BEAT_SECONDS)
        with heartbeat.sending_heartbeats(sign, heartbeat.BEAT_SECONDS):
            yield
        return
    make_folder(lock.parent)
    with _open_lock(lock) as file:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _take_lock(file, lock)
        with heartbeat.sending_heartbeats(sign, heartbeat.BEAT_SECONDS):
            yield


def lock_holder(lock: epath.Path) -> heartbeat.Heartbeat | None:
    """The process that works on what `lock` stands for, as far as this machine can see; None: there is none.

    On a disk the kernel knows the processes of this machine; those of another one that shares the disk, and those
    of an object store, are known by their sign of life.
    """
    sign = heartbeat.read_heartbeat(_sign_file(lock))
    if not is_remote(lock):
        if _is_locked(lock):
            return sign or heartbeat.Heartbeat()
        if sign is not None and sign.is_of_this_machine:
            return None  # killed: the kernel has dropped its lock
    return sign if sign is not None and sign.age_seconds < heartbeat.SILENT_BEATS * heartbeat.BEAT_SECONDS else None


def is_locked(lock: epath.Path) -> bool:
    """Whether a process holds the lock right now; see `lock_holder`."""
    return lock_holder(lock) is not None


def _sign_file(lock: epath.Path) -> epath.Path:
    """`alive.json` beside `lock`, `<run>.alive.json` beside `<run>.lock`."""
    return lock.parent / f"{lock.name.removesuffix('lock')}alive.json"


def _take_lock(file: IO[bytes], lock: epath.Path) -> None:
    """Try a few times: who merely looks whether there is a writer (`lock_holder`) holds the lock for an instant."""
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
        opened = lock.open("rb")  # who merely looks need not be allowed to write
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
        raise LosslineError(f"{lock}: cannot write ({error.strerror}); mend its permissions") from error
