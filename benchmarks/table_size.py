"""Measure `table compare` and `table report` on larger and larger tables: CPU-seconds, memory and size of the page.

The tables grow out of the published losses of the CPU study. More checkpoints are interpolated along each run, more
runs are copies with noise of their own, and more evaluation sets are curves of the ones that are there.
Each measurement is a process of its own. The first process of a table compiles programs, and the others find them.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lossline_jax.formatting import text_table

RESULTS = Path(__file__).resolve().parents[1] / "results/llms_on_the_line_cpu/losses.parquet"
AXES = ("--x", "wiki", "--y", "techdoc_cloze")
SIZES = {  # runs, checkpoints of each run, evaluation sets
    "1x": (62, 10, 8),
    "4x": (62, 40, 8),
    "16x": (124, 80, 8),
    "paper": (111, 84, 15),  # the runs, checkpoints and sets of arXiv 2502.12120
}
RUN_NOISE = 0.01  # relative deviation of the losses of a copied run, shared by its checkpoints
CHECKPOINT_NOISE = 0.002  # relative deviation of an interpolated loss
LOSSES = ("nats_per_token", "bits_per_byte", "nats_sum")  # they say the same, so they are multiplied by the same
MILLION = 1e6


def grown(frame: pd.DataFrame, runs: int, checkpoints: int, sets: int) -> pd.DataFrame:
    """Return a table of so many runs, checkpoints of each run and evaluation sets.

    The published rows are returned as they are where the table already has these numbers.

    Args:
        frame: rows of `losses.LossRow`.
        runs: number of runs.
        checkpoints: checkpoints of each run.
        sets: number of evaluation sets.
    """
    counts = frame["run_id"].nunique(), frame["step"].nunique(), frame["eval_set"].nunique()
    generator = np.random.default_rng(0)
    if sets > counts[2]:
        frame = _with_sets(frame, sets)
    if checkpoints > counts[1]:
        frame = _with_checkpoints(frame, checkpoints, generator)
    return _with_runs(frame, runs, generator) if runs > counts[0] else frame


def _with_sets(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """Add evaluation sets whose losses are a line over those of a set that is there."""
    names = list(frame["eval_set"].unique())
    added = []
    for k in range(count - len(names)):
        rows = frame.loc[frame["eval_set"] == names[k % len(names)]].copy()
        rows["eval_set"] = f"{names[k % len(names)]}_{k}"
        loss = rows["nats_per_token"]
        low = 0.5 * loss.min()
        added.append(_multiplied(rows, (low + 0.9 * (loss - low) ** (1.05 + 0.01 * k)) / loss))
    return pd.concat([frame, *added], ignore_index=True)


def _with_checkpoints(frame: pd.DataFrame, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Interpolate every series of numbers at `count` checkpoints, evenly in the logarithm of tokens."""
    numbers = [name for name in frame.select_dtypes("number") if name not in ("seed", "context_length")]
    parts = []
    for _, rows in frame.groupby(["run_id", "eval_set"], sort=False):
        old = np.log(rows["tokens_seen"].to_numpy(float))
        new = np.linspace(old[0], old[-1], count)
        part = rows.iloc[np.zeros(count, int)].copy()
        for name in numbers:
            values = np.interp(new, old, rows[name].to_numpy(float))
            part[name] = values.round().astype(int) if rows[name].dtype.kind == "i" else values
        part["step"] = np.arange(1, count + 1)
        parts.append(_multiplied(part, 1 + CHECKPOINT_NOISE * generator.normal(size=count)))
    return pd.concat(parts, ignore_index=True)


def _with_runs(frame: pd.DataFrame, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Add copies of runs with another seed, whose losses differ by noise of the run and of each checkpoint."""
    names = list(frame["run_id"].unique())
    added = []
    for k in range(count - len(names)):
        rows = frame.loc[frame["run_id"] == names[k % len(names)]].copy()
        rows["run_id"] = rows["run_id"] + f"-copy{k}"
        rows["seed"] = 100 + k
        shift = rows["eval_set"].map({name: generator.normal() for name in rows["eval_set"].unique()})
        noise = RUN_NOISE * shift + CHECKPOINT_NOISE * generator.normal(size=len(rows))
        added.append(_multiplied(rows, 1 + noise))
    return pd.concat([frame, *added], ignore_index=True)


def _multiplied(rows: pd.DataFrame, factor: np.ndarray | pd.Series) -> pd.DataFrame:
    return rows.assign(**{name: rows[name] * factor for name in LOSSES})


@dataclass(frozen=True)
class Spent:
    """The cost of one process."""

    cpu: float  # seconds, user and system
    wall: float  # seconds
    megabytes: float  # largest resident memory


def spent_by(command: Sequence[object], folder: Path) -> Spent:
    """Run a command and return its cost. The benchmark ends if the command fails.

    Args:
        command: the program and its arguments.
        folder: the folder to run in; compiled programs are kept in it.
    """
    environment = os.environ | {"LOSSLINE_CACHE": str(folder / "cache"), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode each process would compile the modules again
    begin = time.perf_counter()
    with (folder / "stderr.txt").open("w") as messages:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=messages
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"benchmarks: {' '.join(map(str, command))} failed\n{(folder / 'stderr.txt').read_text()[-3000:]}")
    return Spent(usage.ru_utime + usage.ru_stime, time.perf_counter() - begin, _megabytes(usage))


def _megabytes(usage: resource.struct_rusage) -> float:
    """Return the largest resident memory. Linux gives it in KiB, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MILLION


def _measure(table: Path, folder: Path, verb: str, repeats: int) -> tuple[Spent, list[Spent]]:
    """Return the cost of the first process, which compiles, and of each later one."""
    command = [sys.executable, "-m", "lossline_jax", "table", verb, table, *AXES]
    if verb == "report":
        command += ["--out", folder / "page"]
    first, *later = [spent_by(command, folder) for _ in range(repeats + 1)]
    return first, later


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--verbs", nargs="+", choices=("compare", "report"), default=["compare", "report"])
    parser.add_argument("--repeats", type=int, default=1, help="processes after the first one; the least counts")
    parser.add_argument("--keep", type=Path, help="write the tables here too")
    options = parser.parse_args()
    published = pd.read_parquet(RESULTS)
    rows = []
    for size in options.sizes:
        frame = grown(published, *SIZES[size])
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            table = (options.keep or folder) / f"losses_{size}.parquet"
            frame.to_parquet(table)
            for verb in options.verbs:
                cold, warm = _measure(table, folder, verb, options.repeats)
                least = min(warm or [cold], key=lambda cost: cost.cpu)
                page = folder / "page/report.html"
                megabytes = page.stat().st_size / MILLION if verb == "report" else math.nan
                rows.append(
                    (
                        f"{size}, {len(frame):,} rows",
                        verb,
                        f"{cold.cpu:.1f}",
                        f"{least.cpu:.1f}",
                        f"{least.wall:.1f}",
                        f"{least.megabytes:.0f}",
                        "" if math.isnan(megabytes) else f"{megabytes:.1f}",
                    )
                )
                print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(text_table(("table", "verb", "CPU-s, first", "CPU-s", "wall s", "peak MB", "page MB"), rows))


if __name__ == "__main__":
    main()
