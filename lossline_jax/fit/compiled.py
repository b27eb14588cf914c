"""How fitting programs are compiled: in float64, with broadcasting, and kept between processes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax

VARIABLE = "LOSSLINE_CACHE"


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Arrays of 64 bits and numpy's broadcasting, whatever the process around has chosen."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def keep_programs() -> None:
    """Let JAX keep its compiled programs in $LOSSLINE_CACHE (by default the user's cache folder).

    Does nothing where a folder is set already (by a study, or by JAX_COMPILATION_CACHE_DIR), or where
    LOSSLINE_CACHE is empty.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossline"
    folder = os.environ.get(VARIABLE, str(default))
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
