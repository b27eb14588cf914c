"""Connect the processes that work on one run together, and let them agree on facts.

Every process executes the same code in the same order. A fact that may differ between processes, such as whether a
file exists, is read by process 0 alone and sent to all (`from_main_process`). So all processes take the same branches.
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

# `from_main_process` sends at least this many bytes, or a larger power of two: each size needs a compiled program.
PAYLOAD_BYTES = 1024
ERRORS = {kind.__name__: kind for kind in (LosslineError, RunLocked, RunFailed, Restart)}  # sent to all processes


def connect(config: ProcessesConfig) -> None:
    """Initialise `jax.distributed`, for a single process too. Call it before jax is first used.

    The processes are found in the first of these places that has them:

    1. the flags, or $JAX_COORDINATOR_ADDRESS, $JAX_NUM_PROCESSES and $JAX_PROCESS_ID;
    2. the SLURM step (`srun`);
    3. the TPU slices that the machine belongs to;
    4. Open MPI.

    Otherwise there is one process. Kubernetes is used only with `launcher="k8s"`, because the pods of an indexed job
    may train separate runs. A second call changes nothing. Nor does a call in a process that uses its devices already.

    Args:
        config: the flags.

    Raises:
        LosslineError: the flags contradict each other, or a process does not connect in time.
    """
    if jax.distributed.is_initialized():
        return
    arguments = initialize_arguments(config, os.environ)
    # jax catches SIGTERM for several processes and lets them agree. A single process catches it itself (`preemption`).
    alone = arguments.get("num_processes") == 1
    jax.config.update("jax_enable_preemption_service", not alone)
    if alone:  # the default connects the CPU devices of the process by sockets, which halves the speed
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
        raise Restart(f"the processes of this run did not meet at {where} ({reason}); are all running?") from error
    except ValueError as error:
        raise LosslineError(f"--processes: {str(error).splitlines()[0]}") from error
    set_process(jax.process_index(), jax.process_count())
    # CPU processes must all send their first message within 30 seconds. Later messages may take longer.
    from_main_process(lambda: None)


def is_main_process() -> bool:
    """Return whether this is process 0, which writes the files and prints the messages."""
    return jax.process_index() == 0


def is_distributed() -> bool:
    """Return whether more than one process works on a run."""
    return jax.process_count() > 1


def from_main_process(function: Callable[[], Any]) -> Any:
    """Call a function in process 0 alone, and return its result in every process.

    Args:
        function: returns plain JSON values.

    Raises:
        LosslineError: in every process, if the function raises it in process 0.
    """
    if not is_distributed():
        return function()
    outcome = _broadcast(_outcome(function) if is_main_process() else None)
    if "raised" in outcome:
        raise ERRORS[outcome["raised"]](outcome["message"])
    return outcome["value"]


def _outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": function()}
    except LosslineError as error:
        return {"raised": type(error).__name__, "message": str(error)}


def _broadcast(value: Any) -> Any:
    """Return the value of process 0 in every process."""
    data = np.frombuffer(json.dumps(value).encode("utf-8"), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(max(PAYLOAD_BYTES, 1 << (size - 1).bit_length()), np.uint8)
    if is_main_process():
        padded[:size] = data
    return json.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())


def compile_together(program: Any, *args: Any) -> None:
    """Compile a jitted program on all processes before any process runs it.

    CPU processes wait at most 30 seconds for each other when a program first runs. On a busy machine, one process may
    compile longer than another.

    Args:
        program: the jitted function. Its next call with the same arguments does not compile.
        *args: its arguments.
    """
    program.lower(*args).compile()
    from_main_process(lambda: None)


@contextlib.contextmanager
def held_by_main_process(context: contextlib.AbstractContextManager) -> Iterator[None]:
    """Enter a context in process 0 alone, while all processes are in the block.

    Args:
        context: such as a lock.

    Raises:
        LosslineError: in every process, if process 0 cannot enter the context.
    """
    with contextlib.ExitStack() as stack:
        from_main_process(lambda: stack.enter_context(context) and None)
        yield


def is_connected() -> bool:
    """Return whether several processes are connected. Unlike `is_distributed`, never start this process' devices."""
    return jax.distributed.is_initialized() and is_distributed()
