"""The processes of one run on this machine: they start, fail and stop together."""

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

POLL_SECONDS = 0.1
SETTLE_SECONDS = 2.0  # after the first bad end: the others may be on their way out, with reasons of their own

INTERRUPTED = (RESTART_EXIT_CODE, -signal.SIGTERM, 128 + signal.SIGTERM)

Verdict = Literal["done", "restart", "crashed", "busy", "failed"]


@dataclass(frozen=True)
class Member:
    """How one process is started."""

    label: str  # heads each of its lines
    command: Sequence[str]
    environment: Mapping[str, str]  # beside that of this process


@dataclass(frozen=True)
class Ending:
    """How a gang ended."""

    codes: tuple[int | None, ...]  # of each process, as Popen has them; None: it was killed here
    last_line: str  # of the first process that ended badly

    @property
    def verdict(self) -> Verdict:
        """The worst end counts: a reason that will not go away, then a busy run, a crash, a request to restart."""
        if all(code == 0 for code in self.codes):
            return "done"
        bad = [code for code in self.codes if code and code not in INTERRUPTED]
        if any(0 < code <= 128 and code != BUSY_EXIT_CODE for code in bad):
            return "failed"
        if BUSY_EXIT_CODE in bad:
            return "busy"
        return "crashed" if bad else "restart"


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_gang(
    members: Sequence[Member], stop: threading.Event, grace_seconds: float, write: Callable[[str], None]
) -> Ending:
    """Start the processes and wait for their end; nothing of them is left when this returns.

    The first bad end takes the others down: after `RESTART_EXIT_CODE`, or once `stop` is set, they get SIGTERM and
    `grace_seconds` to save; after any other code they are killed.

    Args:
        write: gets each line of the processes, labelled; called from several threads.
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
    """Codes of the processes that ended by themselves or on SIGTERM; None of those that had to be killed."""
    deadline, asked = float("inf"), False
    while None in (codes := [process.poll() for process in processes]):
        bad = [code for code in codes if code]
        if not asked and (stop.is_set() or RESTART_EXIT_CODE in bad):
            asked, deadline = True, time.monotonic() + grace_seconds
            for process in processes:
                _signal_group(process, signal.SIGTERM)
        elif bad:
            deadline = min(deadline, time.monotonic() + (grace_seconds if asked else SETTLE_SECONDS))
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    return tuple(process.poll() for process in processes)


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has gone, with all that it had started
        os.killpg(process.pid, number)
