"""The sign of life of a process that works on a run, for whoever cannot ask its kernel.

    alive.json    {"host": ..., "pid": ..., "token": ..., "beat": ...}, written anew at every beat, removed at the end

Signs are compared with what was read before, never with a clock: a clock that jumps starts or stops nothing.
Two processes that take a run in the same instant both write; the one whose sign was overwritten stops at its
next beat. This refuses what an engine placed twice by mistake; it is no lock.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from etils import epath

from lossline_jax import logs
from lossline_jax.errors import LosslineError, RunLocked
from lossline_jax.storage.files import is_remote, read_json, write_json

BEAT_SECONDS = 15.0
SILENT_BEATS = 2.5  # without a new sign, and the writer is taken for dead
FIRST_BEAT_SECONDS = 1.0  # after the start: soon, to see a process that started in the same instant


@dataclass(frozen=True)
class Heartbeat:
    """Which process works, and how often it has said so."""

    host: str = ""
    pid: int = 0
    token: str = ""  # of this very hold on the run
    beat: int = 0
    age_seconds: float = field(default=0.0, compare=False)  # by the store's time of writing: to be shown

    @property
    def is_of_this_machine(self) -> bool:
        return self.host == socket.gethostname()


def read_heartbeat(file: epath.Path) -> Heartbeat | None:
    """The sign that lies there; None: no process has left one, or what lies there is no sign."""
    try:
        content, written = read_json(file), _seconds_of_writing(file)
        host, pid, token, beat = (content[name] for name in ("host", "pid", "token", "beat"))
    except (LosslineError, FileNotFoundError, KeyError, TypeError):
        return None
    return Heartbeat(str(host), pid, str(token), beat, age_seconds=max(0.0, time.time() - written))


def wait_for_silence(file: epath.Path, wait: bool, beat_seconds: float) -> None:
    """Watch the sign of another process for a little over two beats, and return if it does not change.

    Args:
        wait: until the other process has ended, instead of giving up.

    Raises:
        RunLocked: it has changed: the other process lives.
    """
    known = read_heartbeat(file)
    if known is None:
        return
    seconds = SILENT_BEATS * beat_seconds
    logs.info(f"lossline: {file}: left by process {known.pid} on {known.host}; watching it for {seconds:g} s")
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(beat_seconds / 5)
        latest = read_heartbeat(file)
        if latest is None:
            return
        if latest != known:
            if not wait:
                raise RunLocked(
                    f"{file}: process {latest.pid} on {latest.host} is working on this run; run again when it is done"
                )
            known, since = latest, time.monotonic()
    logs.info(f"lossline: {file}: process {known.pid} on {known.host} gives no sign of life; taking over")


@contextlib.contextmanager
def sending_heartbeats(
    file: epath.Path, beat_seconds: float, lost: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Write signs of life while the block runs, from a thread; remove the last one when it ends, however it ends.

    Args:
        file: `alive.json`.
        lost: called in the thread when another process has taken over; by default this process ends at once, since
            whatever it wrote from now on would be written over the other's.
    """
    heartbeat = Heartbeat(socket.gethostname(), os.getpid(), uuid.uuid4().hex)
    stop = threading.Event()
    _write(file, heartbeat)
    thread = threading.Thread(
        target=_beat, args=(file, heartbeat, beat_seconds, stop, lost or _end_process), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        latest = read_heartbeat(file)
        if latest is not None and latest.token == heartbeat.token:
            file.unlink(missing_ok=True)


def _beat(
    file: epath.Path, heartbeat: Heartbeat, beat_seconds: float, stop: threading.Event, lost: Callable[[str], None]
) -> None:
    beat, pause = 0, min(FIRST_BEAT_SECONDS, beat_seconds)
    while not stop.wait(pause):
        beat, pause = beat + 1, beat_seconds
        # A store or disk that fails for a while fails the work itself, where it is reported: the next beat may come.
        with contextlib.suppress(Exception):
            latest = read_heartbeat(file)
            if latest is not None and latest.token != heartbeat.token:
                lost(f"{file}: process {latest.pid} on {latest.host} has taken over this run; this one stops")
                return
            _write(file, Heartbeat(heartbeat.host, heartbeat.pid, heartbeat.token, beat))


def _seconds_of_writing(file: epath.Path) -> float:
    return file.stat().mtime if is_remote(file) else os.path.getmtime(file)


def _write(file: epath.Path, sign: Heartbeat) -> None:
    content = asdict(sign)
    del content["age_seconds"]
    write_json(file, content)


def _end_process(message: str) -> None:
    logs.warning(f"lossline: {message}")
    os._exit(RunLocked.exit_code)
