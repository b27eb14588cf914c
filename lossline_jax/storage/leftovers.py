"""Leftovers of killed processes: files and folders `.NAME.XXXXXXXX.part`, made aside and never renamed.

Whoever writes aside holds the kernel's lock on it, which is dropped when the process dies. So a part without a lock
is nobody's. One on a file system without such locks is left alone.
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator

PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
YOUNG_SECONDS = 30.0  # a part may be a moment older than its lock


def hold(descriptor: int) -> None:
    """Lock what is written aside until it is closed, or until this process dies."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def held(folder: os.PathLike) -> Iterator[None]:
    """Lock a folder that is written aside while the block runs."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(*folders: os.PathLike) -> list[str]:
    """Remove the parts that lie in these folders and that no process writes any more; returns their paths."""
    parts = [
        entry
        for folder in folders
        if os.path.isdir(folder)  # an object store has no parts: a file is put there whole
        for entry in os.scandir(folder)
        if PART.fullmatch(entry.name)
    ]
    removed = []
    for part in parts:
        with contextlib.suppress(OSError):  # another process is faster, or the folder may only be read
            if time.time() - part.stat().st_mtime > YOUNG_SECONDS and not _is_held(part):
                shutil.rmtree(part) if part.is_dir() else os.unlink(part)
                removed.append(part.path)
    return removed


def _is_held(part: os.PathLike) -> bool:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a lock, or no way to know
        return True
    finally:
        os.close(descriptor)
    return False
