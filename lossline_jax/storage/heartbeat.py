"""The heartbeat file of the process that works on a run.

The file replaces the kernel's lock on object stores, which have no locks, and between machines that share a disk.

    alive.json    {"host": ..., "pid": ..., "token": ..., "beat": ...}

The file is written again at every beat and removed at the end. A heartbeat is compared with the heartbeat that was
read before, never with a clock, so a clock that jumps starts or stops nothing. Two processes that take a run in the
same instant both write. The process whose heartbeat was overwritten stops at its next beat. The heartbeat stops a run
that a scheduler has started twice by mistake. It is not a true lock.
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
SILENT_BEATS = 2.5  # a writer that is silent for this many beats counts as dead
FIRST_BEAT_SECONDS = 1.0  # after the start; short, to notice a process that started in the same instant


@dataclass(frozen=True)
class Heartbeat:
    """The content of a heartbeat file: the process that works on a run, and the count of its beats."""

    host: str = ""
    pid: int = 0
    token: str = ""  # random; tells apart two holds on the run by the same process
    beat: int = 0
    age_seconds: float = field(default=0.0, compare=False)  # by the store's time of writing; for display only

    @property
    def is_of_this_machine(self) -> bool:
        """True if the process runs on this machine."""
        return self.host == socket.gethostname()


def read_heartbeat(file: epath.Path) -> Heartbeat | None:
    """Return the heartbeat in a file. None: there is no file, or it is not a heartbeat."""
    try:
        content, written = read_json(file), _seconds_of_writing(file)
        host, pid, token, beat = (content[name] for name in ("host", "pid", "token", "beat"))
    except (LosslineError, FileNotFoundError, KeyError, TypeError):
        return None
    return Heartbeat(str(host), pid, str(token), beat, age_seconds=max(0.0, time.time() - written))


def wait_for_silence(file: epath.Path, wait: bool, beat_seconds: float) -> None:
    """Watch the heartbeat of another process for `SILENT_BEATS` beats, and return if it does not change.

    Args:
        file: `alive.json` of the run.
        wait: True: wait until the other process has ended. False: raise if the other process is alive.
        beat_seconds: seconds between two beats.

    Raises:
        RunLocked: the heartbeat has changed, so the other process is alive.
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
    """Write heartbeats from a thread while the block runs. The file is removed at the end, also after an error.

    Args:
        file: `alive.json` of the run.
        beat_seconds: seconds between two beats.
        lost: called in the thread, with a message, when another process has taken over the run. None: this process
            ends at once, since anything it writes from then on would overwrite files of the other process.
    """
    heartbeat = Heartbeat(socket.gethostname(), os.getpid(), uuid.uuid4().hex)
    stop = threading.Event()
    _write(file, heartbeat)
    thread = threading.Thread(
        target=_beat,
        args=(file, heartbeat),
        kwargs={"beat_seconds": beat_seconds, "stop": stop, "lost": lost or _end_process},
        daemon=True,
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
    file: epath.Path, heartbeat: Heartbeat, *, beat_seconds: float, stop: threading.Event, lost: Callable[[str], None]
) -> None:
    beat, pause = 0, min(FIRST_BEAT_SECONDS, beat_seconds)
    while not stop.wait(pause):
        beat, pause = beat + 1, beat_seconds
        # A store or disk that fails for a while also fails the work itself, and is reported there. The next beat may
        # succeed.
        with contextlib.suppress(Exception):
            latest = read_heartbeat(file)
            if latest is not None and latest.token != heartbeat.token:
                lost(f"{file}: process {latest.pid} on {latest.host} has taken over this run; this one stops")
                return
            _write(file, Heartbeat(heartbeat.host, heartbeat.pid, heartbeat.token, beat))


def _seconds_of_writing(file: epath.Path) -> float:
    return file.stat().mtime if is_remote(file) else os.path.getmtime(file)


def _write(file: epath.Path, heartbeat: Heartbeat) -> None:
    content = asdict(heartbeat)
    del content["age_seconds"]
    write_json(file, content)


def _end_process(message: str) -> None:
    logs.warning(f"lossline: {message}")
    os._exit(RunLocked.exit_code)
