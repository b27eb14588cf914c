"""Bootstrap a fit: whole runs are drawn with replacement, because the checkpoints of one run are not independent."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.special

from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.fit.arguments import clean_arrays, require_count, require_seed, run_labels
from lossline_jax.fit.curves.noise_in_x import corrected_samples
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.solver.batching import FitTask
from lossline_jax.fit.solver.condensed import condensed_by_cluster
from lossline_jax.fit.solver.levenberg_marquardt import Minima, minimise_all
from lossline_jax.fit.solver.problem import Problem, build_problem

BY_RUN = "bootstrap by run"
BY_POINT = "bootstrap by point"
BY_BLOCK = "moving-block bootstrap of residuals"
BY_POINT_BLOCK = "moving-block bootstrap of points"
SLOPE_STEP = 0.005  # of the fitted range: half the distance over which a slope is taken
MOST_STEPS = 100  # of one descent, which starts at the estimate. A choice
FEW_CLUSTERS = 5  # runs; an interval from fewer runs is called rough. A choice.


@dataclass(frozen=True)
class Band:
    """A fitted curve that has a pointwise interval on a grid of its input."""

    x: tuple[float, ...]
    estimate: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    level: float
    method: str

    def __repr__(self) -> str:
        reach = f"from {min(self.x):.4g} to {max(self.x):.4g}" if self.x else "empty"
        return f"<Band at {len(self.x)} points, {reach}: {self.level:.0%}, {self.method}>"

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the two ends of the interval: `low, high = resamples.band(x)`."""
        return iter((np.asarray(self.lower), np.asarray(self.upper)))


@dataclass(frozen=True)
class MiddleOfLine:
    """The height and the slope of a line in the middle of its range.

    Points determine both even where they do not determine single parameters, such as E_x on a short range.
    """

    x: float
    height: float  # y at x
    height_interval: tuple[float, float]
    slope: float  # dy / dx at x
    slope_interval: tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """The parameters that were refitted on R resamples, and the method that drew the resamples."""

    fit: FitResult
    law: Law
    samples: dict[str, np.ndarray]  # (R,) by parameter name, one value for each resample
    method: str
    num_clusters: int
    seed: int
    note: str

    def __repr__(self) -> str:
        return f"<Bootstrap of {self.fit!r}: {self.num_resamples} resamples, {self.method}>"

    @property
    def num_resamples(self) -> int:
        """The number R of resamples that could be fitted."""
        return next(iter(self.samples.values())).size

    def interval(self, name: str, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
        """Return the interval of a parameter.

        Args:
            name: the name of the parameter.
            level: the share of the resamples that the interval is meant to hold, between 0 and 1.

        Raises:
            LosslineError: no parameter of that name was fitted.
        """
        if name not in self.samples:
            known = ", ".join(self.samples)
            raise LosslineError(
                f"{name!r} was not resampled{suggestion(name, self.samples)}; the parameters are {known}"
            )
        low, high = np.quantile(self.samples[name], self.quantiles(level))
        return float(low), float(high)

    def quantiles(self, level: float) -> tuple[float, float]:
        """Return the two quantiles of the resamples that bound an interval of this level.

        They are the expanded percentiles of Hesterberg 2015, section 4.1. Plain percentiles of few clusters are too
        narrow for two reasons. Drawing n of n clusters loses a factor n / (n - 1) of the variance. And the percentiles
        treat Student's t as a normal distribution.

        Args:
            level: the level of the interval, between 0 and 1.
        """
        tail = (1 + level) / 2
        if self.num_clusters < 2:
            return 1 - tail, tail
        n = self.num_clusters
        wider = scipy.special.ndtr(np.sqrt(n / (n - 1)) * scipy.special.stdtrit(n - 1, tail))
        return float(1 - wider), float(wider)

    def curves(self, inputs: Any) -> np.ndarray:
        """Return the (R, n) refitted curves at n inputs. An entry is NaN where the refitted law has no value.

        Args:
            inputs: numbers or (n,) arrays by input name, or the values of the only input.
        """
        values = {name: np.atleast_1d(value) for name, value in self.law.named(inputs).items()}
        columns = {name: sample[:, None] for name, sample in self.samples.items()}
        return self.law(columns, values)

    def band(self, x: Any, level: float = INTERVAL_LEVEL) -> Band:
        """Return the pointwise band of the curve of a law with one input.

        Args:
            x: the values of the input, alone or in a mapping under the name of the input.
            level: the level of the interval at each x, between 0 and 1.

        Raises:
            LosslineError: the law has several inputs, or the fit has no value at some x.
        """
        if len(self.law.inputs) != 1:
            raise LosslineError(f"{self.law.name}: a band needs a law of one input, this has {list(self.law.inputs)}")
        (name,) = self.law.inputs
        inputs = {name: np.atleast_1d(self.law.named(x)[name])}
        estimate = self.fit.predict(law=self.law, **inputs)
        low, high = np.nanquantile(self.curves(inputs), self.quantiles(level), axis=0)
        return Band(
            x=tuple(inputs[name].tolist()),
            estimate=tuple(estimate.tolist()),
            lower=tuple(low.tolist()),
            upper=tuple(high.tolist()),
            level=level,
            method=self.method,
        )

    def middle(self, level: float = INTERVAL_LEVEL) -> MiddleOfLine:
        """Return the height and the slope in the middle of the fitted range, for a law of one input.

        Args:
            level: the level of the intervals, between 0 and 1.
        """
        (name,) = self.law.inputs
        low, high = self.fit.domain[name]
        x, step = (low + high) / 2, SLOPE_STEP * (high - low)
        inputs = {name: np.array([x - step, x, x + step])}
        estimate = self.fit.predict(law=self.law, **inputs)
        curves = self.curves(inputs)

        def ends(values: np.ndarray) -> tuple[float, float]:
            lower, upper = np.nanquantile(values, self.quantiles(level))
            return float(lower), float(upper)

        return MiddleOfLine(
            x=x,
            height=float(estimate[1]),
            height_interval=ends(curves[:, 1]),
            slope=float((estimate[2] - estimate[0]) / (2 * step)),
            slope_interval=ends((curves[:, 2] - curves[:, 0]) / (2 * step)),
        )


def has_checkpoints(fit: FitResult) -> bool:
    """Tell whether the runs of the fitted points are known and some run has several points."""
    return fit.num_runs is not None and fit.num_runs < fit.num_points


def with_run_intervals(fit: FitResult, resamples: Bootstrap, level: float) -> FitResult:
    """Return the fit with the intervals of the resamples, or without intervals if all points come from one run.

    Args:
        fit: the fit whose intervals are replaced.
        resamples: the bootstrap of this fit.
        level: the level of the intervals, between 0 and 1.
    """
    if resamples.num_clusters < 2:
        return dataclasses.replace(fit, intervals={}, conventions=fit.conventions | {INTERVALS: "none: one run only"})
    names = fit.intervals if fit.noise_x is None else fit.parameters
    intervals = {name: resamples.interval(name, level) for name in names}
    convention = f"{level:.0%}, bootstrap of {resamples.num_clusters} whole runs"
    return dataclasses.replace(fit, intervals=intervals, conventions=fit.conventions | {INTERVALS: convention})


@dataclass(frozen=True, eq=False)
class FitToResample:
    """A fit with the points that it was made on.

    Args:
        fit: the fit to resample.
        inputs: (n,) arrays by input name, as they were fitted, in any order. Blocks follow the first input.
        y: (n,) outputs in the order of the inputs.
        clusters: (n,) the label of the run of each point. None: single points are drawn.
        weights: (n,) the weight of each point. None: all weights are 1.
        seed: the seed of the generator.
    """

    fit: FitResult
    inputs: Mapping[str, Any]
    y: Any
    clusters: Sequence | np.ndarray | None = None
    weights: Any = None
    seed: int = 0


def bootstrap(
    fit: FitResult,
    inputs: Mapping[str, Any],
    y: Any,
    *,
    clusters: Sequence | np.ndarray | None = None,
    weights: Any = None,
    num_resamples: int = 200,
    seed: int = 0,
    law: Law | None = None,
) -> Bootstrap:
    """Refit a law on resamples. Each descent starts at the estimate of `fit`.

    With clusters, whole clusters are drawn with replacement. Without clusters, single points are drawn. One cluster
    alone cannot be drawn from: then blocks of neighbouring residuals are added to the curve. Such an interval tells how
    well this one run determines the curve. It tells nothing about another run, and `note` says so.

    Args:
        fit: the fit to resample.
        inputs: (n,) arrays by input name, as they were fitted, in any order. Blocks follow the first input.
        y: (n,) outputs in the order of the inputs.
        clusters: (n,) the label of the run of each point. None: single points are drawn.
        weights: (n,) the weight of each point. None: all weights are 1.
        num_resamples: the number of resamples.
        seed: the seed of the generator.
        law: the law of the fit, needed if it is not in `laws.LAWS`. None: the declared law of that name.

    Raises:
        LosslineError: the fit has no curve.
    """
    item = FitToResample(fit, inputs, y, clusters, weights, seed)
    return bootstrap_each([item], num_resamples=num_resamples, law=law)[0]


def bootstrap_each(
    fits: Sequence[FitToResample], *, num_resamples: int = 200, law: Law | None = None
) -> list[Bootstrap]:
    """Resample many fits at once. Each result is that of `bootstrap`, and all together take less time.

    Args:
        fits: the fits with their points. All have one law and one objective.
        num_resamples: the number of resamples of each fit.
        law: as for `bootstrap`.

    Raises:
        LosslineError: a fit has no curve.
    """
    require_count("num_resamples", num_resamples)
    for item in fits:
        require_seed(item.seed)
    drawn = [_draw_resamples(item, find_law(item.fit.law, law), num_resamples) for item in fits]
    waiting = [item for item in drawn if isinstance(item, _Drawn)]
    minima = iter(minimise_all([item.task for item in waiting], max_iterations=MOST_STEPS))
    return [item.refitted(next(minima)) if isinstance(item, _Drawn) else item for item in drawn]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The resamples of one fit that wait to be refitted."""

    fit: FitResult
    law: Law
    task: FitTask
    method: str
    num_clusters: int
    seed: int

    def refitted(self, minima: Minima) -> Bootstrap:
        """Return the bootstrap of the parameters at which the resamples ended."""
        # The task may hold a condensed problem, which has the scales of the whole one.
        natural = [self.task.problem.natural(row) for row in minima.u_BP[np.isfinite(minima.objective_B)]]
        samples = {name: np.array([row[name] for row in natural]) for name in self.law.names}
        num_resamples = minima.objective_B.size
        note = _note(self.method, self.num_clusters, num_resamples - len(natural), num_resamples)
        return Bootstrap(self.fit, self.law, samples, self.method, self.num_clusters, self.seed, note)


def _draw_resamples(item: FitToResample, law: Law, num_resamples: int) -> _Drawn | Bootstrap:
    """Draw the resamples of one fit. A line that is corrected for noise in x is refitted here, in its own way."""
    fit = item.fit
    if not fit.has_curve:
        raise LosslineError(f"{fit.law}: nothing to resample, the fit is {fit.status!r} ({fit.note})")
    data, keep = clean_arrays(law, item.inputs, item.y, fit.fixed)
    if fit.minimised is None:
        raise LosslineError(f"{fit.law}: the fit was read from an older file without its objective; fit again")
    weights = None if item.weights is None else np.asarray(item.weights, float)[keep]
    y = data.pop(law.output)
    problem = build_problem(law, data, y, fit.minimised, fixed=fit.fixed, weights=weights)
    generator = np.random.Generator(np.random.PCG64(item.seed))
    u = problem.search(fit.parameters)
    start = np.repeat(u[None], num_resamples, axis=0)
    labels = run_labels(item.clusters, keep.size)
    if labels is None:
        labels = np.arange(keep.size)
    codes = pd.factorize(labels[keep], sort=True)[0]
    num_clusters = int(codes.max()) + 1
    if fit.noise_x is not None:
        return _of_corrected(
            fit, law, data["x"], y, generator=generator, codes=codes, num_resamples=num_resamples, seed=item.seed
        )
    if num_clusters > 1:
        counts = cluster_counts(generator, num_clusters, num_resamples)
        small, codes = condensed_by_cluster(problem, codes, u)
        task = FitTask(small, start, weights_Bn=counts, cluster_n=codes)
        method = BY_POINT if item.clusters is None else BY_RUN
    else:
        task = FitTask(problem, start, y_Bn=_block_resamples(problem, u, generator, num_resamples))
        method = BY_BLOCK
    return _Drawn(fit, law, task, method, num_clusters, item.seed)


def _of_corrected(
    fit: FitResult,
    law: Law,
    x: np.ndarray,
    y: np.ndarray,
    *,
    generator: np.random.Generator,
    codes: np.ndarray,
    num_resamples: int,
    seed: int,
) -> Bootstrap:
    """Refit a line that is corrected for noise in x. One run is resampled in blocks of neighbouring points.

    Blocks of residuals would not do: the residuals of such a line have the noise of x in them.
    """
    num_clusters = int(codes.max()) + 1
    if num_clusters > 1:
        counts = cluster_counts(generator, num_clusters, num_resamples)[:, codes]
        method = BY_POINT if num_clusters == codes.size else BY_RUN
    else:
        drawn = np.argsort(x, kind="stable")[block_indices(generator, x.size, num_resamples)]
        counts = np.array([np.bincount(row, minlength=x.size) for row in drawn], float)
        method = BY_POINT_BLOCK
    refitted = corrected_samples(fit.parameters, x, y, counts, noise_x=fit.noise_x or 0.0)
    usable = np.all(np.isfinite(list(refitted.values())), axis=0)
    samples = {name: values[usable] for name, values in refitted.items()}
    note = _note(method, num_clusters, int((~usable).sum()), num_resamples)
    return Bootstrap(fit, law, samples, method, num_clusters, seed, note)


def derive_seed(seed: int, *names: str) -> int:
    """Return a generator seed for a sequence of names. It does not depend on which other names are in use.

    Args:
        seed: the seed of the study.
        names: the names that identify one use of random numbers.
    """
    return seed * 2**32 + zlib.crc32(" ".join(names).encode("utf-8"))


def cluster_counts(generator: np.random.Generator, num_clusters: int, num_resamples: int) -> np.ndarray:
    """Draw clusters with replacement, and return (R, clusters) the number of times that each cluster is drawn.

    Args:
        generator: the generator of random numbers.
        num_clusters: the number of clusters, which is also the number of draws.
        num_resamples: the number R of resamples.
    """
    counts = generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), num_resamples)
    return counts.astype(np.float32)  # exact for counts, and half the memory


def block_indices(generator: np.random.Generator, num_points: int, num_resamples: int) -> np.ndarray:
    """Draw moving blocks of length n^(1/3), at least 2, and return (R, n) indices of points. Blocks wrap at the end.

    Args:
        generator: the generator of random numbers.
        num_points: the number of points n.
        num_resamples: the number R of resamples.
    """
    length = max(2, round(num_points ** (1 / 3)))
    num_blocks = -(-num_points // length)
    first = generator.integers(0, num_points, (num_resamples, num_blocks))
    indices = (first[:, :, None] + np.arange(length)) % num_points
    return indices.reshape(num_resamples, -1)[:, :num_points]


def _block_resamples(
    problem: Problem, u_P: np.ndarray, generator: np.random.Generator, num_resamples: int
) -> np.ndarray:
    """Return (R, n) outputs: the curve plus blocks of its residuals.

    The residuals are widened by sqrt(n / (n - P)), because the fit has already used P free parameters.
    """
    order = np.argsort(problem.inputs[next(iter(problem.law.inputs))], kind="stable")
    residuals = problem.residuals(u_P[None])[0][order]
    degrees_of_freedom = max(problem.num_points - problem.num_free, 1)
    residuals = (residuals - residuals.mean()) * np.sqrt(problem.num_points / degrees_of_freedom)
    drawn = np.empty((num_resamples, problem.num_points))
    drawn[:, order] = residuals[block_indices(generator, problem.num_points, num_resamples)]
    curve = problem.curve(u_P[None])
    if not problem.objective.logarithmic:
        return curve + drawn
    offset = problem.values(u_P[None])[problem.objective.offset] if problem.objective.offset else 0.0
    return (curve - offset) * np.exp(drawn) + offset


def _note(method: str, num_clusters: int, num_failed: int, num_resamples: int) -> str:
    """Return what a reader must know about the resamples, separated by semicolons."""
    notes = []
    if method in (BY_BLOCK, BY_POINT_BLOCK):
        notes.append("one run only: the interval says nothing about how another run would differ")
    elif method == BY_RUN and num_clusters < FEW_CLUSTERS:
        notes.append(f"{num_clusters} runs only: the interval is rough")
    if num_failed:
        notes.append(f"{num_failed} of {num_resamples} resamples could not be fitted and are left out")
    return "; ".join(notes)
