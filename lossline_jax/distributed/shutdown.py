"""Explain an error of the devices or of a lost process, and leave together."""

import os
import sys
import time

import jax

from lossline_jax.distributed.processes import is_connected, is_main_process
from lossline_jax.errors import LosslineError, Restart, explain_with
from lossline_jax.logs import on_exit

FIRST_LEAVES_SECONDS = 2.0  # after an error, or told to stop
# Words of jax about a lost connection, which it does not use of a program that cannot be compiled or run. They are not
# documented: tests/distributed/test_lost_peer.py provokes those that a CPU can. ABORTED and CANCELLED come from the
# coordination service too, NCCL from GPUs.
PEER_IS_GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "Gloo", "NCCL", "Connection", "heartbeat")
DEVICE_ERRORS = (jax.errors.JaxRuntimeError, ValueError)  # numpy's view of an array turns UNKNOWN into a ValueError


def register() -> None:
    """Let a command explain errors of the devices, and leave together with the other processes of its run."""
    explain_with(explain_device_error)
    on_exit(shut_down)


def explain_device_error(error: Exception) -> LosslineError | None:
    """Return what an error of the devices means for the user. None: nothing that could be told."""
    if not isinstance(error, DEVICE_ERRORS) or not str(error).strip():
        return None
    reason = str(error).strip().splitlines()[0]
    if "RESOURCE_EXHAUSTED" in reason:
        return LosslineError(
            f"the devices have not enough memory ({reason}); lower execution.microbatch_size, set execution.remat=full "
            "or use more devices (`lossline-jax plan --chip` estimates what is needed)"
        )
    if is_connected() and any(sign in str(error) for sign in PEER_IS_GONE):
        return Restart(f"lost the other processes ({reason}); the same command goes on from the newest checkpoint")
    return None


def shut_down(exit_code: int | str | None, together: bool) -> None:
    """End this process' part in the work of several; with an error, the process itself.

    A process that works alone stays as it is, since it may be told to do more: orbax keeps a client of the service
    that `start` began, and would find it gone.

    Args:
        exit_code: of the process.
        together: whether all come to this end, so that they can wait for each other. After an error of one that would
            be in vain, and after a stop one may be killed meanwhile, which would take its exit code from the others:
            then each leaves at once, but the first a little later, since it is the one that all others miss.
    """
    if not is_connected():
        return
    if together and not exit_code:
        jax.distributed.shutdown()
    else:
        if is_main_process():
            time.sleep(FIRST_LEAVES_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(exit_code or 0))
