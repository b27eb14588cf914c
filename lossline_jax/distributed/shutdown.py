"""Explain errors of the devices and of lost processes, and end the processes of a run together."""

import os
import sys
import time

import jax

from lossline_jax.distributed.processes import is_connected, is_main_process
from lossline_jax.errors import LosslineError, Restart, explain_with
from lossline_jax.logs import on_exit

MAIN_PROCESS_DELAY_SECONDS = 2.0  # by which process 0 leaves later than its peers, after an error or a stop
# Words in jax's messages about a lost connection. jax does not use them for a program that cannot be compiled or run.
# They are not documented: tests/distributed/test_lost_peer.py provokes those that occur on CPU. ABORTED and CANCELLED
# also come from the coordination service, and NCCL comes from GPUs.
PEER_IS_GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "Gloo", "NCCL", "Connection", "heartbeat")
# ValueError: numpy turns jax's UNKNOWN error into one when it reads an array.
DEVICE_ERRORS = (jax.errors.JaxRuntimeError, ValueError)


def register() -> None:
    """Make commands explain errors of the devices, and end the processes of a run together."""
    explain_with(explain_device_error)
    on_exit(shut_down)


def explain_device_error(error: Exception) -> LosslineError | None:
    """Return an error that explains an error of the devices to the user. None: there is no explanation."""
    if not isinstance(error, DEVICE_ERRORS) or not str(error).strip():
        return None
    reason = str(error).strip().splitlines()[0]
    if "RESOURCE_EXHAUSTED" in reason:
        return LosslineError(
            f"the devices have not enough memory ({reason}); lower execution.microbatch_size, set execution.remat=full "
            "or use more devices (`lossline-jax plan --chip` estimates what is needed)"
        )
    if is_connected() and any(sign in str(error) for sign in PEER_IS_GONE):
        return Restart(f"lost the other processes ({reason}); the same command continues from the newest checkpoint")
    return None


def shut_down(exit_code: int | str | None, together: bool) -> None:
    """Disconnect this process from the other processes of its run. After an error or a stop, end the process too.

    A single process stays as it is, because it may have more work. Orbax keeps a client of the service that
    `processes.connect` started, and would fail without the service.

    After an error, the processes cannot wait for each other, because one of them may never come. After a stop, one of
    them may be killed while the others wait, and they would then lose their exit code. So each process leaves at once.
    Process 0 leaves a little later, because all others would fail without it.

    Args:
        exit_code: exit code of the process. None or 0: success.
        together: whether all processes come to this end, so that they can wait for each other.
    """
    if not is_connected():
        return
    if together and not exit_code:
        jax.distributed.shutdown()
    else:
        if is_main_process():
            time.sleep(MAIN_PROCESS_DELAY_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(exit_code or 0))
