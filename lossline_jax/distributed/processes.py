"""The processes that work on one run together: how they find each other, agree, and leave.

Every process does the same things in the same order. What one of them alone can know (whether a file is there) is
asked by the first and told to all (`from_main_process`), so that they never part ways.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.distributed.launchers import initialize_arguments
from lossline_jax.errors import LosslineError, Restart, RunFailed, RunLocked
from lossline_jax.logs import set_process

PAYLOAD_BYTES = 1024  # that `from_main_process` sends at least, and powers of two beyond: few programs to compile
ERRORS = {kind.__name__: kind for kind in (LosslineError, RunLocked, RunFailed, Restart)}  # that it passes on


def connect(config: ProcessesConfig) -> None:
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
    arguments = initialize_arguments(config, os.environ)
    # For several processes jax catches SIGTERM and lets them agree; a single one does so itself (`preemption`).
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
        raise Restart(f"the processes of this run did not meet at {where} ({reason}); are all up?") from error
    except ValueError as error:
        raise LosslineError(f"--processes: {str(error).splitlines()[0]}") from error
    set_process(jax.process_index(), jax.process_count())
    # CPU processes must meet within 30 seconds of the first question; then it may take long
    from_main_process(lambda: None)


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def is_distributed() -> bool:
    """Whether more than one process works on a run."""
    return jax.process_count() > 1


def from_main_process(ask: Callable[[], Any]) -> Any:
    """What `ask` returns in process 0, in every process: plain JSON values. Only process 0 asks.

    Raises:
        LosslineError: in every process, if `ask` raises it in process 0.
    """
    if not is_distributed():
        return ask()
    answer = _broadcast(_answer(ask) if is_main_process() else None)
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
    if is_main_process():
        padded[:size] = data
    return json.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())


def compile_together(program: Any, *args: Any) -> None:
    """Compile a jitted program on all processes before any of them runs it. Its next call with these arguments runs.

    CPU processes wait 30 seconds at most for their peers when a program first runs. A busy machine may compile
    longer on one of them than on another.
    """
    program.lower(*args).compile()
    from_main_process(lambda: None)


@contextlib.contextmanager
def held_by_main_process(context: contextlib.AbstractContextManager) -> Iterator[None]:
    """Process 0 holds `context` while all are in the block.

    Raises:
        LosslineError: in every process, if it cannot be entered.
    """
    with contextlib.ExitStack() as stack:
        from_main_process(lambda: stack.enter_context(context) and None)
        yield


def is_connected() -> bool:
    """As `is_distributed`, without starting the devices of a process that has not begun to work."""
    return jax.distributed.is_initialized() and is_distributed()
