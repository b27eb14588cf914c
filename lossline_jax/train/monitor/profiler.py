"""A trace of some steps, on request: what the devices and the host did, and when."""

import itertools
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import jax
from etils import epath

from lossline_jax import logs
from lossline_jax.distributed.processes import is_main_process
from lossline_jax.storage.files import is_remote, make_folder

WARM_UP = 3  # steps of a process that are left out: the first compiles, the next may still fill caches


def traced_steps(start: int, num_steps: int, count: int, checkpoint_steps: Sequence[int]) -> range:
    """Which steps to trace: the first `count` in a row past the warm-up without a checkpoint among them.

    Where checkpoints come too often for that, the first ones past the warm-up; fewer where the run ends, even none.

    Args:
        start: steps done before this process.
        num_steps: of the run.
        count: that are wanted.
        checkpoint_steps: after which a checkpoint is saved, and perhaps scored.
    """
    first = start + WARM_UP + 1
    for begin in range(first, num_steps - count + 2):
        if not any(begin <= step < begin + count for step in checkpoint_steps):
            return range(begin, begin + count)
    return range(first, max(min(first + count, num_steps + 1), first))


def profiled(
    steps: range, traced: range, *, wanted: int, settle: Callable[[], None], folder: epath.Path
) -> Generator[int, None, None]:
    """Yield `steps`, with a trace of those in `traced`. Process 0 alone writes it, into `folder`.

    Args:
        steps: of the loop.
        traced: of `traced_steps`; empty for no trace.
        wanted: how many were asked for, to say so where there are fewer.
        settle: waits until the devices have done all steps so far, so that the trace has whole steps.
    """
    if wanted and len(traced) < wanted:
        logs.info(f"--profile: {len(traced)} of {wanted} steps, the run has no more left after {WARM_UP} to warm up")
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
    """An object store gets the files of a trace, which only a disk can be written with."""
    for path in itertools.filterfalse(Path.is_dir, sorted(local.rglob("*"))):
        target = folder / path.relative_to(local).as_posix()
        make_folder(target.parent)
        target.write_bytes(path.read_bytes())
