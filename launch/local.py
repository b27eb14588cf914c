"""Train the runs of a manifest on this machine, in gangs of processes that are started again after an interruption.

    python launch/local.py studies/quickstart/manifest.jsonl --processes 2 --runs-at-once 4

Each run has a log file with the lines of all its starts. A run that fails does not stop another run. On SIGTERM or
SIGINT, the launcher passes the signal on, waits until the checkpoints are saved, and exits with code 42.
"""

import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gang import Member, free_port, run_gang
from selection import Chosen, Selection, main, program
from settings import Local

from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError
from lossline_jax.formatting import human_seconds, text_table
from lossline_jax.status.resubmit import Standing
from lossline_jax.storage.files import is_remote
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.run_records import checkpointed_step

WRITING = threading.Lock()  # runs write whole lines to stderr, one after the other


@dataclass(frozen=True)
class Options(Local, Selection):
    """The flags of this launcher."""

    fit: bool = True
    """Make the losses table, the fits and the report afterwards."""


@dataclass(frozen=True)
class Result:
    """The result of one run.

    Attributes:
        word: done, failed, busy, gave up or stopped.
        starts: number of times that its gang was started.
        seconds: time from the first start to the end.
        note: the reason, if the run is not done.
    """

    word: str
    starts: int
    seconds: float
    note: str = ""


def gang_of(options: Options, chosen: Chosen, index: int, *, slot: int, port: int | str) -> list[Member]:
    """Return the processes of one run.

    Args:
        options: the flags of the launcher.
        chosen: the runs.
        index: index of the run in the manifest.
        slot: place of the run among the `runs_at_once` concurrent runs, which decides its GPUs.
        port: port on which the processes meet.
    """
    command = [*program(options.lossline), *chosen.words(index)]
    members = []
    for k in range(options.processes):
        flags = [f"--processes.coordinator=127.0.0.1:{port}", f"--processes.count={options.processes}"]
        flags = [*flags, f"--processes.index={k}"] if options.processes > 1 else []
        share = options.gpus // (options.runs_at_once * options.processes)
        first = (slot * options.processes + k) * share
        visible = ",".join(str(gpu) for gpu in range(first, first + share))
        label = f"[{index} p{k}]" if options.processes > 1 else f"[{index}]"
        members.append(Member(label, [*command, *flags], {"CUDA_VISIBLE_DEVICES": visible} if visible else {}))
    return members


def supervise(
    make_gang: Callable[[], list[Member]],
    step: Callable[[], int],
    options: Options,
    *,
    stop: threading.Event,
    write: Callable[[str], None],
) -> Result:
    """Start a gang again after each interruption, until the run is done, has failed, or was stopped.

    Args:
        make_gang: returns the processes of the run.
        step: returns the step of the newest checkpoint. A new checkpoint sets the count of crashes back to zero.
        options: the flags of the launcher.
        stop: set it to stop the gang.
        write: called with each line of the processes.
    """
    began, starts, crashes, reached = time.monotonic(), 0, 0, step()
    while not stop.is_set():
        starts += 1
        ending = run_gang(make_gang(), stop, options.grace_seconds, write)
        seconds = time.monotonic() - began
        if ending.verdict == "done":
            return Result("done", starts, seconds)
        if ending.verdict in ("failed", "busy"):  # the process that holds a busy run brings it to its end
            return Result(ending.verdict, starts, seconds, ending.last_line)
        crashes, reached = (0 if step() > reached else crashes), step()
        crashes += ending.verdict == "crashed"
        if crashes > options.retries or starts > options.preemptions:
            return Result("gave up", starts, seconds, f"exit codes {ending.codes}: {ending.last_line}")
    return Result("stopped", starts, time.monotonic() - began)


def launch(options: Options, chosen: Chosen) -> int:
    """Train all runs, print a table of their results, and fit their losses."""
    if options.gpus % (options.runs_at_once * options.processes):
        raise LosslineError(
            f"--gpus: {options.gpus} GPUs cannot be divided by --runs-at-once times --processes; give a multiple"
        )
    if options.dry_run:
        for k, standing in enumerate(chosen.runs.chosen):
            for member in gang_of(options, chosen, standing.index, slot=k % options.runs_at_once, port="PORT"):
                print(member.label, *(f"{k}={v}" for k, v in member.environment.items()), shlex.join(member.command))
        print(*(shlex.join(command) for command in _fit_commands(options, chosen)), sep="\n")
        return 0
    log_folder = _log_folder(options, chosen)
    print(f"logs of the runs: {log_folder}/INDEX_RUN.log", file=sys.stderr, flush=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    results = _run_all(options, chosen, stop, log_folder)
    rows = [
        [standing.index, standing.run_id, result.word, result.starts, human_seconds(result.seconds), result.note]
        for standing, result in results
    ]
    print(text_table(["#", "run", "", "starts", "time", "note"], rows), flush=True)
    if stop.is_set():
        return RESTART_EXIT_CODE
    codes = [subprocess.run(command).returncode for command in _fit_commands(options, chosen)]
    return int(any(codes) or any(result.word != "done" for _, result in results))


def _log_folder(options: Options, chosen: Chosen) -> Path:
    """Make the folder for the log files of the runs, and return it."""
    is_in_bucket = is_remote(chosen.folder.root)
    default = Path("logs", chosen.study.name) if is_in_bucket else Path(str(chosen.folder.root), "logs")
    folder = Path(expanded(options.logs)) if options.logs else default
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LosslineError(f"--logs: {folder}: cannot be made ({error.strerror}); name another folder") from error
    return folder.absolute()


def writer_of(log_file: IO[str]) -> Callable[[str], None]:
    """Return a function that writes a line to stderr and to the log file of a run. Several threads may call it.

    Args:
        log_file: the open log file.
    """

    def write(line: str) -> None:
        with WRITING:
            for file in (sys.stderr, log_file):
                file.write(f"{line}\n")
                file.flush()

    return write


def _run_all(
    options: Options, chosen: Chosen, stop: threading.Event, log_folder: Path
) -> list[tuple[Standing, Result]]:
    slots: queue.Queue[int] = queue.Queue()
    for slot in range(options.runs_at_once):
        slots.put(slot)

    def work(standing: Standing) -> Result:
        directory, slot = chosen.folder.run(standing.run_id), slots.get()
        try:
            with (log_folder / f"{standing.index}_{standing.run_id}.log").open("a", errors="replace") as log_file:
                return supervise(
                    lambda: gang_of(options, chosen, standing.index, slot=slot, port=free_port()),
                    lambda: checkpointed_step(directory),
                    options,
                    stop=stop,
                    write=writer_of(log_file),
                )
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(options.runs_at_once) as pool:
        return list(zip(chosen.runs.chosen, pool.map(work, chosen.runs.chosen), strict=True))


def _fit_commands(options: Options, chosen: Chosen) -> list[list[str]]:
    verbs = ("evaluate", "fit", "report") if options.fit else ()
    return [[*program(options.lossline), verb, str(chosen.folder.root)] for verb in verbs]


if __name__ == "__main__":
    main(Options, launch, __doc__)
