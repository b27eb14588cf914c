"""The side of lossline in `models.py` and `costs.py`: its train step and scoring function, on synthetic tokens."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lossline_jax.config.data import ByteTokenizer, DataConfig
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import ModelConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.batch_rows import place_batch
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.evaluate.evaluator import RowScorer
from lossline_jax.evaluate.packing.rows import PackedRows
from lossline_jax.models.model import Model, build_model
from lossline_jax.train.state import TrainState, init_state
from lossline_jax.train.step import TrainStep, train_program

OPTIM = OptimConfig()
EXECUTION = ExecutionConfig()


def synthetic_tokens(vocab_size: int, batch_size: int, length: int) -> np.ndarray:
    """Return int32 [B, T + 1]. Inputs are all but the last column, and targets all but the first."""
    return np.random.default_rng(0).integers(0, vocab_size, (batch_size, length + 1), dtype=np.int32)


@dataclass
class Training:
    """A model at its start values, its step, and the one batch of every step. The first use compiles the step."""

    model: Model
    mesh: Mesh
    step: TrainStep
    state: TrainState
    batch: Batch

    def first_loss(self) -> float:
        """Train one step, and return the loss before it in nats/token."""
        return self._advance()

    def train(self) -> None:
        """Train one step: forward, backward, clip, AdamW."""
        self._advance()

    def _advance(self) -> float:
        with jax.set_mesh(self.mesh):
            self.state, metrics = self.step(self.state, self.batch)
            return float(metrics.loss_nats_per_token)

    def compiled_step(self) -> Any:
        """Compile the step ahead of time, for its memory and its compile time. The state does not change."""
        with jax.set_mesh(self.mesh):
            return self.step.lower(self.state, self.batch).compile()


def training(
    config: ModelConfig, vocab_size: int, batch_size: int, length: int, optim: OptimConfig = OPTIM
) -> Training:
    """Set a run up as `train.loop` does. Call `devices.configure_devices` first."""
    model, mesh = build_model(config, vocab_size, remat="cheap"), make_mesh(EXECUTION)
    tokens = 10_000 * batch_size * length  # for the schedule alone
    run = RunConfig(config, DataConfig((("synthetic", 1.0),)), ByteTokenizer(), length, batch_size, tokens, optim)
    step, rule, abstract, _ = train_program(run, model, EXECUTION, mesh)
    ids = synthetic_tokens(vocab_size, batch_size, length)
    rows = Batch(ids[:, :-1], ids[:, 1:], np.ones((batch_size, length), np.float32))
    return Training(model, mesh, step, init_state(model, rule, 0, abstract), place_batch(rows, mesh))


@dataclass
class Scoring:
    """A forward pass of the evaluator, in batches of about 2048 tokens a device. Every token is scored."""

    rows: RowScorer
    params: Any

    def score(self) -> None:
        self.rows(self.params)


def scoring(run: Training, batch_size: int, length: int) -> Scoring:
    """Return the forward pass over the batch of `run`, with a copy of its current parameters."""
    ids = synthetic_tokens(run.model.vocab_size, batch_size, length)
    places = np.arange(batch_size * length, dtype=np.int32)
    block = PackedRows(
        ids_BT=ids[:, :-1],
        visible_until_BT=np.full((batch_size, length), length - 1, np.int32),
        length_B=np.full(batch_size, length, np.int32),
        has_branches=False,
        source_S=places,
        target_S=ids[:, 1:].reshape(-1),
        request_S=places // length,
    )
    params = jax.tree.map(lambda leaf: leaf.copy(), run.state.params)  # the step donates its own
    return Scoring(RowScorer(run.model, run.mesh, [block], num_requests=batch_size), params)
