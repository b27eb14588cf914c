"""The settings that a site changes once. All launchers read them here, and each setting is a flag of its launcher."""

import shlex
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Local:
    """The settings of local.py."""

    processes: int = 1
    """Number of processes of one run."""
    runs_at_once: int = 1
    """Number of runs at the same time."""
    gpus: int = 0
    """GPUs of this machine. Each process of each concurrent run gets an equal share. 0: each process sees all GPUs."""
    retries: int = 3
    """Starts after a crash (a signal) without a new checkpoint, before the launcher gives up the run."""
    preemptions: int = 100
    """Starts of a run in total, after exits with code 42."""
    grace_seconds: float = 120.0
    """Time to save a checkpoint after SIGTERM, in seconds."""
    logs: str = ""
    """Folder for one log file per run, with the lines of all its starts. Empty: logs/ in the study's folder, or
    logs/STUDY in the working folder for a study in a bucket."""
    lossline: str = shlex.join([sys.executable, "-m", "lossline_jax"])
    """The command that runs lossline."""


@dataclass(frozen=True)
class Slurm:
    """The settings of slurm.py."""

    partition: str = ""
    account: str = ""
    time: str = "24:00:00"
    """Time limit of one start. SIGTERM comes `grace_seconds` earlier, and the run continues in the next start."""
    nodes: int = 1
    """Number of nodes of one run."""
    tasks_per_node: int = 1
    """Processes of a run on each node: one per GPU."""
    gpus_per_node: int = 0
    cpus_per_task: int = 8
    memory: str = ""
    """Memory of a node, such as 200G. Empty: the default of the partition."""
    options: tuple[str, ...] = ()
    """More options of sbatch, such as --qos=spot."""
    throttle: int = 16
    """Number of runs at the same time."""
    retries: int = 3
    """Starts after a crash (a signal), before the launcher gives up the run."""
    preemptions: int = 100
    """Starts of a run in total, after exits with code 42."""
    grace_seconds: int = 120
    """Time to save a checkpoint, in seconds. The cluster's KillWait must not be shorter."""
    fit_partition: str = ""
    """Partition of the fit job, which needs no GPU. Empty: the partition of the runs, with their `options`."""
    fit_cpus: int = 0
    """CPUs of the fit job. 0: `cpus_per_task`."""
    fit_memory: str = ""
    """Memory of the fit job, such as 16G. Empty: `memory`, or with --fit-partition the default of that partition."""
    fit_options: tuple[str, ...] = ()
    """More options of sbatch for the fit job. With --fit-partition they replace `options`."""
    coordinator: str = ""
    """Host where the processes of a run meet. Empty: the first host that SLURM names."""
    setup: str = ""
    """Shell line to run before lossline, such as `module load cuda`."""
    logs: str = ""
    """Folder for the logs. Empty: logs/ in the study's folder, which must then be on a disk."""
    lossline: str = shlex.join([sys.executable, "-m", "lossline_jax"])
    """The command that runs lossline, on a path that the nodes see too."""


@dataclass(frozen=True)
class SkyPilot:
    """The settings of skypilot.py. The machines are in skypilot.yaml."""

    package: str = ""
    """Must be given: the package that pip installs on every worker, with the extra of the client of its bucket:
    'lossline_jax[cuda,gcs] @ git+https://...'. lossline is on no public index."""
    pool: str = "lossline"
    """Name of the pool, as given to `sky jobs pool apply -p`."""
    sky: str = "sky"
    """The command that runs SkyPilot."""


@dataclass(frozen=True)
class GoogleCloud:
    """The settings of every launcher for Google Cloud."""

    project: str = ""
    """Must be given."""
    zone: str = ""
    """Must be given, such as us-west4-a."""


@dataclass(frozen=True)
class Xpk(GoogleCloud):
    """The settings of xpk.py."""

    cluster: str = ""
    """Must be given."""
    device_type: str = "v5litepod-16"
    """Device type in xpk's notation: v5litepod-16, v5p-32, h100-80gb-8, ..."""
    slices: int = 1
    """Number of TPU slices of one run."""
    image: str = ""
    """Must be given: the image of `docker build -f launch/Dockerfile`, pushed to a registry that the cluster reads."""
    spot: bool = True
    priority: str = "medium"
    max_restarts: int = 100
    grace_seconds: int = 120
    """Time to save a checkpoint when a pod must leave, in seconds. Google gives spot machines at most 30 seconds."""
    xpk: str = "xpk"
    """The command that runs xpk."""


@dataclass(frozen=True)
class TpuVm(GoogleCloud):
    """The settings of tpu_vm.py."""

    accelerator_type: str = "v5litepod-16"
    runtime_version: str = "v2-alpha-tpuv5-lite"
    spot: bool = True
    valid_for: str = "6h"
    """Time that a request waits for machines."""
    retries: int = 20
    """Slices to request in total, one after another, when a slice is taken away."""
    poll_seconds: float = 30.0
    """Pause between two looks at the state of the request, in seconds."""
    package: str = ""
    """Must be given: the package that pip installs on every worker, with the extras tpu and gcs. lossline is on no
    public index, so give an address: 'lossline_jax[tpu,gcs] @ git+https://...'."""
    gcloud: str = "gcloud"
    """The command that runs gcloud."""
