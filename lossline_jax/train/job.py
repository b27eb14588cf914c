"""The training job of a process: a run with its model, its batches, its folder and its devices."""

from dataclasses import dataclass
from typing import Any, Protocol

from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.models.accounting import train_flops_per_token
from lossline_jax.models.model import Model
from lossline_jax.storage.paths import RunDir


class BatchIterator(Protocol):
    """An iterator over batches. Threads read ahead until the iterator is closed."""

    def __next__(self) -> Any:
        """Return a pytree of numpy arrays with the fields of `step.TrainingBatch`."""
        ...

    def close(self) -> None:
        """End the threads."""


class BatchStream(Protocol):
    """A sequence of batches in which batch k is a pure function of k, such as `data.batches.BatchSource`."""

    @property
    def fingerprint(self) -> str:
        """A fingerprint of everything that the content of batch k depends on."""
        ...

    def check_epochs(self, num_steps: int) -> None:
        """Raise LosslineError if `num_steps` repeat the data more often than the run allows."""

    def iterate(self, start_step: int, process_index: int, process_count: int) -> BatchIterator:
        """Return the rows of one of `process_count` processes, from batch `start_step` on."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A run and everything that one process needs to train it.

    Attributes:
        run: the run.
        model: its model.
        source: its batches.
        run_dir: its folder, for steps.jsonl, checkpoints/, and done.json or failed.json.
        execution: execution settings, which may differ between restarts of the run.
        mesh: the mesh, as `mesh.make_mesh` returns it.
    """

    run: RunConfig
    model: Model
    source: BatchStream
    run_dir: RunDir
    execution: ExecutionConfig
    mesh: Mesh

    @property
    def flops_per_token(self) -> float:
        """The training FLOPs of one token, forward and backward."""
        flops = train_flops_per_token(self.run.model, self.model.vocab_size, self.run.context_length)
        return flops * self.run.gradients_per_step
