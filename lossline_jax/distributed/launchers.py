"""Find the processes of a run from its flags, the environment, SLURM or a TPU slice."""

import importlib.util
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.errors import LosslineError

LOCAL = "127.0.0.1"
SLURM_VARIABLES = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID")
TPU_VARIABLES = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "CLOUD_TPU_TASK_ID", "MEGASCALE_COORDINATOR_ADDRESS")
TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")
FIRST_PORT, PORTS = 61440, 4096  # process 0 of a SLURM step listens on FIRST_PORT + (number of its job) % PORTS


def initialize_arguments(config: ProcessesConfig, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the keyword arguments for `jax.distributed.initialize`.

    Args:
        config: the flags of the command.
        environment: the environment variables of the process.

    Raises:
        LosslineError: the flags contradict each other, or SLURM's variables are missing.
    """
    explicit = _explicit(config, environment)
    if explicit is not None:
        return explicit
    match _launcher(config, environment):
        case "slurm":
            return _from_slurm(environment)
        case "none":
            return _alone()
        case launcher:  # jax itself reads the settings of these launchers
            return {"cluster_detection_method": None if launcher == "tpu" else launcher}


def _explicit(config: ProcessesConfig, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments that the flags give, or else the environment. None: neither gives the process' index."""
    coordinator = config.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    count = environment.get("JAX_NUM_PROCESSES") if config.count is None else config.count
    index = environment.get("JAX_PROCESS_ID") if config.index is None else config.index
    if count is None and index is None:
        if config.coordinator is not None:
            raise LosslineError("--processes.coordinator: give --processes.count and --processes.index with it")
        return None  # an address in the environment alone is where the processes of a launcher meet
    if str(count) == "1":
        return _alone()
    try:
        count, index = int(str(count)), int(str(index))
    except ValueError as error:
        raise LosslineError(f"--processes: count {count} and index {index} must be two numbers") from error
    if not 0 <= index < count:
        raise LosslineError(f"--processes.index: {index} is not one of {count} processes, 0..{count - 1}")
    if coordinator is None or not re.fullmatch(r".+:\d+", coordinator):
        raise LosslineError(f"--processes.coordinator: give HOST:PORT of process 0, not {coordinator!r}")
    return _deactivated(coordinator, count, index)


def _launcher(config: ProcessesConfig, environment: Mapping[str, str]) -> str:
    if config.launcher != "auto":
        return config.launcher
    if all(name in environment for name in SLURM_VARIABLES) and environment["SLURM_NTASKS"] != "1":
        return "slurm"
    has_chips = importlib.util.find_spec("libtpu") is not None and any(os.path.exists(path) for path in TPU_DEVICES)
    if has_chips or any(name in environment for name in TPU_VARIABLES):
        return "tpu"
    return "ompi" if "OMPI_MCA_orte_hnp_uri" in environment else "none"


def _from_slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments for a SLURM step.

    If a node has one task, the task uses all devices of the node. If it has several, each uses the device with the
    number of the task on the node.
    """
    missing = [name for name in SLURM_VARIABLES if name not in environment]
    if missing:
        raise LosslineError(f"--processes.launcher slurm: ${missing[0]} is not set; start the processes with `srun`")
    count, index = int(environment["SLURM_NTASKS"]), int(environment["SLURM_PROCID"])
    if count == 1:
        return _alone()
    port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS
    address = environment.get("JAX_COORDINATOR_ADDRESS") or f"{_first_host(environment['SLURM_STEP_NODELIST'])}:{port}"
    arguments = _deactivated(address, count, index)
    if not re.fullmatch(r"1(\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        arguments["local_device_ids"] = [int(environment["SLURM_LOCALID"])]
    return arguments


def _first_host(nodes: str) -> str:
    """Return the first host of SLURM's node list: `a3` for `a[3-5,9],b` and for `a3,b`."""
    prefix = re.split(r"[,\[]", nodes)[0]
    numbers = re.match(r"[^,\[]+\[([^\]]*)\]", nodes)
    return prefix + (re.split("[,-]", numbers.group(1))[0] if numbers else "")


def _alone() -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        address = f"{LOCAL}:{probe.getsockname()[1]}"
    return {**_deactivated(address, 1, 0), "coordinator_bind_address": address}  # not reachable from other machines


def _deactivated(address: str, count: int, index: int) -> dict[str, Any]:
    """Return the arguments for known processes, with jax's own detection of clusters deactivated."""
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }
