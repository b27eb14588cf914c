"""Measure how often nominal 90% intervals hold the truth, on data drawn from the law that is fitted."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES, LOG_LEAST_SQUARES, Law, Objective
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.formatting import text_table

LEVEL = 0.9
NUM_STARTS = 12


@dataclass(frozen=True)
class Planted:
    """A law with the parameters and inputs that make the data, and the places where its curve is checked.

    Noise is normal, and is added to log y where the objective is logarithmic. Each point has its own noise. Each run
    has another noise, which its points share, where data are drawn by run.
    """

    law: Law
    objective: Objective
    parameters: dict[str, float]
    inputs: dict[str, np.ndarray]  # (n,)
    runs: np.ndarray  # (n,) the run of each point
    at: dict[str, np.ndarray]  # (m,) inputs where the curve is checked
    at_names: tuple[str, ...]
    noise: float  # standard deviation of a point; of log y where the objective is logarithmic
    noise_of_run: float  # standard deviation of a run; of log y where the objective is logarithmic

    def draw(self, generator: np.random.Generator, by_run: bool) -> np.ndarray:
        """Return y (n,). Points are independent unless `by_run`."""
        y = self.law(self.parameters, self.inputs)
        noise = self.noise * generator.normal(size=y.size)
        if by_run:
            noise += self.noise_of_run * generator.normal(size=self.runs.max() + 1)[self.runs]
        return y * np.exp(noise) if self.objective.logarithmic else y + noise


def _chinchilla() -> Planted:
    """Plant 24 runs of 8 sizes, with 6 checkpoints each."""
    size, multiple, share = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(3e7, 3e9, 8), [5.0, 20.0, 80.0], np.linspace(0.25, 1, 6), indexing="ij")
    )
    return Planted(
        CHINCHILLA,
        LOG_LEAST_SQUARES,
        {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37},
        {"N": size, "D": size * multiple * share},
        np.repeat(np.arange(24), 6),
        {"N": np.array([1e8, 1e9, 1e10]), "D": np.array([2e9, 2e10, 2e11])},
        ("L at 1e8, 2e9", "L at 1e9, 2e10", "L at 1e10, 2e11"),
        noise=0.004,
        noise_of_run=0.004,
    )


def _shifted_power() -> Planted:
    """Plant 16 runs of 8 checkpoints. Larger runs reach lower losses."""
    end, share = (
        values.ravel() for values in np.meshgrid(np.linspace(3.4, 2.4, 16), np.linspace(1, 0, 8), indexing="ij")
    )
    return Planted(
        SHIFTED_POWER,
        LEAST_SQUARES,
        {"K": 0.9, "kappa": 1.3, "E_x": 1.6, "E_y": 1.2},
        {"x": end + share * 1.2},
        np.repeat(np.arange(16), 8),
        {"x": np.array([2.2, 2.8, 4.2])},
        ("y at 2.2", "y at 2.8", "y at 4.2"),
        noise=0.005,
        noise_of_run=0.005,
    )


def coverage_tables(options: argparse.Namespace) -> str:
    """Return one table for each law.

    A row is a kind of data and a method. A column is a parameter or a place on the curve.
    """
    tables = []
    for planted in (_chinchilla(), _shifted_power()):
        columns = (*planted.law.names, *planted.at_names)
        rows = [
            ("independent points", *_profiles(planted, options, columns, by_run=False)),
            ("independent points", *_bootstraps(planted, options, columns, by_run=False)),
            ("runs differ", *_profiles(planted, options, columns, by_run=True)),
            ("runs differ", *_bootstraps(planted, options, columns, by_run=True)),
        ]
        header = (f"{planted.law.name}, {options.data_sets} data sets", "nominal 90% interval", *columns)
        tables.append(text_table(header, rows))
    return "\n\n".join(tables)


def _data(planted: Planted, options: argparse.Namespace, by_run: bool) -> list[DataSet]:
    generator = np.random.Generator(np.random.PCG64(int(by_run)))
    return [DataSet(planted.inputs, planted.draw(generator, by_run)) for _ in range(options.data_sets)]


def _profiles(planted: Planted, options, columns, by_run: bool) -> tuple[str | None, ...]:
    data = _data(planted, options, by_run)
    fits = fit_law_many(planted.law, data, objective=planted.objective, num_starts=NUM_STARTS, level=LEVEL)
    return "profile", *_shares([_hold_truth(fit.intervals, planted.parameters) for fit in fits], columns)


def _bootstraps(planted: Planted, options, columns, by_run: bool) -> tuple[str | None, ...]:
    """Return the row of the bootstrap, which draws runs where runs differ and points otherwise."""
    data = _data(planted, options, by_run)
    fits = fit_law_many(planted.law, data, objective=planted.objective, num_starts=NUM_STARTS)
    truth = dict(zip(planted.at_names, planted.law(planted.parameters, planted.at), strict=True)) | planted.parameters
    held_sets = []
    for seed, (points, fit) in enumerate(zip(data, fits, strict=True)):
        clusters = planted.runs if by_run else None
        samples = bootstrap(
            fit, points.inputs, points.y, clusters=clusters, num_resamples=options.resamples, seed=seed, law=planted.law
        )
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        ends = np.nanquantile(samples.curves(planted.at), tails, axis=0)
        intervals = dict(zip(planted.at_names, ends.T, strict=True))
        intervals |= {name: samples.interval(name, LEVEL) for name in planted.law.names}
        held_sets.append(_hold_truth(intervals, truth))
    return "bootstrap by run" if by_run else "bootstrap by point", *_shares(held_sets, columns)


def _hold_truth(intervals: Mapping, truth: Mapping[str, float]) -> dict[str, bool]:
    return {name: bool(low <= truth[name] <= high) for name, (low, high) in intervals.items()}


def _shares(held_sets: list[dict[str, bool]], columns) -> list[str | None]:
    """Return the % of data sets whose interval holds the truth, by column. None: there is no such interval."""
    return [
        f"{100 * np.mean([held[name] for held in held_sets]):.1f}" if name in held_sets[0] else None for name in columns
    ]
