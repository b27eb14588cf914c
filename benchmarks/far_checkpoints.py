"""Measure how often a checkpoint is set aside, on planted studies with and without a bad one.

The studies are those of `rough_lines.py` (lines) and `speedup.py` (compute). The bad checkpoint is the same in all runs
of the setting with other data: its loss is too high by some deviations of a checkpoint, at a place drawn at random.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rough_lines import CHECKPOINTS, POINTS, ROWS, Row, share_text

from lossline_jax.fit.compare.far_checkpoint import CheckpointCurves, FarCheckpoint, far_checkpoints

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.planted_compute import Design, planted_table, plateau_curve  # the planted tables of the tests

STUDIES = 200
SIZES = (0, 10, 20, 50)  # deviations of a checkpoint by which the bad one is too high
DESIGNS = {
    "compute, 5 and 3 runs": Design(5, 3),
    "compute, 3 and 3 runs": Design(3, 3),
    "compute, plateau": Design(5, 3, curve=plateau_curve),
    "compute, noise of checkpoints thrice": Design(5, 3, point_noise=0.006),
    "compute, 1 and 1 runs": Design(1, 1),
}
NOT_LINES = {"copies, 3 x 2", "one run ends .1 higher"}  # rows of `rough_lines.py` that ask something else


def lines_of(row: Row, size: float, generator: np.random.Generator) -> Iterator[CheckpointCurves]:
    """Yield the points of each setting of a study, with a bad checkpoint in the setting of other data."""
    place = generator.integers(1, CHECKPOINTS - 1)
    for setting in row.draw(generator, row.gap):
        y = setting.y.copy()
        if setting.levels["data"] == "code":
            y[:, place] += size * POINTS
        runs, checkpoints = np.indices(y.shape)
        yield CheckpointCurves(
            "-".join(setting.levels.values()), setting.x.ravel(), y.ravel(), runs.ravel(), checkpoints.ravel()
        )


def compute_of(design: Design, size: float, generator: np.random.Generator) -> Iterator[CheckpointCurves]:
    """Yield the same for a study of compute."""
    place = generator.integers(1, design.num_checkpoints - 1)
    table = planted_table(int(generator.integers(2**32)), 1.3, design)
    factors = ["data", "architecture", "context_length", "optimiser"]
    for levels, rows in table.groupby(factors):
        y = np.log(rows.loss.to_numpy())
        y += size * design.point_noise * ((rows.step == place) & (levels[0] == "code")).to_numpy()
        yield CheckpointCurves(
            "-".join(levels), np.log(rows.train_flops.to_numpy()), y, rows.run_id.to_numpy(), rows.step.to_numpy()
        )


def named(curves: Sequence[CheckpointCurves], size: float) -> tuple[bool, bool]:
    """Tell whether the bad checkpoint is found, and whether any other one is."""
    found = [far for far in far_checkpoints(curves, "y") if far is not None]
    is_bad = [_is_bad(far, size) for far in found]
    return any(is_bad), not all(is_bad)


def _is_bad(far: FarCheckpoint, size: float) -> bool:
    return size > 0 and "code" in far.setting


def table(options: argparse.Namespace) -> str:
    """Return a markdown table of shares in %, with standard errors."""
    header = ["study", "named where none is bad", *(f"bad by {size}: named" for size in SIZES[1:])]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    conditions = [(name, row, lines_of) for name, row in ROWS.items() if name not in NOT_LINES]
    for name, condition, draw in [*conditions, *((name, design, compute_of) for name, design in DESIGNS.items())]:
        generator = np.random.Generator(np.random.PCG64([options.seed, 21]))
        cells = [name]
        for size in SIZES:
            studies = [named(list(draw(condition, size, generator)), size) for _ in range(options.studies)]
            cells.append(share_text([right if size else wrong for right, wrong in studies]))
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(["", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES, help="studies for each condition and size")
    parser.add_argument("--seed", type=int, default=0, help="seed of the studies")
    print(table(parser.parse_args()))


if __name__ == "__main__":
    main()
