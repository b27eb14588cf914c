"""A run that is killed by SIGKILL and started again equals an uninterrupted run bit for bit."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.models.model import build_model
from lossline_jax.storage.moments import steps_with_moments
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import checkpoint_steps
from lossline_jax.train.checkpoint import load_checkpoint_params
from tests.support.paths import SUPPORT
from tests.support.tiny_training import RUN, VOCAB

SCRIPT = SUPPORT / "tiny_training.py"


def train(folder, kill="never"):
    command = [sys.executable, str(SCRIPT), str(folder), kill]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(SCRIPT.parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def outcome(folder):
    """Return the logged losses, and the final parameters as bytes."""
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    mesh = make_mesh(ExecutionConfig(data_parallel=1))
    params = load_checkpoint_params(RunDir(epath.Path(folder)), RUN.num_steps, build_model(RUN.model, VOCAB), mesh)
    losses = [(row["step"], row["loss_nats_per_token"], row["grad_norm"]) for row in rows]
    return losses, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


@pytest.mark.slow  # five processes that each compile
def test_a_run_killed_three_times_resumes_bit_for_bit(tmp_path):
    """The run is killed after step 6, while it writes the checkpoint of step 8, and while it removes older moments.

    It resumes twice from step 4, and then from step 8.
    """
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for kill in ("between", "inside"):
        assert train(killed, kill).returncode == -signal.SIGKILL
        assert checkpoint_steps(RunDir(epath.Path(killed))) == [4]
        with (killed / "steps.jsonl").open("a") as file:
            file.write('{"step": 7, "loss')  # a row that was only partly written
    assert train(killed, "moments").returncode == -signal.SIGKILL
    assert steps_with_moments(RunDir(epath.Path(killed))) == [8]
    assert checkpoint_steps(RunDir(epath.Path(killed))) == [4, 8]
    for folder in (straight, killed):
        process = train(folder)
        assert process.returncode == 0, process.stderr
    losses, parameters = outcome(killed)
    assert [step for step, *_ in losses] == list(range(1, 13))
    assert (losses, parameters) == outcome(straight)
