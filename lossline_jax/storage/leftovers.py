"""Removal of leftovers of killed processes: temporary files and folders `.NAME.XXXXXXXX.part` that were never renamed.

A process that writes a part holds the kernel's lock on the part. The kernel drops the lock when the process dies, so a
part without a lock can be removed. A part on a file system without such locks is left alone, and on Windows a folder.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator

from filelock import lock_descriptor

PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
YOUNG_SECONDS = 30.0  # a younger part is left alone, since a process creates a part just before it locks the part


def hold(descriptor: int) -> None:
    """Lock a part until its descriptor is closed, or until this process dies.

    Args:
        descriptor: an open file or folder.
    """
    with contextlib.suppress(OSError):
        lock_descriptor(descriptor)


@contextlib.contextmanager
def held(folder: os.PathLike) -> Iterator[None]:
    """Lock a folder that is a part while the block runs."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder
        yield
        return
    try:
        hold(descriptor)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(*folders: os.PathLike) -> list[str]:
    """Remove the parts in these folders that no process writes any more, and return their paths.

    Args:
        *folders: folders to look into, not deeper. A folder that does not exist is skipped.
    """
    removed = []
    for part in parts_without_writer(*folders):
        with contextlib.suppress(OSError):  # another process was faster, or the folder is read-only
            shutil.rmtree(part) if os.path.isdir(part) else os.unlink(part)
            removed.append(part)
    return removed


def parts_without_writer(*folders: os.PathLike) -> list[str]:
    """Return the paths of the parts in these folders that no process writes any more.

    Args:
        *folders: as for `remove_leftovers`.
    """
    parts = [
        entry
        for folder in folders
        if os.path.isdir(folder)  # an object store has no parts, since each file is put there in one piece
        for entry in os.scandir(folder)
        if PART.fullmatch(entry.name)
    ]
    found = []
    for part in parts:
        with contextlib.suppress(OSError):  # another process has just removed it
            if time.time() - part.stat().st_mtime > YOUNG_SECONDS and not _is_held(part):
                found.append(part.path)
    return found


def _is_held(part: os.PathLike) -> bool:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        return not lock_descriptor(descriptor, blocking=False)
    except OSError:  # the file system has no locks
        return True
    finally:
        os.close(descriptor)
