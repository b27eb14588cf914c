"""What a site sets once. Every launcher reads it here, and each of its lines is a flag of the launcher that uses it."""

import shlex
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Local:
    processes: int = 1
    """Processes of one run."""
    runs_at_once: int = 1
    """Runs beside each other."""
    gpus: int = 0
    """GPUs of this machine, shared out evenly among runs at once and their processes; 0: each process sees all."""
    retries: int = 3
    """Starts after a crash (a signal) without a new checkpoint, before a run is given up."""
    preemptions: int = 100
    """Starts of a run in all after exits with 42."""
    grace_seconds: float = 120.0
    """Time to save a checkpoint after SIGTERM."""
    lossline: str = shlex.join([sys.executable, "-m", "lossline_jax"])
    """The command."""


@dataclass(frozen=True)
class Slurm:
    partition: str = ""
    account: str = ""
    time: str = "24:00:00"
    """Limit of one start; SIGTERM comes `grace_seconds` before it, and the run goes on in the next one."""
    nodes: int = 1
    """Of one run."""
    tasks_per_node: int = 1
    """Processes of a run on each node: one a GPU."""
    gpus_per_node: int = 0
    cpus_per_task: int = 8
    memory: str = ""
    """Of a node, such as 200G. Empty: as the partition has it."""
    options: tuple[str, ...] = ()
    """Further options of sbatch, such as --qos=spot."""
    throttle: int = 16
    """Runs at once."""
    retries: int = 3
    """Starts after a crash (a signal) before a run is given up."""
    preemptions: int = 100
    """Starts of a run in all after exits with 42."""
    grace_seconds: int = 120
    """Time to save a checkpoint. The cluster's KillWait must not be shorter."""
    coordinator: str = ""
    """Host where the processes of a run meet. Empty: the first that SLURM names."""
    setup: str = ""
    """Shell line before lossline, such as `module load cuda`."""
    logs: str = ""
    """Folder for the logs. Default: logs/ in the study's folder, if that is on a disk."""
    lossline: str = shlex.join([sys.executable, "-m", "lossline_jax"])
    """The command, on a path that the nodes see too."""


@dataclass(frozen=True)
class GoogleCloud:
    project: str = ""
    """Must be given."""
    zone: str = ""
    """Must be given, such as us-west4-a."""


@dataclass(frozen=True)
class Xpk(GoogleCloud):
    cluster: str = ""
    """Must be given."""
    device_type: str = "v5litepod-16"
    """As xpk names them: v5litepod-16, v5p-32, h100-80gb-8, ..."""
    slices: int = 1
    """TPU slices of one run."""
    image: str = ""
    """Must be given: what `docker build -f launch/Dockerfile` made and `docker push` put where the cluster reads."""
    spot: bool = True
    priority: str = "medium"
    max_restarts: int = 100
    grace_seconds: int = 120
    """Time to save a checkpoint when a pod is to leave; Google gives spot machines 30 seconds at most."""
    xpk: str = "xpk"
    """The command."""


@dataclass(frozen=True)
class TpuVm(GoogleCloud):
    accelerator_type: str = "v5litepod-16"
    runtime_version: str = "v2-alpha-tpuv5-lite"
    spot: bool = True
    valid_for: str = "6h"
    """How long a request waits for machines."""
    retries: int = 20
    """Slices to ask for in all, one after another, when one is taken away."""
    poll_seconds: float = 30.0
    package: str = ""
    """Must be given: what pip installs on every worker, with the extras tpu and gcs. lossline is on no public index, so
    give an address: 'lossline_jax[tpu,gcs] @ git+https://...'."""
    gcloud: str = "gcloud"
    """The command."""
