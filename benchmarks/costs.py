"""Measure the costs of our training step: CPU time by context length, memory, and time to compile.

python benchmarks/costs.py length | memory | compile
"""

import argparse
import dataclasses
import time
from collections.abc import Callable

from shapes import SHAPES, Shape
from timing import interleave, median_cost, use_cores

from lossline_jax.distributed.devices import configure_devices
from lossline_jax.formatting import text_table

LENGTHS = (256, 512, 1024, 2048, 4096)
TOKENS_OF_A_STEP = 8192
BATCHES = (16, 64, 256)
DEPTHS = (2, 32)


def main() -> None:
    modes: dict[str, Callable[[argparse.Namespace], str]] = {
        "length": length_table,
        "memory": memory_table,
        "compile": compile_table,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--models", nargs="+", choices=("llama", "mamba2", "mamba"))
    parser.add_argument("--shape", choices=SHAPES, help="default: S for length and compile, M for memory")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the mode length")
    options = parser.parse_args()
    use_cores(options.threads)
    from ours import EXECUTION

    configure_devices(EXECUTION)
    print(modes[options.mode](options))


def length_table(options: argparse.Namespace) -> str:
    """Return a table of the time a token takes at each context length, with equal tokens in every step.

    The last column compares each length with the shortest one.
    """
    from ours import training

    rows = []
    for architecture in options.models or ["mamba2"]:
        shape = SHAPES[options.shape or "S"]
        calls = {
            length: training(shape.config(architecture), shape.vocab_size, TOKENS_OF_A_STEP // length, length).train
            for length in LENGTHS
        }
        costs = interleave(calls, options.rounds, seconds=1.0)
        for length in LENGTHS:
            relative = [a.cpu / b.cpu for a, b in zip(costs[length], costs[LENGTHS[0]], strict=True)]
            cost, ratio = median_cost(costs[length]), sorted(relative)[len(relative) // 2]
            microseconds = (f"{1e6 * seconds / TOKENS_OF_A_STEP:.1f}" for seconds in (cost.wall, cost.cpu))
            rows.append((architecture, length, *microseconds, f"{ratio:.3f}"))
    return text_table(("model", "T", "wall us/token", "CPU us/token", f"CPU / that of T {LENGTHS[0]}"), rows)


def memory_table(options: argparse.Namespace) -> str:
    """Return a table of the temporaries of the compiled step on one device.

    Temporaries are the memory that the step needs besides parameters, moments and batch.
    """
    from ours import training

    rows = []
    shape: Shape = SHAPES[options.shape or "M"]
    for architecture in options.models or ["llama", "mamba2", "mamba"]:
        sizes = [
            training(shape.config(architecture), shape.vocab_size, batch, shape.length)
            .compiled_step()
            .memory_analysis()
            .temp_size_in_bytes
            for batch in BATCHES
        ]
        rows.append((architecture, shape.d_model, shape.length, *(f"{size / 1e6:.1f}" for size in sizes)))
    return text_table(("model", "width", "T", *(f"MB at B {batch}" for batch in BATCHES)), rows)


def compile_table(options: argparse.Namespace) -> str:
    """Return a table of CPU-seconds to trace, lower and compile a shallow and a deep model.

    The two depths are measured by turns, and the least of three is kept.
    """
    from ours import training

    rows = []
    shape: Shape = SHAPES[options.shape or "S"]
    for architecture in options.models or ["llama", "mamba2", "mamba"]:
        least = dict.fromkeys(DEPTHS, float("inf"))
        for _ in range(3):
            for depth in DEPTHS:
                config = dataclasses.replace(shape.config(architecture), num_layers=depth)
                run = training(config, shape.vocab_size, 4, shape.length)
                start = time.process_time()
                run.compiled_step()
                least[depth] = min(least[depth], time.process_time() - start)
        shallow, deep = (least[depth] for depth in DEPTHS)
        rows.append((architecture, f"{shallow:.2f}", f"{deep:.2f}", f"{deep / shallow:.2f}"))
    return text_table(("model", *(f"CPU s, {depth} layers" for depth in DEPTHS), "ratio"), rows)


if __name__ == "__main__":
    main()
