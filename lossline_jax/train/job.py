"""What a process is asked to train: a run with its model, its batches, its folder and its devices."""

from dataclasses import dataclass
from typing import Protocol

from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.models.accounting import train_flops_per_token
from lossline_jax.models.model import Model
from lossline_jax.storage.paths import RunDir
from lossline_jax.train.step import TrainingBatch


class BatchIterator(Protocol):
    """Yields batches that threads make ahead of need, until it is closed."""

    def __next__(self) -> TrainingBatch: ...

    def close(self) -> None: ...


class BatchStream(Protocol):
    """Batches of which number k is a pure function of k, such as `data.batches.BatchSource`."""

    @property
    def fingerprint(self) -> str:
        """Changes with anything that decides what batch k holds."""

    def check_epochs(self, num_steps: int) -> None:
        """Raise LosslineError if `num_steps` repeat the data more often than the run allows."""

    def iterate(self, start_step: int, process_index: int, process_count: int) -> BatchIterator:
        """Return the rows of one of `process_count` processes, from batch `start_step` on."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A run and all that one process needs to train it."""

    run: RunConfig
    model: Model
    source: BatchStream
    run_dir: RunDir  # gets steps.jsonl, checkpoints/, and done.json or failed.json
    execution: ExecutionConfig  # how to run; may differ from restart to restart
    mesh: Mesh  # of `mesh.make_mesh`

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs of one token, forward and backward."""
        return train_flops_per_token(self.run.model, self.model.vocab_size, self.run.context_length)
