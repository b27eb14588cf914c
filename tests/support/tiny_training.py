"""A tiny model, data source and run for tests of training. As a script, it is one training process.

python tests/support/tiny_training.py FOLDER [KILL]     KILL: never | between | inside | moments

The process is killed between two checkpoints, inside one, or while it removes the moments of an older one.
"""

import os
import signal
import sys
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from lossline_jax.config.data import ByteTokenizer, DataConfig
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import constrain
from lossline_jax.ops.fsdp import gather_parameter
from lossline_jax.storage.paths import RunDir

VOCAB = 32
RUN = RunConfig(
    model=LlamaConfig(d_model=16, num_layers=1, num_heads=2),
    data=DataConfig((("wiki", 1.0),)),
    tokenizer=ByteTokenizer(),
    context_length=8,
    batch_size=16,
    tokens=12 * 16 * 8,  # twelve steps
    optim=OptimConfig(learning_rate=0.05),
    num_checkpoints=3,  # after steps 4, 8 and 12
)


@dataclass(frozen=True)
class Bigram:
    """A model that predicts a token from the one before it, with the interface of `model.Model`."""

    width: int = 16
    vocab_size: int = VOCAB

    def init(self, key):
        first, second = jax.random.split(key)
        return {
            "embed": jax.random.normal(first, (VOCAB, self.width)),
            "a_log": jnp.zeros((self.width,)),
            "unembed": jax.random.normal(second, (self.width, VOCAB)),
        }

    def axes(self):
        return {"embed": ("vocab", "embed"), "a_log": ("embed",), "unembed": ("embed", "vocab")}

    def weight_decay_mask(self):
        return {"embed": True, "a_log": False, "unembed": True}

    def nll(self, params, tokens_BT, targets_BT, segments_BT=None):
        shapes = {"embed": (VOCAB, self.width), "a_log": (self.width,), "unembed": (self.width, VOCAB)}
        params = {name: gather_parameter(leaf, shapes[name]) for name, leaf in params.items()}
        x_BTD = params["embed"][tokens_BT] * jnp.exp(params["a_log"])[None, None, :]
        x_BTD = constrain(x_BTD, "batch", "seq", "embed")
        logits_BTV = constrain(jnp.tanh(x_BTD) @ params["unembed"], "batch", "seq", "vocab")
        log_p_BTV = jax.nn.log_softmax(logits_BTV)
        return -jnp.take_along_axis(log_p_BTV, targets_BT[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class Source:
    """A source whose batch k is a pure function of (seed, k). Some positions have weight zero."""

    run: RunConfig = RUN
    seed: int = 0
    nan_at: int | None = None  # batch whose weights are all zero, so that its loss is 0 / 0; None: no such batch

    @property
    def fingerprint(self):
        return f"synthetic-{self.seed}"

    def check_epochs(self, num_steps):
        pass

    def batch(self, step, process_index=0, process_count=1):
        rng = np.random.default_rng([self.seed, step])
        rows, length = self.run.batch_size, self.run.context_length
        tokens = rng.integers(0, VOCAB, (rows, length + 1), dtype=np.int32)
        tokens[:, 1:] = np.where(rng.random((rows, length)) < 0.7, (3 * tokens[:, :-1] + 1) % VOCAB, tokens[:, 1:])
        weights = (rng.random((rows, length)) < 0.8).astype(np.float32)
        own_rows = slice(process_index * rows // process_count, (process_index + 1) * rows // process_count)
        weights = np.zeros_like(weights) if step == self.nan_at else weights
        return Batch(tokens[own_rows, :-1], tokens[own_rows, 1:], weights[own_rows])

    def iterate(self, start_step, process_index=0, process_count=1):
        for step in range(start_step, self.run.num_steps):
            yield self.batch(step, process_index, process_count)


class InterruptingSource(Source):
    """A source that sends SIGTERM to its process before it gives batch 5, so the run stops after step 6."""

    def batch(self, step, *where):
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, *where)


class KillingSource(Source):
    """A source that kills its process instead of giving batch 6, which is after the checkpoint of step 4."""

    def iterate(self, start_step, process_index=0, process_count=1):
        for step in range(start_step, self.run.num_steps):
            if step == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            yield self.batch(step, process_index, process_count)


def bigram_job(folder, execution: ExecutionConfig, source, run: RunConfig = RUN):
    """Return the job to train `Bigram` in a folder."""
    from lossline_jax.train.job import TrainingJob

    return TrainingJob(
        run=run,
        model=Bigram(),
        source=source,
        run_dir=RunDir(epath.Path(folder)),
        execution=execution,
        mesh=make_mesh(execution),
    )


def train_bigram(folder, execution: ExecutionConfig, source=None, **options):
    """Train `Bigram` in a folder, without output."""
    from lossline_jax.train.loop import train_run

    return train_run(bigram_job(folder, execution, source or Source()), show_progress=False, **options)


def main(folder: str, kill: str) -> None:
    """Train the tiny Llama of RUN on two devices."""
    from lossline_jax.models.model import build_model
    from lossline_jax.storage import moments
    from lossline_jax.train import checkpoint
    from lossline_jax.train.loop import train_run

    execution = ExecutionConfig(cpu_devices=2, log_every=1)
    configure_devices(execution)
    if kill == "inside":
        original = checkpoint._digests

        def digests(path):  # orbax has written the arrays of step 8, and meta.json is still missing
            return os.kill(os.getpid(), signal.SIGKILL) if path.name == "00000008" else original(path)

        checkpoint._digests = digests
    if kill == "moments":
        execution, write = replace(execution, keep_moments=1), moments.write_checkpoint

        def write_and_die(*arguments):  # meta.json of step 4 no longer lists the moments, which are still there
            write(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        moments.write_checkpoint = write_and_die
    job = bigram_job(folder, execution, KillingSource() if kill == "between" else Source())
    train_run(replace(job, model=build_model(RUN.model, VOCAB)))


if __name__ == "__main__":
    main(*sys.argv[1:])
