"""Measure what a step of each optimiser costs against AdamW, and one with rounded weights, by turns.

python benchmarks/optimisers.py --help
"""

import argparse
import dataclasses

from ours import EXECUTION, training
from shapes import SHAPES
from timing import interleave, median_cost, ratios, use_cores

from lossline_jax.config.training import OptimConfig
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.formatting import text_table

OPTIMISERS = {
    "adamw": OptimConfig(),
    "adam_l2": OptimConfig("adam_l2"),
    "lion": OptimConfig("lion"),
    "muon": OptimConfig("muon"),
    "schedule_free": OptimConfig("schedule_free"),
    "sam": OptimConfig(sam_radius=0.05),
}
CHANGES = {"weight_bits=4": {"weight_bits": 4}}
HEADER = ("step of", "tok/s", "wall x AdamW", "CPU x AdamW")


def main() -> None:
    options = _parse()
    use_cores(options.threads)
    configure_devices(EXECUTION)
    shape = SHAPES[options.shape]
    config, batch = shape.config("llama"), options.batch or shape.batches["llama"]
    runs = {name: training(config, shape.vocab_size, batch, shape.length, optim) for name, optim in OPTIMISERS.items()}
    runs |= {
        name: training(dataclasses.replace(config, **change), shape.vocab_size, batch, shape.length)
        for name, change in CHANGES.items()
    }
    for run in runs.values():
        run.first_loss()
    costs = interleave({name: run.train for name, run in runs.items()}, options.rounds, options.seconds)
    rows = []
    for name, cost in costs.items():
        wall, cpu = ratios(cost, costs["adamw"])
        rows.append([name, f"{batch * shape.length / median_cost(cost).wall:,.0f}", str(wall), str(cpu)])
    print(text_table(HEADER, rows))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="M", help="width 128 by default")
    parser.add_argument("--batch", type=int, help="sequences a step; default: those of the shape")
    parser.add_argument("--threads", type=int, default=2, help="cores; 1 leaves no waiting in the CPU-seconds")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; a ratio is the median over them")
    parser.add_argument("--seconds", type=float, default=0.5, help="least seconds of a turn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
