"""Measure fits a CPU-second of lossline_jax, scipy and vmapped L-BFGS, and the cost of compiling."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from fit_peers import NUM_ITERATIONS, lbfgs_fit, scipy_best, scipy_fit
from loss_sweep import OWN_VAL, read_sweep, relations
from timing import Cost, interleave, median_cost, ratios

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.resampling import bootstrap, cluster_counts
from lossline_jax.fit.solve import fit_law, fit_law_many
from lossline_jax.fit.solver.problem import Problem, build_problem
from lossline_jax.formatting import text_table

POINTS = "epoch_svg_extracted_data.csv"
NUM_DROPPED = 5  # the largest losses, which are not on the law
NUM_STARTS = 12
MANY_STARTS = 96
SAME = 1e-3  # relative: an objective this close to the best has reached it
OURS = "lossline_jax"
# Name of a peer: whether it uses the Jacobian of `fit_peers.CURVES`.
TRF = {"scipy TRF, finite differences": False, "scipy TRF, Jacobian written out": True}
PEER_RESAMPLES = 20  # resamples that scipy refits
LINES_OF_PEER = 4  # loss-to-loss problems for each compute law that scipy fits; they are smaller
CHILD = """
import json, sys, time
import numpy as np
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.solve import fit_law_many

size, tokens = (values.ravel() for values in np.meshgrid(np.geomspace(1e8, 1e10, 16), np.geomspace(1e9, 1e11, 15)))
loss = (1.8 + 480 * size**-0.35 + 2100 * tokens**-0.37) * np.exp(0.01 * np.random.default_rng(0).normal(size=240))
inputs, y = {"N": size, "D": tokens}, loss
if sys.argv[1] == "shifted power law":
    inputs, y = {"x": loss[:88]}, 0.9 * (loss[:88] - 1.0) ** 1.1 + 0.6
spent = []
for _ in range(2):
    start = time.process_time()
    fit_law_many(LAWS[sys.argv[1]], [DataSet(inputs, y)], num_starts=12)
    spent.append(time.process_time() - start)
print(json.dumps(spent))
"""


def speed_tables(options: argparse.Namespace, chinchilla: Path) -> str:
    """Return two tables: the speed of fits and refits, and the time of compilation."""
    path = chinchilla / POINTS
    if not path.exists():
        sys.exit(f"benchmarks: {path} is absent; set LOSSLINE_SHARED to the folder of shared data")
    inputs, loss = _chinchilla_points(path)
    rows = []
    for law in (CHINCHILLA, KAPLAN):
        rows += _compute_law(law, inputs, loss, options)
    rows += _lines(options)
    rows += _refits(inputs, loss, options)
    header = ("problem", "solver", "problems", "a CPU-s", "ours x, CPU", "within .1% of the best, %")
    return "\n\n".join((text_table(header, rows), _compilation()))


def _chinchilla_points(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    frame = pd.read_csv(path).sort_values("loss").iloc[:-NUM_DROPPED]
    size, compute = frame["Model Size"].to_numpy(float), frame["Training FLOP"].to_numpy(float)
    return {"N": size, "D": compute / (6 * size)}, frame["loss"].to_numpy(float)


def _compute_law(law: Law, inputs: dict[str, np.ndarray], loss: np.ndarray, options) -> list[tuple]:
    """Compare the solvers on a compute law. Rows that are drawn again make different problems of one kind."""
    generator = np.random.Generator(np.random.PCG64(0))
    draws = generator.integers(0, loss.size, (options.problems, loss.size))
    data = [DataSet({name: values[rows] for name, values in inputs.items()}, loss[rows]) for rows in draws]
    peers = _scipy() | {
        f"optax.lbfgs, vmapped, {NUM_ITERATIONS} steps, float{bits}": partial(
            lbfgs_fit, num_starts=NUM_STARTS, bits=bits
        )
        for bits in (32, 64)
    }
    title = f"{law.name}, {loss.size} points, {NUM_STARTS} starts"
    return _compare(title, law, data, peers, options.peer_problems, options.rounds)


def _scipy() -> dict[str, Callable[[Problem], float]]:
    return {name: partial(scipy_fit, num_starts=NUM_STARTS, analytic=analytic) for name, analytic in TRF.items()}


def _lines(options: argparse.Namespace) -> list[tuple]:
    """Compare the solvers on loss-to-loss lines of the sweep.

    Each line is a validation, downstream or suite loss over the validation loss of the model's own pretraining set.
    """
    all_relations = relations(read_sweep(options.data), noisy=True)
    data = [DataSet({"x": r.series.rows.x}, r.series.y) for r in all_relations if r.letter == "d"]
    title = f"loss over {OWN_VAL}, 4 free parameters, {NUM_STARTS} starts"
    return _compare(title, SHIFTED_POWER, data, _scipy(), LINES_OF_PEER * options.peer_problems, options.rounds)


def _compare(
    title: str,
    law: Law,
    data: Sequence[DataSet],
    peers: dict[str, Callable[[Problem], float]],
    num_peer: int,
    rounds: int,
) -> list[tuple]:
    """Return one row for each solver.

    The peers fit `num_peer` problems that are spread over `data`, and are judged on these alone.
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, num_peer).round().astype(int))
    problems = [build_problem(law, data[k].inputs, data[k].y, law.objective) for k in chosen]
    objectives: dict[str, np.ndarray] = {}

    def run_lossline() -> None:
        objectives[OURS] = _objectives(law, data, NUM_STARTS)

    def run_peer(name: str) -> None:
        objectives[name] = np.array([peers[name](problem) for problem in problems])

    costs = interleave({OURS: run_lossline} | {name: partial(run_peer, name) for name in peers}, rounds, seconds=0.0)
    best = np.minimum(_objectives(law, data, MANY_STARTS), objectives[OURS])
    for name in peers:
        best[chosen] = np.minimum(best[chosen], objectives[name])
    reached = {
        name: values <= (best if name == OURS else best[chosen]) * (1 + SAME) for name, values in objectives.items()
    }
    return _rows(title, costs, reached)


def _objectives(law: Law, data: Sequence[DataSet], num_starts: int) -> np.ndarray:
    fits = fit_law_many(law, data, num_starts=num_starts)
    return np.array([np.inf if fit.objective is None else fit.objective for fit in fits])


def _refits(inputs: dict[str, np.ndarray], loss: np.ndarray, options: argparse.Namespace) -> list[tuple]:
    """Compare the solvers on bootstrap resamples of the Chinchilla fit. Each is refitted from the estimate."""
    fit = fit_law(CHINCHILLA, loss, level=None, **inputs)
    problem = build_problem(CHINCHILLA, inputs, loss, CHINCHILLA.objective)
    start_P = problem.search(fit.parameters)
    # The same resamples as `bootstrap` draws from seed 0.
    counts = cluster_counts(np.random.Generator(np.random.PCG64(0)), loss.size, options.resamples)
    few = min(PEER_RESAMPLES, options.resamples)
    objectives: dict[str, np.ndarray] = {}
    samples: dict[str, np.ndarray] = {}

    def run_lossline() -> None:
        samples.update(bootstrap(fit, inputs, loss, num_resamples=options.resamples, seed=0).samples)

    def run_peer(name: str, analytic: bool) -> None:
        objectives[name] = np.array([scipy_best(problem, start_P[None], analytic, counts[k]) for k in range(few)])

    calls = {name: partial(run_peer, name, analytic) for name, analytic in TRF.items()}
    costs = interleave({OURS: run_lossline} | calls, options.rounds, seconds=0.0)
    ends = np.stack(
        [problem.search(dict(zip(samples, row, strict=True))) for row in zip(*samples.values(), strict=True)]
    )
    r, delta = np.abs(problem.residuals(ends)), problem.objective.delta
    objectives[OURS] = np.sum(counts * np.where(r <= delta, r**2 / 2, delta * (r - delta / 2)), axis=1)
    best = np.min([values[:few] for values in objectives.values()], axis=0)
    reached = {name: values[:few] <= best * (1 + SAME) for name, values in objectives.items()}
    title = f"{CHINCHILLA.name}, bootstrap refits from the estimate"
    return _rows(title, costs, reached, {OURS: options.resamples})


def _rows(
    title: str, costs: dict[str, list[Cost]], reached: dict[str, np.ndarray], problems: dict[str, int] | None = None
) -> list[tuple]:
    """Return one row for each solver.

    Args:
        title: the kind of problem.
        costs: of a call, by solver.
        reached: whether each judged problem reached the best objective, by solver.
        problems: problems of a call, by solver. None, or a missing solver: as many as were judged.
    """
    sizes = {name: (problems or {}).get(name, values.size) for name, values in reached.items()}
    per_problem = {name: [Cost(c.wall / sizes[name], c.cpu / sizes[name]) for c in costs[name]] for name in costs}
    return [
        (
            title,
            name,
            sizes[name],
            f"{1 / median_cost(per_problem[name]).cpu:.3g}",
            "" if name == OURS else str(ratios(per_problem[name], per_problem[OURS])[1]),
            f"{100 * reached[name].mean():.1f}",
        )
        for name in costs
    ]


def _compilation() -> str:
    """Return a table of CPU-seconds of the first fit of a process, without and with kept programs.

    Imports are not counted.
    """
    rows = []
    for law in (CHINCHILLA, KAPLAN, SHIFTED_POWER):
        with tempfile.TemporaryDirectory() as folder:
            (cold, _), (kept, warm) = _child(law, folder), _child(law, folder)
        rows.append((law.name, f"{cold:.2f}", f"{kept:.2f}", f"{warm:.3f}"))
    header = (f"CPU-s of one fit, {NUM_STARTS} starts", "first, nothing kept", "first, programs kept", "second")
    return text_table(header, rows)


def _child(law: Law, folder: str) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    process = subprocess.run(
        [sys.executable, "-c", CHILD, law.name],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"LOSSLINE_CACHE": folder},
    )
    if process.returncode:
        sys.exit(f"benchmarks: the child process failed\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])
