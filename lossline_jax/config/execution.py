"""How a run uses devices and processes. It never changes the numbers of a run, so it has no part in its id."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExecutionConfig:
    """Where and how a run is executed: no part of a run's identity, and it may change between restarts."""

    data_parallel: int | None = None  # size of mesh axis `data`; None: all devices left over by `model_parallel`
    model_parallel: int = 1  # size of mesh axis `model`
    slices: int = 1  # size of mesh axis `slice`: TPU slices, or groups of machines, that a slow network joins
    fsdp: bool | None = None  # parameters sharded over `data` too; None: on accelerators yes, on CPU no
    microbatch_size: int | None = (
        None  # sequences a device holds at once; None: chosen for the device (plan/estimates.py)
    )
    attention: Literal["xla", "cudnn", "splash"] = "xla"  # cudnn: NVIDIA GPUs with bfloat16; splash: TPUs
    # What the backward pass makes anew instead of keeping it: all but the products with weights (cheap), or whole
    # layers (full: least memory, about a third more FLOPs). None: cheap on CPU, the quickest that fits on accelerators.
    remat: Literal["none", "cheap", "full"] | None = None
    # GPUs: leave out kernels whose sums come in any order, without which a resumed run is not the same bit for bit.
    deterministic: bool = True
    cpu_devices: int | None = None  # CPU only: devices to make; None: one a core, a power of two up to 8
    log_every: int = 10  # steps between two rows of steps.jsonl
    tensorboard: bool = True  # event files beside steps.jsonl, in <run>/tensorboard
    wandb_project: str | None = None  # show runs in this project of Weights & Biases too
    keep_checkpoints: int | None = None  # None: all
    stall_seconds: float = 1800.0  # without a sign of progress, after which a process takes itself for stuck and leaves


@dataclass(frozen=True)
class ProcessesConfig:
    """The processes that work on one run together. Left alone, they are found: `processes.connect` says how."""

    coordinator: str | None = None
    """HOST:PORT of process 0; it listens there. Needs count and index too."""
    count: int | None = None
    """How many processes there are."""
    index: int | None = None
    """Which of them this is, from 0."""
    launcher: Literal["auto", "none", "slurm", "tpu", "k8s", "ompi"] = "auto"
    """Who started them. none: there is one process, whatever the surroundings say."""
    heartbeat_seconds: int = 10
    """After which a silent process is taken for dead, and the others leave."""
    wait_seconds: int = 300
    """How long to wait at the start until all are there."""


ALONE = ProcessesConfig(launcher="none")
