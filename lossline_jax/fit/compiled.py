"""How fitting programs are compiled: in float64, with broadcasting."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Arrays of 64 bits and numpy's broadcasting, whatever the process around has chosen."""
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield
