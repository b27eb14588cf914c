"""Measure the speedup on planted studies: false verdicts at a speedup of 1, and speedups that are found and covered.

python benchmarks/speedup.py [--studies 200] [--only "5 and 3 runs"]

`tests/support/planted_compute.py` draws the studies: a base, and six settings that differ from it in one of four
factors. A run differs from its curve by the noise of seeds, 5% of compute. Other data has the planted speedup.
"""

import argparse
import dataclasses
import sys
from collections import Counter
from pathlib import Path

from timing import use_cores

SPEEDUPS = (1.0, 1.1, 1.3, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200, help="studies for each condition and speedup")
    parser.add_argument("--null", type=int, help="studies with a speedup of 1. Default: as --studies")
    parser.add_argument("--only", help="one condition")
    parser.add_argument("--threads", type=int, default=1, help="cores")
    options = parser.parse_args()
    use_cores(options.threads)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the package tests
    print(_table(options.studies, options.null or options.studies, options.only))


def _table(num_studies: int, num_null: int, only: str | None) -> str:
    """Return the table. jax is first imported here, on the cores that are left."""
    from lossline_jax.formatting import text_table

    header = (
        "condition", "any false in a study, %", "false a level, %", "no difference, %", "x1.1 found, %", "x1.3", "x2",
        "wrong way, %", "interval holds it, %", "names a run, %",
    )  # fmt: skip
    rows = []
    for name, (design, curve) in _conditions().items():
        if only in (None, name):
            rows.append(_row(name, design, curve, {s: num_null if s == 1.0 else num_studies for s in SPEEDUPS}))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return text_table(header, rows, width=None)


def _conditions() -> dict[str, tuple]:
    """Return each condition: how the runs are drawn, and the curve that is fitted to them."""
    from tests.support.planted_compute import (
        FIRST_OF_BASE,
        FIRST_OF_LEVEL,
        Design,
        diverged,
        in_another_unit,
        plateau_curve,
    )

    usual = Design(5, 3)
    points = Design(12, 12, num_checkpoints=1, run_noise=0.05, point_noise=0.0)
    return {
        "3 and 3 runs": (Design(3, 3), "measured"),
        "5 and 3 runs": (usual, "measured"),
        "5 and 5 runs": (Design(5, 5), "measured"),
        "5 and 3, curve with a plateau": (dataclasses.replace(usual, curve=plateau_curve), "measured"),
        "5 and 3, noise of seeds from t(3)": (dataclasses.replace(usual, degrees_of_freedom=3.0), "measured"),
        "5 and 3, noise of seeds thrice as large at the level": (
            dataclasses.replace(usual, noise_of_level=3.0),
            "measured",
        ),
        "5 and 3, noise of checkpoints thrice as large": (dataclasses.replace(usual, point_noise=0.006), "measured"),
        "5 and 1 runs": (Design(5, 1), "measured"),
        "power law, 3 and 3 runs": (Design(3, 3), "power law"),
        "power law, 5 and 3 runs": (usual, "power law"),
        "power law, 5 and 3, curve with a plateau": (dataclasses.replace(usual, curve=plateau_curve), "power law"),
        "power law, 12 and 12 runs of one point": (points, "power law"),
        "power law, 12 and 12 of one point, plateau": (dataclasses.replace(points, curve=plateau_curve), "power law"),
    } | {
        name: (Design(5, 5, change=change), "power law" if name.startswith("power law") else "measured")
        for name, change in {
            "one diverged run of five, base": lambda table: diverged(table, FIRST_OF_BASE),
            "one diverged run of five, level": lambda table: diverged(table, FIRST_OF_LEVEL),
            "one run of five in PFLOPs, base": lambda table: in_another_unit(table, FIRST_OF_BASE, 1e-15),
            "one run of five in PFLOPs, level": lambda table: in_another_unit(table, FIRST_OF_LEVEL, 1e-15),
            "one run of five with six times the compute, level": lambda table: in_another_unit(
                table, FIRST_OF_LEVEL, 6.0
            ),
            "power law, one run of five in PFLOPs, level": lambda table: in_another_unit(table, FIRST_OF_LEVEL, 1e-15),
        }.items()
    }


def _row(name: str, design, curve: str, num_studies: dict[float, int]) -> tuple:
    from lossline_jax.fit import CurveOptions, compare_compute
    from tests.support.planted_compute import BASE, planted_table

    null, found = Counter(), {speedup: Counter() for speedup in SPEEDUPS}
    studies_with_false, held, covered_of, num_named = 0, 0, 0, 0
    options = CurveOptions(curve=curve)
    for speedup in SPEEDUPS:
        for seed in range(num_studies[speedup]):
            result = compare_compute(
                planted_table(seed + int(1e6 * speedup), speedup, design), "loss", BASE, curves=options
            )
            levels = {level.level: level for factor in result.factors for level in factor.levels}
            planted = levels["code"]
            num_named += any(factor.far_runs for factor in result.factors)
            if speedup == 1.0:
                verdicts = [level.verdict for level in levels.values()]
                null.update(verdicts)
                studies_with_false += any(verdict in ("saves compute", "costs compute") for verdict in verdicts)
            found[speedup][planted.verdict] += 1
            if planted.interval is not None:
                held += planted.interval[0] < speedup < planted.interval[1]
                covered_of += 1
    false = null["saves compute"] + null["costs compute"]
    wrong = sum(found[speedup]["costs compute"] for speedup in SPEEDUPS[1:])
    return (
        name,
        f"{100 * studies_with_false / num_studies[1.0]:.1f}",
        f"{100 * false / null.total():.2f}",
        f"{100 * null['no difference'] / null.total():.0f}",
        *(f"{100 * found[speedup]['saves compute'] / num_studies[speedup]:.0f}" for speedup in SPEEDUPS[1:]),
        f"{100 * wrong / sum(num_studies[speedup] for speedup in SPEEDUPS[1:]):.1f}",
        f"{100 * held / max(covered_of, 1):.1f}",
        f"{100 * num_named / sum(num_studies.values()):.1f}",
    )


if __name__ == "__main__":
    main()
