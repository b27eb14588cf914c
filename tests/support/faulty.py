"""Run `lossline` with a fault: `python faulty.py FAULT AT VERB ...`. The fault is real, and only its time is arranged.

none           nothing breaks
slow-start     the process waits in the preflight check of its run; it makes the file `opening`
kill-step      the kernel kills the process while step AT is on its way to the devices
stop-save      the process waits to be killed when AT is on disk without its meta.json; it makes the file `saving`
kill-row       the kernel kills the process between the checkpoint AT and its rows
error-step     an unforeseen error at step AT
stuck-step     the process lives and does nothing from step AT on; its watchdog looks 15 s before those of its peers
endless-score  the program that scores the AT-th checkpoint of this process never ends; it makes the file `scoring`
clock          the wall clock jumps back a day at step AT; the next time that it is read it jumps two days ahead
"""

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.cli import main as cli
from lossline_jax.distributed.watchdog import Watchdog
from lossline_jax.evaluate import evaluator
from lossline_jax.pipeline import preflight, scorer
from lossline_jax.train import checkpoint, loop
from lossline_jax.train.monitor.monitor import StepMonitor


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def break_at_step(at: int, fault) -> None:
    """Call `fault` when step `at` has been dispatched."""
    dispatched = StepMonitor.step_dispatched

    def breaking(self, step, metrics):
        dispatched(self, step, metrics)
        if step == at:
            fault()

    StepMonitor.step_dispatched = breaking


def raise_unforeseen():
    raise ZeroDivisionError("an error that no code expects")


def jump(clock=time.time):
    shifts = iter((-86400.0, 86400.0))
    time.time = lambda: clock() + next(shifts, 86400.0)


def open_slowly():
    def slow(context, mesh):
        Path("opening").touch()
        for _ in range(6000):  # a signal may reach another thread, and this one must wake to handle it
            time.sleep(0.1)

    preflight.check_run = slow


def stop_in_save(at: int) -> None:
    digests = checkpoint._digests

    def stopping(folder):
        if folder.name == f"{at:08d}":
            Path("saving").touch()
            time.sleep(600)
        return digests(folder)

    checkpoint._digests = stopping


def kill_before_row(at: int) -> None:
    append = scorer.append_rows
    scorer.append_rows = lambda path, rows: die() if rows[0].step == at else append(path, rows)


@jax.jit
def endless(square):
    """Run without end, which the compiler cannot know. The program is so large that the call returns before it runs."""
    return jax.lax.while_loop(lambda x: x[0, 0] > -1, lambda x: jnp.tanh(x @ x), square)


def score_endlessly(at: int) -> None:
    calls, score_rows = itertools.count(1), evaluator.score_rows

    def scoring(*args):
        scores = score_rows(*args)
        if next(calls) != at:
            return scores
        threading.Timer(0.5, Path("scoring").touch).start()  # the process waits for the scores by then
        return [*scores, endless(np.ones((64, 64), np.float32))]

    evaluator.score_rows = scoring


def main(fault: str, at: int, argv: list[str]) -> None:
    match fault:
        case "kill-step":
            break_at_step(at, die)
        case "error-step":
            break_at_step(at, raise_unforeseen)
        case "stuck-step":
            loop.Watchdog = lambda stall_seconds: Watchdog(
                stall_seconds - 15
            )  # so that no watchdog of a peer looks first
            break_at_step(at, lambda: time.sleep(600))
        case "clock":
            break_at_step(at, jump)
        case "slow-start":
            open_slowly()
        case "stop-save":
            stop_in_save(at)
        case "kill-row":
            kill_before_row(at)
        case "endless-score":
            score_endlessly(at)
        case other:
            assert other == "none", other
    sys.argv[1:] = argv
    cli.main()  # without arguments, as if a shell had started the command


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
