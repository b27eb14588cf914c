"""Our side: the product's own train step and scoring function on synthetic tokens."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lossline_jax.evaluate.evaluator import TOKENS_PER_BATCH_CPU, row_nats
from lossline_jax.models.base import Model, build_model
from lossline_jax.models.config import ModelConfig
from lossline_jax.sharding import make_mesh, place_batch
from lossline_jax.train.config import ExecutionConfig, OptimConfig, ScheduleConfig
from lossline_jax.train.optim import make_optimiser, make_schedule
from lossline_jax.train.state import TrainState, abstract_state, init_state
from lossline_jax.train.step import StepBatch, TrainStep, make_train_step

OPTIM = OptimConfig()
EXECUTION = ExecutionConfig()


def synthetic_tokens(vocab_size: int, batch_size: int, length: int) -> np.ndarray:
    """int32 [B, T + 1]: inputs are all but the last column, targets all but the first."""
    return np.random.default_rng(0).integers(0, vocab_size, (batch_size, length + 1), dtype=np.int32)


@dataclass
class Training:
    """A model at its start values, its compiled-on-first-use step, and one batch that every step trains on."""

    model: Model
    mesh: Mesh
    step: TrainStep
    state: TrainState
    batch: StepBatch

    def first_loss(self) -> float:
        """Nats a token at the start values; goes one step."""
        return self._advance()

    def train(self) -> None:
        """Forward, backward, clip, AdamW."""
        self._advance()

    def _advance(self) -> float:
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step(self.state, self.batch)
            return float(metrics.loss_nats_per_token)

    def compiled_step(self) -> Any:
        """The step compiled ahead of time, for its memory and its compile time; the state is left alone."""
        with jax.set_mesh(self.mesh):
            return self.step.lower(self.state, self.batch).compile()


def training(config: ModelConfig, vocab_size: int, batch_size: int, length: int) -> Training:
    """As `train.loop` sets a run up. `sharding.configure_devices` comes before."""
    model, mesh = build_model(config, vocab_size, remat="cheap"), make_mesh(EXECUTION)
    schedule = make_schedule(ScheduleConfig(), OPTIM.learning_rate, num_steps=10_000)
    optimiser = make_optimiser(OPTIM, schedule, model.decayed())
    abstract = abstract_state(model, optimiser, mesh)
    sizes = {"batch_size": batch_size, "context_length": length}
    step = make_train_step(model, optimiser, schedule, abstract, **sizes, execution=EXECUTION, mesh=mesh)
    ids = synthetic_tokens(vocab_size, batch_size, length)
    rows = StepBatch(ids[:, :-1], ids[:, 1:], np.ones((batch_size, length), np.float32))
    return Training(model, mesh, step, init_state(model, optimiser, 0, abstract), place_batch(rows, mesh))


@dataclass
class Scoring:
    """The forward pass as the evaluator runs it: batches of about 2048 tokens a device, nats a row."""

    model: Model
    mesh: Mesh
    params: Any
    arrays: tuple[jax.Array, ...]

    def score(self) -> None:
        with jax.set_mesh(self.mesh):
            jax.block_until_ready(row_nats(self.model, self.params, *self.arrays))


def scoring(run: Training, batch_size: int, length: int) -> Scoring:
    """Scores the batch of `run` with its parameters of now."""
    devices = run.mesh.shape["data"]
    rows = min(batch_size, devices * max(TOKENS_PER_BATCH_CPU // length, 1))
    ids = synthetic_tokens(run.model.vocab_size, batch_size, length).reshape(-1, rows, length + 1)
    shape = ids.shape[:2]
    sharding = NamedSharding(run.mesh, PartitionSpec(None, "data"))
    arrays = (ids, np.zeros(shape, np.int32), np.full(shape, length, np.int32))
    placed = tuple(jax.device_put(array, sharding) for array in arrays)
    params = jax.tree.map(lambda leaf: leaf.copy(), run.state.params)  # the step donates its own
    return Scoring(run.model, run.mesh, params, placed)
