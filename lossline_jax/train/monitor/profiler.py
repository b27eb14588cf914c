"""Trace some steps on request: the trace shows what the devices and the host did, and when."""

import itertools
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import jax
from etils import epath

from lossline_jax import logs
from lossline_jax.distributed.processes import is_main_process
from lossline_jax.storage.files import is_remote, make_folder

WARM_UP = 3  # steps of a process that are not traced: the first compiles, the next ones may still fill caches


def traced_steps(start: int, num_steps: int, count: int, checkpoint_steps: Sequence[int]) -> range:
    """Return the steps to trace: the first `count` consecutive steps after the warm-up that save no checkpoint.

    If checkpoints come too often for that, these are the first `count` steps after the warm-up. If the run ends
    earlier, the range is shorter or empty.

    Args:
        start: number of steps done before this process.
        num_steps: steps of the run.
        count: number of steps to trace.
        checkpoint_steps: steps after which a checkpoint is saved, and perhaps scored.
    """
    first = start + WARM_UP + 1
    for begin in range(first, num_steps - count + 2):
        if not any(begin <= step < begin + count for step in checkpoint_steps):
            return range(begin, begin + count)
    return range(first, max(min(first + count, num_steps + 1), first))


def profiled(
    steps: range, traced: range, *, requested: int, settle: Callable[[], None], folder: epath.Path
) -> Generator[int, None, None]:
    """Yield `steps`, and trace the steps in `traced`. Only process 0 writes the trace.

    Args:
        steps: the steps of the loop.
        traced: the steps to trace, from `traced_steps`. Empty: no trace.
        requested: number of steps that the user asked for. A message says so if `traced` has fewer.
        settle: waits until the devices have done all steps so far, so that the trace has whole steps.
        folder: folder for the trace.
    """
    if requested and len(traced) < requested:
        logs.info(f"--profile: {len(traced)} of {requested} steps, the run has no more after {WARM_UP} warm-up steps")
    if not traced or not is_main_process():
        yield from steps
        return
    before, after = range(steps.start, traced.start), range(traced.stop, steps.stop)
    yield from before
    settle()
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) if is_remote(folder) else Path(make_folder(folder))
        jax.profiler.start_trace(local)
        try:
            for step in traced:
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    yield step
            settle()
        finally:
            jax.profiler.stop_trace()
        if is_remote(folder):
            _upload(local, folder)
    logs.info(
        f"profile: steps {traced.start} to {traced.stop - 1} in {folder}; `pip install xprof` and "
        f"`xprof --logdir {folder}`, or open its *.trace.json.gz at ui.perfetto.dev"
    )
    yield from after


def _upload(local: Path, folder: epath.Path) -> None:
    """Copy the files of a trace to an object store. The profiler itself can only write to a disk."""
    for path in itertools.filterfalse(Path.is_dir, sorted(local.rglob("*"))):
        target = folder / path.relative_to(local).as_posix()
        make_folder(target.parent)
        target.write_bytes(path.read_bytes())
