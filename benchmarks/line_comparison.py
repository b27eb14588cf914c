"""Measure the line comparison on planted studies: equal lines that are called equal, and gaps that are found.

python benchmarks/line_comparison.py [--studies 200]

`tests/support/planted_lines.py` draws the studies: a base, and six settings that differ from it in one of four factors.
A run has ten checkpoints, and differs from its line by the noise of seeds. Other data lies 0 or 3 noise floors away.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from timing import use_cores

DESIGNS = ((3, 3), (5, 3), (5, 5), (6, 6))  # (runs of the base, runs of every other setting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200, help="studies for each design and gap")
    parser.add_argument("--threads", type=int, default=1, help="cores")
    options = parser.parse_args()
    use_cores(options.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the package tests
    print(_table(options.studies))


def _table(num_studies: int) -> str:
    """Return the table. jax is first imported here, on the cores that are left."""
    from lossline_jax.formatting import text_table

    header = (
        "runs: base, levels", "equal factors: equal", "cannot tell", "move", "3 noises: move", "cannot tell", "equal",
        "90% interval holds the gap", "detects, in noises",
    )  # fmt: skip
    return text_table(header, [_row(*design, num_studies) for design in DESIGNS])


def _row(base_runs: int, num_runs: int, num_studies: int) -> tuple:
    from lossline_jax.fit.compare.compare_lines import compare_setting_lines
    from tests.support.planted_lines import BASE, FLOOR, study

    equal, planted, held, detects = Counter(), Counter(), 0, []
    for gap in (0.0, 3 * FLOOR):
        for seed in range(num_studies):
            for item in compare_setting_lines(study(seed + int(1e6 * gap), gap, base_runs, num_runs), BASE):
                moved = item.factor == "data" and gap > 0
                (planted if moved else equal)[item.verdict] += 1
                if item.factor == "data":
                    low, high = item.levels[0].interval
                    held += low < gap < high
                    detects.append(item.levels[0].smallest_detectable_gap / FLOOR)
    shares = [f"{counts[verdict] / counts.total():.1%}" for counts, verdict in (
        (equal, "does not move"), (equal, "cannot tell"), (equal, "moves"),
        (planted, "moves"), (planted, "cannot tell"), (planted, "does not move"),
    )]  # fmt: skip
    return (f"{base_runs}, {num_runs}", *shares, f"{held / (2 * num_studies):.1%}", f"{np.mean(detects):.2f}")


if __name__ == "__main__":
    main()
