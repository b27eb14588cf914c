"""Measure how often verdicts and intervals are right where the inputs break the assumptions.

python benchmarks/rough_statistics.py lines | courses | levels | noise | laws | study-laws | forecasts [--rows NAME ...]

Every row is planted again from a seed, so that a table can be compared row by row with an earlier one.
"""

import argparse
import importlib

from timing import use_cores

COMMANDS = {  # name: (module with `table(options) -> str`, help of the command)
    "lines": ("rough_lines", "verdicts of the line comparison: diverged runs, copies, few runs, crossing lines"),
    "courses": ("gap_course", "the course of a gap along x: fades, grows, crosses, stays"),
    "levels": ("rough_levels", "trends over numeric levels, and interactions of two factors"),
    "noise": ("rough_noise", "lines and gaps where x has noise, with and without its correction"),
    "laws": ("rough_laws", "intervals of fitted laws: noise that differs, is shared, or belongs to runs"),
    "study-laws": ("rough_study_laws", "intervals of the compute laws of a study: errors of a budget or of a run"),
    "forecasts": ("rough_laws", "intervals of forecasts: laws that are not of the fitted form"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, shows) in COMMANDS.items():
        command = commands.add_parser(name, help=shows, description=shows)
        command.add_argument("--rows", nargs="+", help="names of rows of the table; default: all")
        command.add_argument("--studies", type=int, help="planted studies for each row; default: the number of the row")
        command.add_argument(
            "--seed", type=int, default=0, help="seed; another one draws other studies of the same kind"
        )
        command.add_argument("--threads", type=int, default=1, help="cores")
    options = parser.parse_args()
    use_cores(options.threads)
    print(importlib.import_module(COMMANDS[options.command][0]).table(options))  # jax starts here, on the cores left


if __name__ == "__main__":
    main()
