"""Compare the fitting module with the published procedures and other solvers: predictions, speed, coverage.

python benchmarks/fitting.py backtest | speed | coverage
"""

import argparse
import os
from pathlib import Path

from timing import use_cores

REFERENCE = Path(os.environ.get("LOSSLINE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    backtest = modes.add_parser("backtest", help="large runs of the public sweep predicted from small ones")
    backtest.add_argument("--train-up-to", type=float, default=2.1e18, help="FLOPs of the largest run fitted")
    backtest.add_argument("--predict", type=float, default=4.84e19, help="FLOPs of the runs predicted")
    backtest.add_argument("--noisy", action="store_true", help="imbue and 5-shot multiple choice too")
    speed = modes.add_parser("speed", help="problems a CPU-second against scipy and vmapped L-BFGS")
    speed.add_argument("--problems", type=int, default=60, help="resampled data sets that ours fits in one call")
    speed.add_argument("--peer-problems", type=int, default=3, help="problems that each peer fits")
    speed.add_argument("--resamples", type=int, default=4000, help="resamples of the warm bootstrap")
    speed.add_argument("--rounds", type=int, default=3, help="rounds there and back; figures are medians over them")
    for mode in (backtest, speed):
        mode.add_argument("--data", type=Path, help="folder of the sweep; default: the one in the shared data")
    coverage = modes.add_parser("coverage", help="how often nominal 90%% intervals hold the truth")
    coverage.add_argument("--data-sets", type=int, default=300)
    coverage.add_argument("--resamples", type=int, default=200, help="resamples of each bootstrap")
    for mode in (backtest, speed, coverage):
        mode.add_argument("--threads", type=int, default=1, help="cores")
    options = parser.parse_args()
    use_cores(options.threads)
    if options.mode != "coverage" and options.data is None:
        options.data = REFERENCE / "loss_to_loss"
    print(_tables(options))


def _tables(options: argparse.Namespace) -> str:
    """Return the tables of a mode. jax is first imported here, on the cores that are left."""
    if options.mode == "backtest":
        from fit_backtest import backtest_tables

        return backtest_tables(options)
    if options.mode == "speed":
        from fit_speed import speed_tables

        return speed_tables(options, REFERENCE / "chinchilla")
    from fit_coverage import coverage_tables

    return coverage_tables(options)


if __name__ == "__main__":
    main()
