"""The processes that work on one run together: how they find each other, agree, and leave.

Every process does the same things in the same order. What one of them alone can know (whether a file is there) is
asked by the first and told to all (`from_first`), so that they never part ways.
"""

import contextlib
import importlib.util
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lossline_jax.console import set_process
from lossline_jax.errors import LosslineError, RunBusy, RunFailed, StartAgain
from lossline_jax.train.config import ProcessesConfig

LOCAL = "127.0.0.1"
SLURM_VARIABLES = ("SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID")
TPU_VARIABLES = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "CLOUD_TPU_TASK_ID", "MEGASCALE_COORDINATOR_ADDRESS")
TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")
FIRST_PORT, PORTS = 61440, 4096  # where the first process of a SLURM step listens: by the number of its job
FIRST_LEAVES_SECONDS = 2.0  # after an error, or told to stop
# In what jax says of a connection, and not of a program that cannot be compiled or run.
PEER_IS_GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "Gloo", "NCCL", "Connection", "heartbeat")
PAYLOAD_BYTES = 1024  # that `from_first` sends at least, and powers of two beyond: few programs to compile
ERRORS = {kind.__name__: kind for kind in (LosslineError, RunBusy, RunFailed, StartAgain)}  # that it passes on


def start(config: ProcessesConfig) -> None:
    """Initialise `jax.distributed`, for a single process too; call it before jax is used for the first time.

    Processes are those of the flags, or of $JAX_COORDINATOR_ADDRESS, $JAX_NUM_PROCESSES and $JAX_PROCESS_ID; else of
    the SLURM step (`srun`), of the TPU slices that the machine belongs to, of Open MPI; else there is one. Kubernetes
    is asked only if told to (`launcher="k8s"`), since the pods of an indexed job may be runs of their own. A second
    call, and one in a process whose devices run already, changes nothing.

    Raises:
        LosslineError: flags that contradict each other, or a process that does not come.
    """
    if jax.distributed.is_initialized():
        return
    arguments = _arguments(config, os.environ)
    # For several processes jax catches SIGTERM and lets them agree; a single one does so itself (`train.preemption`).
    alone = arguments.get("num_processes") == 1
    jax.config.update("jax_enable_preemption_service", not alone)
    if alone:  # else the CPU devices of one process would talk by sockets: half the speed
        jax.config.update("jax_cpu_collectives_implementation", None)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=config.wait_seconds,
            heartbeat_timeout_seconds=config.heartbeat_seconds,
        )
    except RuntimeError as error:
        if "before any JAX calls" in str(error) and alone:
            return
        reason = str(error).strip().splitlines()[0]
        where = arguments.get("coordinator_address", "the first process")
        raise StartAgain(f"the processes of this run did not meet at {where} ({reason}); are all up?") from error
    except ValueError as error:
        raise LosslineError(f"--processes: {str(error).splitlines()[0]}") from error
    set_process(jax.process_index(), jax.process_count())
    from_first(lambda: None)  # CPU processes must meet within 30 seconds of the first question; then it may take long


def _arguments(config: ProcessesConfig, environment: Mapping[str, str]) -> dict[str, Any]:
    """Of `jax.distributed.initialize`."""
    explicit = _explicit(config, environment)
    if explicit is not None:
        return explicit
    match _launcher(config, environment):
        case "slurm":
            return _from_slurm(environment)
        case "none":
            return _alone()
        case known:  # jax asks them itself
            return {"cluster_detection_method": None if known == "tpu" else known}


def _explicit(config: ProcessesConfig, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What the flags say, or the environment where they say nothing; None: neither says which process this is."""
    coordinator = config.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    count = environment.get("JAX_NUM_PROCESSES") if config.count is None else config.count
    index = environment.get("JAX_PROCESS_ID") if config.index is None else config.index
    if count is None and index is None:
        if config.coordinator is not None:
            raise LosslineError("--processes.coordinator: give --processes.count and --processes.index with it")
        return None  # an address in the environment alone says where the processes of a launcher meet
    if str(count) == "1":
        return _alone()
    try:
        count, index = int(count), int(index)
    except (TypeError, ValueError) as error:
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
    """Of a step's environment; a node's only task sees all its devices, one of several the one of its number."""
    missing = [name for name in SLURM_VARIABLES if name not in environment]
    if missing:
        raise LosslineError(f"--processes.launcher slurm: no ${missing[0]} here; start the processes with `srun`")
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
    """`a3` of `a[3-5,9],b` and of `a3,b`."""
    prefix, numbers = re.match(r"([^,\[]+)(?:\[([^\]]*)\])?", nodes).groups()
    return prefix + re.split("[,-]", numbers or "")[0]


def _alone() -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        address = f"{LOCAL}:{probe.getsockname()[1]}"
    return {**_deactivated(address, 1, 0), "coordinator_bind_address": address}  # for this machine alone


def _deactivated(address: str, count: int, index: int) -> dict[str, Any]:
    return {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether more than one process works on a run."""
    return jax.process_count() > 1


def from_first(ask: Callable[[], Any]) -> Any:
    """What `ask` returns in process 0, in every process: plain JSON values. Only process 0 asks.

    Raises:
        LosslineError: in every process, if `ask` raises it in process 0.
    """
    if not several():
        return ask()
    answer = _broadcast(_answer(ask) if is_first() else None)
    if "raised" in answer:
        raise ERRORS[answer["raised"]](answer["message"])
    return answer["value"]


def _answer(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": ask()}
    except LosslineError as error:
        return {"raised": type(error).__name__, "message": str(error)}


def _broadcast(answer: Any) -> Any:
    """What process 0 gives, everywhere."""
    data = np.frombuffer(json.dumps(answer).encode("utf-8"), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(max(PAYLOAD_BYTES, 1 << (size - 1).bit_length()), np.uint8)
    if is_first():
        padded[:size] = data
    return json.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())


@contextlib.contextmanager
def held_by_first(context: contextlib.AbstractContextManager) -> Iterator[None]:
    """Process 0 holds `context` while all are in the block.

    Raises:
        LosslineError: in every process, if it cannot be entered.
    """
    with contextlib.ExitStack() as stack:
        from_first(lambda: stack.enter_context(context) and None)
        yield


def met_several() -> bool:
    """As `several`, without starting the devices of a process that has not begun to work."""
    return jax.distributed.is_initialized() and several()


def device_error(error: Exception) -> LosslineError | None:
    """What an error of the devices means for the user; None: nothing that could be told."""
    if not isinstance(error, jax.errors.JaxRuntimeError):
        return None
    reason = str(error).strip().splitlines()[0]
    if "RESOURCE_EXHAUSTED" in reason:
        return LosslineError(
            f"the devices have not enough memory ({reason}); lower execution.microbatch_size, set execution.remat=full "
            "or use more devices (`lossline plan --chip` estimates what is needed)"
        )
    if met_several() and any(sign in str(error) for sign in PEER_IS_GONE):
        return StartAgain(f"lost the other processes ({reason}); the same command goes on from the newest checkpoint")
    return None


def leave(exit_code: int | str | None, together: bool) -> None:
    """End this process' part in the work of several; with an error, the process itself.

    A process that works alone stays as it is, since it may be told to do more: orbax keeps a client of the service
    that `start` began, and would find it gone.

    Args:
        exit_code: of the process.
        together: whether all come to this end, so that they can wait for each other. After an error of one that would
            be in vain, and after a stop one may be killed meanwhile, which would take its exit code from the others:
            then each leaves at once, but the first a little later, since it is the one that all others miss.
    """
    if not met_several():
        return
    if together and not exit_code:
        jax.distributed.shutdown()
    else:
        if is_first():
            time.sleep(FIRST_LEAVES_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(exit_code or 0))
