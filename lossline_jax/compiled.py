"""Compiled programs, kept between processes in the user's own cache folder."""

import os
from pathlib import Path

import jax

VARIABLE = "LOSSLINE_CACHE"


def keep_programs() -> None:
    """Let JAX keep its compiled programs in $LOSSLINE_CACHE (by default the user's cache folder).

    They are machine code that is run when it is found again. So they lie with the user, and not in the folder of
    a study, which may come from someone else and holds data alone. Does nothing where a folder is set already
    (JAX_COMPILATION_CACHE_DIR), where LOSSLINE_CACHE is empty, or where the folder cannot be made.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossline"
    folder = os.environ.get(VARIABLE, str(default))
    if not folder:
        return
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # no one else puts programs there
    except OSError:
        return  # a machine without a home: all is compiled anew
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
