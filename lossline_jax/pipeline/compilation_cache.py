"""Compiled programs, kept between processes in the user's own cache folder."""

import functools
import os
from pathlib import Path

import jax

from lossline_jax import logs
from lossline_jax.errors import LosslineError
from lossline_jax.storage.object_store import expanded, reachable_path

VARIABLE = "LOSSLINE_CACHE"


def enable_compilation_cache() -> None:
    """Let JAX keep its compiled programs in $LOSSLINE_CACHE (by default the user's cache folder).

    It sets options of the user's jax, so only commands call it, and what prepares a process to train. The programs
    are machine code that is run when it is found again. So they lie with the user, and not in the folder of a
    study, which may come from someone else and holds data alone. Nothing is kept where LOSSLINE_CACHE is empty, and
    JAX_COMPILATION_CACHE_DIR comes first.

    Raises:
        LosslineError: LOSSLINE_CACHE is an address other than gs://, or a bucket that cannot be had.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossline"
    folder = expanded(os.environ.get(VARIABLE, str(default)))
    folder = _connected(folder) if "://" in folder else _made(folder)
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _connected(address: str) -> str:
    if not address.startswith("gs://"):
        raise LosslineError(f"{VARIABLE}: {address} is neither a folder nor a gs:// address; name one of these")
    try:
        return str(reachable_path(address))
    except LosslineError as error:
        raise type(error)(f"{VARIABLE}: {error}") from error


@functools.cache  # so that a process warns once
def _made(folder: str) -> str:
    """The folder, for this user alone; empty, with a warning, where it cannot be made or written."""
    if not folder:
        return ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # no one else puts programs there
        writable, reason = os.access(folder, os.W_OK | os.X_OK), "not writable"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if writable:
        return folder
    logs.warning(
        f"lossline: {folder}: {reason}, so compiled programs are not kept; set {VARIABLE} to another folder, or to ''"
    )
    return ""
