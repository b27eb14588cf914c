"""Give every test eight CPU devices, before jax starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from lossline_jax.pipeline.compilation_cache import enable_compilation_cache

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
enable_compilation_cache()  # a program is compiled once, and not in every run of the tests


@pytest.fixture(scope="module")
def quick_compilation():
    """Halve the time to compile, for tests that compile many small programs. The results are the same."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
