"""Bootstrap of a fit: whole runs are drawn again, because checkpoints of a run are not independent."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.fit.arguments import clean_arrays, require_count, run_labels
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.solver.levenberg_marquardt import minimise
from lossline_jax.fit.solver.problem import Problem, build_problem

BY_RUN = "bootstrap by run"
BY_POINT = "bootstrap by point"
BY_BLOCK = "moving-block bootstrap of residuals"
FEW_CLUSTERS = 5


@dataclass(frozen=True)
class Band:
    """A curve with a pointwise interval on a grid of its input."""

    x: tuple[float, ...]
    estimate: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    level: float
    method: str

    def __iter__(self) -> Iterator[np.ndarray]:
        """The two ends alone: `low, high = resamples.band(x)`."""
        return iter((np.asarray(self.lower), np.asarray(self.upper)))


@dataclass(frozen=True)
class Bootstrap:
    """Refitted parameters (R,) by name, one value a resample, and how the resamples were drawn."""

    fit: FitResult
    law: Law
    samples: dict[str, np.ndarray]
    method: str
    num_clusters: int
    seed: int
    note: str

    @property
    def num_resamples(self) -> int:
        """Those that could be fitted."""
        return next(iter(self.samples.values())).size

    def interval(self, name: str, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
        """Return the interval of a parameter.

        Raises:
            LosslineError: the parameter was not fitted, or its name is another.
        """
        if name not in self.samples:
            known = ", ".join(self.samples)
            raise LosslineError(f"{name!r} was not resampled{suggestion(name, self.samples)}; there are {known}")
        low, high = np.quantile(self.samples[name], self.quantiles(level))
        return float(low), float(high)

    def quantiles(self, level: float) -> tuple[float, float]:
        """Of the resamples, for an interval of this level: expanded percentiles (Hesterberg 2015, section 4.1).

        Percentiles of few clusters are too narrow: drawing n of n loses a factor n / (n - 1) of the variance, and
        treats as normal what is Student's t.
        """
        tail = (1 + level) / 2
        if self.num_clusters < 2:
            return 1 - tail, tail
        n = self.num_clusters
        wider = scipy.special.ndtr(np.sqrt(n / (n - 1)) * scipy.special.stdtrit(n - 1, tail))
        return float(1 - wider), float(wider)

    def curves(self, inputs: Any) -> np.ndarray:
        """(R, n) refitted curves at numbers or arrays by name; NaN where a refitted law has no value."""
        values = {name: np.atleast_1d(value) for name, value in self.law.named(inputs).items()}
        columns = {name: sample[:, None] for name, sample in self.samples.items()}
        return self.law(columns, values)

    def band(self, x: Any, level: float = INTERVAL_LEVEL) -> Band:
        """Pointwise band of the curve of a law with one input, whose values stand alone or under its name.

        Raises:
            LosslineError: the law has several inputs, or the fit has no value at some x.
        """
        if len(self.law.inputs) != 1:
            raise LosslineError(f"{self.law.name}: a band needs a law of one input, this has {list(self.law.inputs)}")
        (name,) = self.law.inputs
        inputs = {name: np.atleast_1d(self.law.named(x)[name])}
        estimate = self.fit.predict(law=self.law, **inputs)
        low, high = np.nanquantile(self.curves(inputs), self.quantiles(level), axis=0)
        columns = (inputs[name], estimate, low, high)
        return Band(*(tuple(column.tolist()) for column in columns), level=level, method=self.method)


def has_checkpoints(fit: FitResult) -> bool:
    """True where the points of the fit were told their runs, and some run has several."""
    return fit.num_runs is not None and fit.num_runs < fit.num_points


def with_run_intervals(fit: FitResult, resamples: Bootstrap, level: float) -> FitResult:
    """The same fit with the intervals of `resamples`; without any where these are of one run."""
    if resamples.num_clusters < 2:
        return dataclasses.replace(fit, intervals={}, conventions=fit.conventions | {INTERVALS: "none: one run only"})
    intervals = {name: resamples.interval(name, level) for name in fit.intervals}
    convention = f"{level:.0%}, bootstrap of {resamples.num_clusters} whole runs"
    return dataclasses.replace(fit, intervals=intervals, conventions=fit.conventions | {INTERVALS: convention})


def bootstrap(
    fit: FitResult,
    inputs: Mapping[str, Any],
    y: Any,
    *,
    clusters: Sequence | None = None,
    weights: Any = None,
    num_resamples: int = 200,
    seed: int = 0,
    law: Law | None = None,
) -> Bootstrap:
    """Refit on resamples, each descent beginning at the estimate.

    With clusters, whole clusters are drawn with replacement; without, single points. With one cluster there
    is nothing to draw: blocks of neighbouring residuals are put back on the curve instead, which says how
    well this one run fixes the curve and nothing about another run; `note` says so.

    Args:
        inputs, y, clusters, weights: what was fitted, (n,) each, in any order; blocks follow the first input.

    Raises:
        LosslineError: the fit has no curve.
    """
    law = find_law(fit.law, law)
    if not fit.has_curve:
        raise LosslineError(f"{fit.law}: nothing to resample, the fit is {fit.status!r} ({fit.note})")
    require_count("num_resamples", num_resamples)
    data, keep = clean_arrays(law, inputs, y, fit.fixed)
    if fit.minimised is None:
        raise LosslineError(f"{fit.law}: the fit was read from an older file, which lacks its objective; fit again")
    weights = None if weights is None else np.asarray(weights, float)[keep]
    y = data.pop(law.output)
    problem = build_problem(law, data, y, fit.minimised, fit.fixed, weights)
    generator = np.random.Generator(np.random.PCG64(seed))
    u = problem.search(fit.parameters)
    start = np.repeat(u[None], num_resamples, axis=0)
    labels = np.arange(keep.size) if clusters is None else run_labels(clusters, keep.size)
    codes = np.unique(labels[keep], return_inverse=True)[1]
    num_clusters = int(codes.max()) + 1
    if num_clusters > 1:
        counts = cluster_counts(generator, num_clusters, num_resamples)
        minima = minimise(problem, start, weights_Bn=counts[:, codes], max_iterations=100)
        method = BY_POINT if clusters is None else BY_RUN
    else:
        y_Bn = _block_resamples(problem, u, generator, num_resamples)
        minima = minimise(problem, start, y_Bn=y_Bn, max_iterations=100)
        method = BY_BLOCK
    usable = np.isfinite(minima.objective_B)
    natural = [problem.natural(row) for row in minima.u_BP[usable]]
    notes = [_note(method, num_clusters)]
    if lost := int((~usable).sum()):
        notes.append(f"{lost} of {num_resamples} resamples could not be fitted and are left out")
    return Bootstrap(
        fit=fit,
        law=law,
        samples={name: np.array([row[name] for row in natural]) for name in law.names},
        method=method,
        num_clusters=num_clusters,
        seed=seed,
        note="; ".join(note for note in notes if note),
    )


def derive_seed(seed: int, *names: str) -> int:
    """Return a generator seed of its own for each sequence of names, the same whatever other names there are."""
    return seed * 2**32 + zlib.crc32(" ".join(names).encode("utf-8"))


def cluster_counts(generator: np.random.Generator, num_clusters: int, num_resamples: int) -> np.ndarray:
    """(R, clusters) how often each cluster is drawn."""
    return generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples).astype(float)


def block_indices(generator: np.random.Generator, num_points: int, num_resamples: int) -> np.ndarray:
    """(R, n) indices of moving blocks of length n^(1/3), wrapping round."""
    length = max(2, round(num_points ** (1 / 3)))
    num_blocks = -(-num_points // length)
    first = generator.integers(0, num_points, (num_resamples, num_blocks))
    indices = (first[:, :, None] + np.arange(length)) % num_points
    return indices.reshape(num_resamples, -1)[:, :num_points]


def _block_resamples(problem: Problem, u_P: np.ndarray, generator, num_resamples: int) -> np.ndarray:
    """(R, n) outputs: the curve plus blocks of its residuals, widened for the parameters already fitted."""
    order = np.argsort(problem.inputs[next(iter(problem.law.inputs))], kind="stable")
    residuals = problem.residuals(u_P[None])[0][order]
    freedom = max(problem.num_points - problem.num_free, 1)
    residuals = (residuals - residuals.mean()) * np.sqrt(problem.num_points / freedom)
    drawn = np.empty((num_resamples, problem.num_points))
    drawn[:, order] = residuals[block_indices(generator, problem.num_points, num_resamples)]
    curve = problem.curve(u_P[None])
    if not problem.objective.logarithmic:
        return curve + drawn
    offset = problem.values(u_P[None])[problem.objective.offset] if problem.objective.offset else 0.0
    return (curve - offset) * np.exp(drawn) + offset


def _note(method: str, num_clusters: int) -> str:
    if method == BY_BLOCK:
        return "one run only: the interval says nothing about how another run would differ"
    if method == BY_RUN and num_clusters < FEW_CLUSTERS:
        return f"{num_clusters} runs only: the interval is rough"
    return ""
