"""A run that computes in bfloat16 learns what a float32 run learns."""

import argparse
import dataclasses
import inspect

import jax
import numpy as np
import pytest

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.config.training import OptimConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.batch_rows import place_batch
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.models.model import build_model
from lossline_jax.train.state import init_state
from lossline_jax.train.step import train_program
from tests.support.tiny_training import RUN

BATCH, LENGTH, STEPS, WINDOW = 8, 32, 1000, 100
CONFIGS = {
    "llama": LlamaConfig(d_model=32, num_layers=2, num_heads=2, d_ff=64),
    "mamba2": Mamba2Config(d_model=32, num_layers=2, num_heads=2, d_state=8, d_inner=64, chunk_size=16),
}


def batches():
    """Yield batches of random windows of a source file, byte by byte."""
    text = np.frombuffer(inspect.getsource(argparse).encode(), np.uint8).astype(np.int32)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        starts_B = rng.integers(0, len(text) - LENGTH - 1, BATCH)
        rows = text[starts_B[:, None] + np.arange(LENGTH + 1)]
        yield Batch(rows[:, :-1], rows[:, 1:], np.ones((BATCH, LENGTH), np.float32))


def losses_of_a_run(config):
    model = build_model(config, 256)
    sizes = {"batch_size": BATCH, "context_length": LENGTH, "tokens": STEPS * BATCH * LENGTH}
    run = dataclasses.replace(
        RUN, optim=OptimConfig(learning_rate=1e-3), **sizes
    )  # at 3e-3 float32 runs differ as much
    execution = ExecutionConfig(data_parallel=2)
    mesh = make_mesh(execution)
    step, rule, abstract, _ = train_program(run, model, execution, mesh)
    state, losses = init_state(model, rule, 0, abstract), []
    with jax.set_mesh(mesh):
        for batch in batches():
            state, metrics = step(state, place_batch(batch, mesh))
            losses.append(metrics.loss_nats_per_token)
    return np.array(jax.device_get(losses)).reshape(-1, WINDOW).mean(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGS))
def test_bfloat16_stays_within_half_a_percent_of_float32(name):
    """Means over 100 steps are compared. Both runs have the same 1000 batches and the same start."""
    whole = losses_of_a_run(CONFIGS[name])
    half = losses_of_a_run(dataclasses.replace(CONFIGS[name], compute_dtype="bfloat16"))
    assert whole[-1] < 0.7 * whole[0]  # the model has learnt something
    np.testing.assert_allclose(half, whole, rtol=5e-3)
    assert not np.array_equal(half, whole)
