"""Measure nominal 90% intervals of laws and forecasts where noise, runs or form differ from the assumptions."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.predict.forecast import forecast_series
from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.fit.predict.target import rows_of_target
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.study.law_request import LawOptions
from lossline_jax.fit.study.table_laws import fit_laws

TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
OTHER_TRUTH = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.28, "beta": 0.31}
PARAMETERS = ("E", "alpha", "beta")
FARSEER = {
    **{"a1": -0.12, "b1": 0.4, "alpha": 0.12, "a2": 85.0, "b2": -6.0},
    **{"beta": -0.1, "a3": -0.025, "b3": -0.1, "gamma": 0.165},
}
DATA_SETS, SWEEPS = 100, 40  # for each row of a table
REACHES = (10.0, 100.0)  # times the largest budget
SETS_OF_A_SWEEP = 4  # validation sets, with one series each


@dataclass(frozen=True)
class Design:
    """The runs of a table, with one row for each run or for each checkpoint."""

    size: np.ndarray  # (n,) parameters
    tokens: np.ndarray
    budget: np.ndarray  # FLOPs of the whole run
    run: np.ndarray  # number of the run of each row


def isoflop(num_budgets: int, high: float = 1e21) -> Design:
    """Return runs of six sizes around the best one of each budget."""
    budget = np.repeat(np.geomspace(1e18, high, num_budgets), 6)
    size = np.sqrt(budget / 120) * np.tile(np.geomspace(0.3, 3.0, 6), num_budgets)
    return Design(size, budget / (6 * size), budget, np.arange(size.size))


def checkpoints() -> Design:
    """Return twelve runs of four sizes and three multiples of tokens, with a row for each of eight checkpoints."""
    size, multiple, share = (
        values.ravel()
        for values in np.meshgrid(
            np.geomspace(5e7, 2e9, 4),
            [10.0, 20.0, 60.0],
            np.geomspace(0.1, 1, 8),
            indexing="ij",
        )
    )
    tokens = size * multiple
    return Design(size, tokens * share, 6 * size * tokens, np.repeat(np.arange(12), 8))


def uneven_isoflop() -> Design:
    """Return 45 runs at seven budgets, with three to nine sizes of a budget that lie wider and less regularly."""
    generator = np.random.Generator(np.random.PCG64(5))
    counts = [4, 9, 3, 8, 6, 9, 6]
    budget = np.repeat(np.geomspace(6e17, 3e20, 7), counts)
    around = np.concatenate([np.geomspace(0.25, 4.0, count) for count in counts])
    size = np.sqrt(budget / 120) * around * np.exp(0.1 * generator.normal(size=budget.size))
    return Design(size, budget / (6 * size), budget, np.arange(size.size))


def gaussian(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 0.4% for each row."""
    return 0.004 * generator.normal(size=design.size.size)


def larger_at_small_budgets(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise that falls from 1.2% at the smallest budget to 0.15% at the largest."""
    share = np.log(design.budget / design.budget.min()) / np.log(design.budget.max() / design.budget.min())
    return 0.012 * (0.0015 / 0.012) ** share * generator.normal(size=share.size)


def shared_within_a_budget(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 0.4% that all runs of a budget share, and 0.2% for each run."""
    _, level = np.unique(design.budget, return_inverse=True)
    return 0.004 * generator.normal(size=level.max() + 1)[level] + 0.002 * generator.normal(size=level.size)


def both(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise that falls from 1.2% to 0.15%, of which the runs of a budget share half of the variance."""
    _, level = np.unique(design.budget, return_inverse=True)
    share = np.log(design.budget / design.budget.min()) / np.log(design.budget.max() / design.budget.min())
    errors = generator.normal(size=level.max() + 1)[level] + generator.normal(size=level.size)
    return 0.012 * (0.0015 / 0.012) ** share * np.sqrt(0.5) * errors


def little_shared(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 0.2% that all runs of a budget share, and 0.4% for each run."""
    _, level = np.unique(design.budget, return_inverse=True)
    return 0.002 * generator.normal(size=level.max() + 1)[level] + 0.004 * generator.normal(size=level.size)


def larger_in_the_middle(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 1.2% at the middle budget, and of 0.3% at all others."""
    _, level = np.unique(design.budget, return_inverse=True)
    return np.where(level == level.max() // 2, 0.012, 0.003) * generator.normal(size=level.size)


def heavy_tails(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of Student's t with 3 degrees of freedom times 0.3%."""
    return 0.003 * generator.standard_t(3, size=design.size.size)


def decaying_within_runs(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 0.4% that is autoregressive along a run, with a coefficient of 0.8."""
    noise = generator.normal(size=design.run.size)
    for k in range(1, noise.size):
        if design.run[k] == design.run[k - 1]:
            noise[k] = 0.8 * noise[k - 1] + 0.6 * noise[k]
    return 0.004 * noise


def of_runs(design: Design, generator: np.random.Generator) -> np.ndarray:
    """Draw log noise of 0.4% that all checkpoints of a run share, and 0.1% for each checkpoint."""
    by_run = 0.004 * generator.normal(size=design.run.max() + 1)[design.run]
    return by_run + 0.001 * generator.normal(size=design.run.size)


Noise = Callable[[Design, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class LawRow:
    """Data sets of one kind, and the options of their fits."""

    design: Design
    noise: Noise
    has_runs: bool = False  # the table has a column run_id
    cluster: str | None = None  # value of --run
    truth: dict[str, float] = field(default_factory=lambda: TRUTH)
    share: tuple[str, ...] = ()  # value of --share; a data set then has three corpora, which differ in E and noise
    common: float = 0.0  # log noise that all rows of a budget share in all corpora


LAW_ROWS = {
    **{f"gaussian, {n} runs": LawRow(isoflop(n // 6), gaussian) for n in (30, 60, 96)},
    "larger at small budgets, 30 runs": LawRow(isoflop(5), larger_at_small_budgets),
    **{f"shared in a budget, {n} runs": LawRow(isoflop(n // 6), shared_within_a_budget) for n in (30, 60, 96)},
    "12 runs x 8, no run_id": LawRow(checkpoints(), of_runs),
    "12 runs x 8, run_id": LawRow(checkpoints(), of_runs, has_runs=True),
    "12 runs x 8, --cluster run_id": LawRow(checkpoints(), of_runs, has_runs=True, cluster="run_id"),
    "12 runs x 8, no run_id, independent": LawRow(checkpoints(), gaussian),
    "12 runs x 8, no run_id, decaying": LawRow(checkpoints(), decaying_within_runs),
    **{
        f"uneven: {name}": LawRow(uneven_isoflop(), noise, truth=OTHER_TRUTH)
        for name, noise in {
            "gaussian": gaussian,
            "larger at small budgets": larger_at_small_budgets,
            "shared": shared_within_a_budget,
            "little shared": little_shared,
            "both": both,
            "larger in the middle": larger_in_the_middle,
            "t(3)": heavy_tails,
        }.items()
    },
    **{
        f"alpha, beta of three corpora: {name}": LawRow(isoflop(5), noise, share=("alpha", "beta"))
        for name, noise in {"gaussian": gaussian, "shared in a budget": shared_within_a_budget}.items()
    },
    "alpha, beta of three corpora: shared by all": LawRow(isoflop(5), gaussian, share=("alpha", "beta"), common=0.004),
}
CORPORA = {"a": (0.0, 1.0), "b": (0.3, 0.5), "c": (-0.5, 2.0)}  # name: (added to E, factor of the noise)


def table(options: argparse.Namespace) -> str:
    """Return the markdown table of `rough_statistics.py laws` or `forecasts`."""
    return _laws(options) if options.command == "laws" else _forecasts(options)


def _laws(options: argparse.Namespace) -> str:
    lines = [
        "| noise and design | n | E | alpha | beta | width | converged | by group | standard error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in _choose_rows(LAW_ROWS, options.rows):
        row = LAW_ROWS[name]
        num_sets = options.studies or DATA_SETS
        tables = [_table(row, options.seed, k) for k in range(num_sets)]
        if row.share:
            sharing = LawOptions(shared=row.share)
            each = [
                fit_laws(table, "chinchilla", {}, ["loss"], by=["corpus"], options=sharing).fits[0] for table in tables
            ]
        else:
            each = fit_laws(pd.concat(tables), "chinchilla", {}, ["loss"], by=["set"], cluster=row.cluster).fits
        fits = [fitted.fit for fitted in each]
        held = {p: [_holds(fit, p, row.truth) for fit in fits] for p in PARAMETERS}
        converged = np.mean([fit.status == "converged" for fit in fits])
        cells = [f"{100 * np.mean(held[p]):.0f}" for p in PARAMETERS]
        by_group = np.mean(["independent" not in fit.conventions[INTERVALS] for fit in fits])
        width = np.median([np.ptp(fit.intervals["E"]) for fit in fits])
        error = 100 * np.sqrt(0.9 * 0.1 / len(fits))
        cells += [f"{width:.3f}", f"{converged:.0%}", f"{by_group:.0%}", f"{error:.0f}"]
        lines.append(f"| {name} | {len(fits)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _table(row: LawRow, seed: int, k: int) -> pd.DataFrame:
    """Return data set `k` of a row."""
    generator, design = np.random.Generator(np.random.PCG64([seed, k])), row.design
    _, level = np.unique(design.budget, return_inverse=True)
    common = row.common * generator.normal(size=level.max() + 1)[level] if row.common else 0.0
    frames = []
    for corpus, (added, factor) in CORPORA.items() if row.share else [("a", (0.0, 1.0))]:
        truth = row.truth | {"E": row.truth["E"] + added}
        loss = LAWS["chinchilla"](truth, {"N": design.size, "D": design.tokens})
        loss = loss * np.exp(factor * row.noise(design, generator) + common)
        frames.append(pd.DataFrame({"set": k, "corpus": corpus, "N": design.size, "D": design.tokens, "loss": loss}))
        if row.has_runs:
            frames[-1]["run_id"] = [f"set {k}, run {run}" for run in design.run]
    return pd.concat(frames)


def _holds(fit: FitResult, parameter: str, truth: dict[str, float]) -> bool:
    low, high = fit.intervals[parameter]
    return low <= truth[parameter] <= high


def chinchilla_loss(size: np.ndarray, tokens: np.ndarray, _limit: float) -> np.ndarray:
    return LAWS["chinchilla"](TRUTH, {"N": size, "D": tokens})


def farseer_loss(size: np.ndarray, tokens: np.ndarray, _limit: float) -> np.ndarray:
    return LAWS["farseer"](FARSEER, {"N": size, "D": tokens})


def _bent_loss(size: np.ndarray, tokens: np.ndarray, limit: float, factor: float) -> np.ndarray:
    """Return the losses of a Chinchilla law whose exponents change beyond a budget of `limit` FLOPs.

    Beyond it the reducible loss falls with `factor` times the exponents.
    """
    shrink = np.minimum(1.0, np.sqrt(limit / (6 * size * tokens)))  # brings size and tokens back to the limit
    at_limit = TRUTH["A"] * (size * shrink) ** -TRUTH["alpha"], TRUTH["B"] * (tokens * shrink) ** -TRUTH["beta"]
    by_size, by_tokens = at_limit
    bent_by = (shrink ** (factor * TRUTH["alpha"]), shrink ** (factor * TRUTH["beta"]))
    return TRUTH["E"] + by_size * bent_by[0] + by_tokens * bent_by[1]


def steeper_loss(size: np.ndarray, tokens: np.ndarray, limit: float) -> np.ndarray:
    return _bent_loss(size, tokens, limit, 1.5)


def flatter_loss(size: np.ndarray, tokens: np.ndarray, limit: float) -> np.ndarray:
    return _bent_loss(size, tokens, limit, 0.5)


# Name of a row: (truth, noise). A truth that bends does so beyond the budgets of the table.
FORECAST_ROWS = {
    "chinchilla": (chinchilla_loss, gaussian),
    "heteroscedastic": (chinchilla_loss, larger_at_small_budgets),
    "farseer": (farseer_loss, gaussian),
    "steeper beyond": (steeper_loss, gaussian),
    "flatter beyond": (flatter_loss, gaussian),
}


def _forecasts(options: argparse.Namespace) -> str:
    header = "| truth | budgets | n | 10x | 100x | width 10x | width 100x | standard error |"
    lines = [header, "|---|---|---|---|---|---|---|---|"]
    for name in _choose_rows(FORECAST_ROWS, options.rows):
        for num_budgets in (5, 8):
            num_sweeps = options.studies or SWEEPS
            sweeps = [_sweep(name, num_budgets, options.seed, k) for k in range(num_sweeps)]
            held, width = (np.mean(values, axis=0) for values in zip(*sweeps, strict=True))
            error = 100 * np.sqrt(0.9 * 0.1 / num_sweeps)
            cells = " | ".join(f"{100 * share:.0f}" for share in held) + " | " + " | ".join(f"{w:.1%}" for w in width)
            lines.append(f"| {name} | {num_budgets} | {num_sweeps} | {cells} | {error:.0f} |")
    return "\n".join(lines)


def _sweep(name: str, num_budgets: int, seed: int, k: int) -> tuple[list[float], list[float]]:
    """Return the share of sets inside their interval and the mean relative width, both at each reach."""
    truth, noise = FORECAST_ROWS[name]
    generator = np.random.Generator(np.random.PCG64([seed, num_budgets, k]))
    design = isoflop(num_budgets, 1e20)
    limit = float(design.budget.max())
    rows = RunPoints(design.budget, {"total": design.size}, design.tokens)
    series, shift = [], 0.2 * np.arange(SETS_OF_A_SWEEP)
    for number, added in enumerate(shift):
        loss = (truth(design.size, design.tokens, limit) + added) * np.exp(noise(design, generator))
        series.append(LossSeries(f"set {number}", "size and tokens", f"set {number}", rows, loss))
    forecast = forecast_series(series)
    held, widths = [], []
    for reach in REACHES:
        hits, relative_widths = [], []
        for number, added in enumerate(shift):
            budget = reach * design.budget.max()
            size = float(np.sqrt(budget / 120))
            tokens = budget / (6 * size)
            target = rows_of_target(forecast, f"set {number}", params=(size,), tokens=tokens)
            (prediction,) = forecast.predict(f"set {number}", target)
            true_loss = float(truth(np.array([size]), np.array([tokens]), limit)[0]) + added
            hits.append(prediction.lower <= true_loss <= prediction.upper)
            relative_widths.append((prediction.upper - prediction.lower) / true_loss)
        held.append(float(np.mean(hits)))
        widths.append(float(np.mean(relative_widths)))
    return held, widths


def _choose_rows(rows: dict, names: list[str] | None) -> list[str]:
    for name in names or []:
        if name not in rows:
            raise LosslineError(f"--rows: {name!r} is not one of {', '.join(rows)}")
    return list(names or rows)
