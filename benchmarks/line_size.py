"""Measure the CPU-seconds of one line through few and through many points, without and with profile intervals.

The first fit of each size compiles its programs and is not counted.
"""

import argparse
import statistics
import time

import numpy as np

from lossline_jax.fit.curves.line import fit_line
from lossline_jax.formatting import text_table

SIZES = (1_000, 10_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3, help="fits that are counted; their median is printed")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        generator = np.random.default_rng(0)
        x = 2 + 3 * generator.beta(0.7, 1.5, size)
        y = 0.9 * (x - 1.5) ** 1.2 + 1 + 0.01 * generator.normal(size=size)
        rows.append((f"{size:,}", *(f"{_seconds(x, y, level, options.repeats):.2f}" for level in (None, 0.9))))
    print(text_table(("points", "CPU-s", "CPU-s with intervals"), rows))


def _seconds(x: np.ndarray, y: np.ndarray, level: float | None, repeats: int) -> float:
    """Return the median CPU-seconds of a fit whose programs are compiled."""
    fit_line(x, y, level=level)
    spent = []
    for _ in range(repeats):
        begin = time.process_time()
        fit_line(x, y, level=level)
        spent.append(time.process_time() - begin)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
