"""Configs of the devices and processes that a run uses.

These settings never change the numbers of a run, so they are not part of the run's id.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExecutionConfig:
    """The settings that say where and how a run is executed. They may change between restarts of a run."""

    data_parallel: int | None = None  # size of mesh axis `data`; None: all devices that `model_parallel` leaves over
    model_parallel: int = 1  # size of mesh axis `model`
    slices: int = 1  # size of mesh axis `slice`: TPU slices, or groups of machines, joined by a slow network
    fsdp: bool | None = None  # shard parameters over `data` too; None: yes on accelerators, no on CPU
    # Sequences that a device holds at once. None: chosen for the device (plan/estimates.py).
    microbatch_size: int | None = None
    attention: Literal["xla", "cudnn", "splash"] = "xla"  # cudnn: NVIDIA GPUs with bfloat16; splash: TPUs
    # Activations that the backward pass computes again instead of storing. cheap: all but the products with weights.
    # full: whole layers, with least memory and about a third more FLOPs. None: cheap on CPU; on accelerators the
    # fastest setting that fits.
    remat: Literal["none", "cheap", "full"] | None = None
    # GPUs: avoid kernels that add in no fixed order. With such kernels a resumed run is not identical bit for bit.
    deterministic: bool = True
    cpu_devices: int | None = None  # CPU only: devices to create; None: one per core, a power of two up to 8
    log_every: int = 10  # steps between two rows of steps.jsonl
    tensorboard: bool = True  # write event files beside steps.jsonl, in <run>/tensorboard
    wandb_project: str | None = None  # also show runs in this project of Weights & Biases; None: do not
    keep_checkpoints: int | None = None  # number of checkpoints to keep; None: all
    # Number of the newest checkpoints that keep the optimiser's moments, from which a run can continue. The moments
    # take twice the space of the parameters. None: all.
    keep_moments: int | None = 2
    stall_seconds: float = 1800.0  # a process without progress for this long assumes that it is stuck, and exits


@dataclass(frozen=True)
class ProcessesConfig:
    """The processes that work on one run together. By default they are detected; see `processes.connect`."""

    coordinator: str | None = None
    """HOST:PORT on which process 0 listens. It needs `count` and `index` too. None: detect it."""
    count: int | None = None
    """Number of processes. None: detect it."""
    index: int | None = None
    """Index of this process, from 0. None: detect it."""
    launcher: Literal["auto", "none", "slurm", "tpu", "k8s", "ompi"] = "auto"
    """The program that started the processes. none: there is one process, whatever the environment says."""
    heartbeat_seconds: int = 10
    """A process that is silent for this many seconds counts as dead, and the other processes exit."""
    wait_seconds: int = 300
    """Seconds to wait at the start until all processes are present."""


ALONE = ProcessesConfig(launcher="none")
