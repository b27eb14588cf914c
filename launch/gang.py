"""Run the processes of one run on this machine. They start, fail and stop together. Read `run_gang` first."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lossline_jax.errors import BUSY_EXIT_CODE, RESTART_EXIT_CODE

POLL_SECONDS = 0.1  # between two looks at the processes
SETTLE_SECONDS = 2.0  # wait after the first bad end, because the other processes may be leaving with their own reasons

# Exit codes of a process that should be started again.
INTERRUPTED = (RESTART_EXIT_CODE, -signal.SIGTERM, 128 + signal.SIGTERM)

Verdict = Literal["done", "restart", "crashed", "busy", "failed"]


@dataclass(frozen=True)
class Member:
    """The start of one process.

    Attributes:
        label: beginning of each line that the process prints.
        command: the words of its command.
        environment: variables that are added to the environment of this process.
    """

    label: str
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Ending:
    """The end of a gang.

    Attributes:
        codes: exit code of each process, as Popen reports it. None: the process was killed here.
        last_line: the last line of the first process that ended badly.
    """

    codes: tuple[int | None, ...]
    last_line: str

    @property
    def verdict(self) -> Verdict:
        """The worst end of a process: a lasting failure, then a busy run, a crash, a request to restart."""
        if all(code == 0 for code in self.codes):
            return "done"
        bad = [code for code in self.codes if code and code not in INTERRUPTED]
        if any(0 < code <= 128 and code != BUSY_EXIT_CODE for code in bad):
            return "failed"
        if BUSY_EXIT_CODE in bad:
            return "busy"
        return "crashed" if bad else "restart"


def free_port() -> int:
    """Return a port of this machine on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_gang(
    members: Sequence[Member], stop: threading.Event, grace_seconds: float, write: Callable[[str], None]
) -> Ending:
    """Start the processes and wait for their end. No process is left when this function returns.

    The first bad end stops the other processes. After `RESTART_EXIT_CODE`, or once `stop` is set, they get SIGTERM and
    `grace_seconds` to save. After any other exit code they are killed.

    Args:
        members: the processes to start.
        stop: set it to stop the processes.
        grace_seconds: time to save a checkpoint after SIGTERM, in seconds.
        write: called with each line of the processes, after its label. Several threads call it.
    """
    processes = [_start(member) for member in members]
    last_lines = [""] * len(processes)
    readers = [
        threading.Thread(target=_forward, args=(k, process, members[k].label, last_lines, write), daemon=True)
        for k, process in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    try:
        codes = _wait(processes, stop, grace_seconds)
    finally:
        for process in processes:
            _signal_group(process, signal.SIGKILL)
            process.wait()
        for reader in readers:
            reader.join(timeout=SETTLE_SECONDS)
    bad = [line for line, code in zip(last_lines, codes, strict=True) if code]
    return Ending(codes, bad[0] if bad else last_lines[0])


def _start(member: Member) -> subprocess.Popen:
    return subprocess.Popen(
        member.command,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **member.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _forward(
    index: int, process: subprocess.Popen, label: str, last_lines: list[str], write: Callable[[str], None]
) -> None:
    for line in process.stdout:
        last_lines[index] = line.rstrip() or last_lines[index]
        write(f"{label} {line.rstrip()}")


def _wait(processes: Sequence[subprocess.Popen], stop: threading.Event, grace_seconds: float) -> tuple[int | None, ...]:
    """Wait until all processes have ended, or must be killed.

    Returns:
        The exit code of each process that ended by itself or on SIGTERM. None: the process must be killed.
    """
    deadline, is_stopping = float("inf"), False
    while None in (codes := [process.poll() for process in processes]):
        bad = [code for code in codes if code]
        if not is_stopping and (stop.is_set() or RESTART_EXIT_CODE in bad):
            is_stopping, deadline = True, time.monotonic() + grace_seconds
            for process in processes:
                _signal_group(process, signal.SIGTERM)
        elif bad:
            deadline = min(deadline, time.monotonic() + (grace_seconds if is_stopping else SETTLE_SECONDS))
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    return tuple(process.poll() for process in processes)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # the process and its children have ended
        os.killpg(process.pid, number)
