"""Keep compiled programs between processes, in the user's own cache folder."""

import functools
import os
from pathlib import Path

import jax

from lossline_jax import logs
from lossline_jax.errors import LosslineError
from lossline_jax.storage.object_store import expanded, reachable_path

VARIABLE = "LOSSLINE_CACHE"  # environment variable with the cache folder; empty: no cache


def enable_compilation_cache() -> None:
    """Let jax keep its compiled programs in $LOSSLINE_CACHE, by default the user's cache folder.

    The function sets global options of jax. So only commands call it, and the code that prepares a process to train.

    Cached programs are machine code that a later process runs. So the cache belongs to the user. It is not in the
    study's folder, which may come from someone else and holds data alone.

    Nothing is kept if LOSSLINE_CACHE is empty. JAX_COMPILATION_CACHE_DIR has precedence over LOSSLINE_CACHE.

    Raises:
        LosslineError: LOSSLINE_CACHE is an address other than gs://, or a bucket that cannot be reached.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]  # jax adds its options at run time
        return
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossline"
    folder = expanded(os.environ.get(VARIABLE, str(default)))
    folder = _bucket(folder) if "://" in folder else _local_folder(folder)
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _bucket(address: str) -> str:
    if not address.startswith("gs://"):
        raise LosslineError(f"{VARIABLE}: {address} is neither a folder nor a gs:// address; set it to one of these")
    try:
        return str(reachable_path(address))
    except LosslineError as error:
        raise type(error)(f"{VARIABLE}: {error}") from error


@functools.cache  # so that a process warns once
def _local_folder(folder: str) -> str:
    """Make the folder. Return an empty string, with a warning, if it cannot be made or written."""
    if not folder:
        return ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # only the user may put programs there
        writable, reason = os.access(folder, os.W_OK | os.X_OK), "not writable"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if writable:
        return folder
    logs.warning(
        f"lossline: {folder}: {reason}, so compiled programs are not kept; set {VARIABLE} to another folder, or to ''"
    )
    return ""
