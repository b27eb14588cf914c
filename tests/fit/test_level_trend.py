"""Trends over numeric levels, against ordinary regression on runs and against planted studies."""

import dataclasses

import numpy as np
import pytest

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.gap_design import GapDesign, fit_gaps
from lossline_jax.fit.compare.level_trend import cautious_trend, judge_trend, measure_trend
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.tables.level_numbers import level_numbers
from tests.support.planted_lines import FLOOR, cell

NOISE = Noise(0.01, 20, "seeds", np.zeros(0))
RATES = ("1e-3", "5e-4", "2e-3", "4e-3", "8e-3")


@pytest.mark.parametrize(
    ("factor", "levels", "numbers", "unit"),
    [
        ("lr", ("1e-3", "3e-4", ".01"), (1e-3, 3e-4, 1e-2), ""),
        ("lr", ("lr=1e-3", "LR: 3e-4", "lr_0.01"), (1e-3, 3e-4, 1e-2), ""),
        ("sparsity", ("0%", "50%", "75%"), (0, 50, 75), "%"),
        ("depth", ("16 layers", "8 layers"), (16, 8), "layers"),
        ("unique", ("500M", "2b", "1T"), (5e8, 2e9, 1e12), ""),
        ("context", ("1k", "512", "2k"), (1000, 512, 2000), ""),
        ("shift", ("-1", "0", "1"), (-1, 0, 1), ""),
    ],
)
def test_levels_that_are_numbers(factor, levels, numbers, unit):
    assert level_numbers(factor, levels) == (dict(zip(levels, numbers, strict=True)), unit)


@pytest.mark.parametrize(
    "levels",
    [
        ("v1", "v2", "v3"),  # names
        ("gpt2", "gpt3"),
        ("2024-01", "2024-02"),  # dates
        ("10 layers", "10%"),  # two units
        ("16ms", "1s"),
        ("1", "1.0"),  # one number twice
        ("1,000", "2,000"),
        ("wiki", "1"),
        ("nan", "1"),
        ("1e999", "1"),
    ],
)
def test_levels_that_are_names(levels):
    assert level_numbers("data", levels) is None


def design_of(runs, groups) -> GapDesign:
    """Return the gaps of groups {level: (n,) distances of runs}, whose first level is the reference."""
    levels, references, gaps, blocks = [], [], [], []
    for number, group in enumerate(groups):
        (_, base), *others = group.items()
        for level, distances in others:
            levels.append(level)
            references.append({"lr": runs, "data": str(number)})
            gaps.append(distances.mean() - base.mean())
        blocks.append(np.diag([1 / d.size for _, d in others]) + 1 / base.size)
    covariance = np.zeros((len(gaps), len(gaps)))
    start = 0
    for block in blocks:
        covariance[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return GapDesign(tuple(levels), tuple(references), np.array(gaps), covariance)


@pytest.mark.parametrize("sizes", [[(3, 2, 4)], [(3, 2, 4), (1, 5, 2)]])
def test_the_slope_is_that_of_ordinary_regression_on_runs(sizes):
    """A contrast to the reference removes one intercept a group, so both regressions are the same estimator."""
    generator = np.random.Generator(np.random.PCG64(1))
    names, positions = ("1", "2", "8"), (0.0, 1.0, 3.0)
    groups = [{name: generator.normal(size=n) for name, n in zip(names, size, strict=True)} for size in sizes]
    rows = [
        (number, position, distance)
        for number, group in enumerate(groups)
        for distances, position in zip(group.values(), positions, strict=True)
        for distance in distances
    ]
    design = np.array([[position, *(float(own == k) for k in range(len(groups)))] for own, position, _ in rows])
    outcome = np.array([distance for *_, distance in rows])
    coefficients, squares, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    variance = np.linalg.inv(design.T @ design)[0, 0]

    trend = measure_trend("lr", "1", design_of("1", groups), NOISE)
    assert trend.per == "doubling"
    assert trend.slope == pytest.approx(coefficients[0])
    half = 1.7247182 * 0.01 * np.sqrt(variance)  # the 95% point of Student's t with 20 degrees of freedom
    assert trend.interval == pytest.approx((trend.slope - half, trend.slope + half))
    assert trend.change == pytest.approx(3 * trend.slope)

    gaps = design_of("1", groups)
    distances = np.array([dict(zip(names, positions, strict=True))[level] for level in gaps.levels])
    between = fit_gaps(distances[:, None], gaps.gaps_P, gaps.covariance_PP).squares
    within = sum(np.sum((d - d.mean()) ** 2) for group in groups for d in group.values())
    assert between + within == pytest.approx(squares[0])  # Pythagoras: sums of squares of one projection


def test_a_linear_factor_has_a_slope_per_step_and_few_levels_have_none():
    groups = [{"0%": np.zeros(3), "25%": np.full(3, 0.5), "75%": np.full(3, 1.5)}]
    trend = measure_trend("sparsity", "0%", design_of("0%", groups), NOISE)
    assert (trend.per, trend.slope) == ("10%", pytest.approx(0.2))
    assert trend.p_bend == pytest.approx(1)
    assert measure_trend("sparsity", "0%", design_of("0%", [{"0%": np.zeros(3), "75%": np.ones(3)}]), NOISE) is None
    assert measure_trend("data", "wiki", design_of("wiki", [{"wiki": np.zeros(3), "1": np.ones(3), "2": np.ones(3)}]),
                         NOISE) is None  # fmt: skip


def judged(gaps, margin=0.03, noise=NOISE):
    groups = [{level: np.full(4, gap) for level, gap in zip(("1", "2", "4", "8"), gaps, strict=True)}]
    trend = measure_trend("lr", "1", design_of("1", groups), noise)
    return judge_trend(trend, trend.p, noise, margin)


def test_the_words():
    assert judged((0, 0.01, 0.02, 0.03)).verdict == "rises"
    assert judged((0, -0.01, -0.02, -0.03)).verdict == "falls"
    assert judged((0, 0.001, -0.001, 0.0)).verdict == "flat"
    assert judged((0, 0.001, -0.001, 0.0), margin=0.001).verdict == "cannot tell"
    bent = judged((0, 0.03, 0.03, 0.0))  # up and down again
    assert bent.verdict == "cannot tell"
    assert "the gaps bend" in bent.note


def test_one_run_a_level_takes_the_scatter_about_the_line_as_noise():
    scatter = Noise(0.01, 0, "scatter", np.zeros(0))
    groups = [{level: np.array([gap]) for level, gap in zip("1248", (0, 0.011, 0.019, 0.03), strict=True)}]
    trend = measure_trend("lr", "1", design_of("1", groups), scatter)
    positions, gaps = np.array([0.0, 1, 2, 3]), np.array([0, 0.011, 0.019, 0.03])
    slope, residuals, *_ = np.polyfit(positions, gaps, 1, full=True)
    error = np.sqrt(residuals[0] / 2 / np.sum((positions - 1.5) ** 2))
    assert trend.slope == pytest.approx(slope[0])
    assert trend.interval[1] - trend.slope == pytest.approx(2.9199856 * error)  # Student's t, 2 degrees of freedom
    assert "one run a level" in judge_trend(trend, trend.p, scatter, 0.03).note
    few = [{level: np.zeros(1) for level in "124"}]
    assert measure_trend("lr", "1", design_of("1", few), scatter) is None


def test_a_trend_that_needs_a_far_run_is_withdrawn():
    rises = judged((0, 0.01, 0.02, 0.03))
    flat = dataclasses.replace(rises, verdict="flat")
    withdrawn = cautious_trend(rises, [rises, flat])
    assert withdrawn.verdict == "cannot tell"
    assert "with all runs: rises, without those far off: flat" in withdrawn.note
    assert cautious_trend(rises, [rises, None]) == rises
    assert cautious_trend(None, [None]) is None


def planted(seed: int, slope: float, num_runs: int = 3):
    """Draw a study of five learning rates, with a gap of `slope` noises a doubling."""
    generator = np.random.Generator(np.random.PCG64(seed))
    cells = []
    for rate in RATES:
        gap = slope * FLOOR * np.log2(float(rate) / 1e-3)
        cells.append(cell(generator, {"lr": rate, "data": "wiki"}, num_runs, gap))
    (comparison,) = compare_setting_lines(cells, cells[0].levels)
    return comparison


def test_a_planted_trend_is_found_where_no_level_is():
    """`benchmarks/rough_levels.py` measures the shares; here are studies in which no single level moves the line."""
    studies = [planted(seed, 0.4, num_runs=5) for seed in range(4)]
    hidden = [study for study in studies if all(level.verdict != "moves" for level in study.levels)]
    assert len(hidden) >= 2
    assert sum(study.trend.verdict == "rises" for study in hidden) >= 2
    assert all(study.trend.interval[0] < 0.4 * FLOOR < study.trend.interval[1] for study in studies)


def test_no_trend_is_flat():
    assert [planted(seed, 0.0).trend.verdict for seed in range(3)] == ["flat"] * 3
