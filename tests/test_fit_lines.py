"""Planted gaps are found, planted equal lines are not called different, absent support is said in words."""

import numpy as np
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.lines import compare_with_base, fit_base_line
from lossline_jax.fit.transfer import fit_shifted_power

X = np.linspace(2.5, 5.0, 12)
NOISE = 0.01


def curve(x):
    return 0.9 * (x - 1.5) ** 1.3 + 1.1


def run(generator, x=X, gap=0.0):
    """Points of a run with an offset of its own as large as the noise of its points."""
    return curve(x) + gap + generator.normal(0, NOISE) + generator.normal(0, NOISE, x.size)


def base_line(generator, num_seeds):
    x = np.tile(X, num_seeds)
    y = np.concatenate([run(generator) for _ in range(num_seeds)])
    runs = np.repeat(np.arange(num_seeds), X.size)
    fit = fit_shifted_power(x, y, runs, num_starts=16, level=None)
    return fit_base_line(x, y, runs, fit=fit, num_resamples=100)


def verdicts(gap, num_studies, num_seeds=3, num_runs=3):
    found = []
    for seed in range(num_studies):
        generator = np.random.Generator(np.random.PCG64(seed))
        base = base_line(generator, num_seeds)
        x = np.tile(X, num_runs)
        y = np.concatenate([run(generator, gap=gap) for _ in range(num_runs)])
        found.append(compare_with_base(base, x, y, np.repeat(np.arange(num_runs), X.size)).verdict)
    return found


def test_a_large_planted_gap_moves_the_line():
    found = verdicts(gap=0.2, num_studies=6)
    assert found.count("moves") >= 5


def test_equal_lines_are_not_called_different():
    found = verdicts(gap=0.0, num_studies=10)
    assert found.count("moves") == 0
    assert found.count("does not move") >= 6


def test_gap_is_signed_and_in_the_unit_of_y():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 2)
    comparison = compare_with_base(base, X, base.fit.predict({"x": X}) - 0.123, factor="data", level="code")
    assert comparison.gap == pytest.approx(-0.123)
    assert comparison.interval[0] < -0.123 < comparison.interval[1]
    assert comparison.ratio == pytest.approx(-0.123 / comparison.noise)
    assert (comparison.factor, comparison.level) == ("data", "code")


def test_only_the_common_support_is_compared():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 2)
    far = np.concatenate([X, [6.0, 7.0]])
    y = np.concatenate([curve(X), [100.0, 100.0]])
    comparison = compare_with_base(base, far, y)
    assert (comparison.num_points, comparison.num_points_outside) == (12, 2)
    assert abs(comparison.gap) < 0.05
    assert comparison.support == (2.5, 5.0)


def test_no_common_support_is_said_in_words():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 2)
    comparison = compare_with_base(base, X + 10, curve(X), np.zeros(X.size))
    assert comparison.verdict == "cannot tell"
    assert comparison.note.startswith("no common support: x 12.500-15.000, base 2.500-5.000")
    assert comparison.gap is None
    assert comparison.interval is None


def test_two_points_cannot_tell():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 2)
    comparison = compare_with_base(base, X[:2], curve(X[:2]) + 1.0)
    assert comparison.verdict == "cannot tell"
    assert "only 2 points" in comparison.note


def test_repeated_base_gives_a_noise_floor_and_one_run_says_it_has_none():
    generator = np.random.Generator(np.random.PCG64(4))
    shifted = np.concatenate([curve(X), curve(X) + 0.05]) + generator.normal(0, 0.002, 2 * X.size)
    repeated = fit_base_line(np.tile(X, 2), shifted, np.repeat([0, 1], X.size))
    assert repeated.seed_noise == pytest.approx(0.05, abs=3e-3)
    single = fit_base_line(X, shifted[: X.size], np.zeros(X.size))
    assert single.seed_noise is None
    comparison = compare_with_base(single, X, curve(X), np.zeros(X.size))
    assert comparison.margin == pytest.approx(3 * single.residual_noise)
    assert "base not repeated" in comparison.note
    assert compare_with_base(repeated, X, curve(X)).margin == pytest.approx(2 * repeated.seed_noise)


def test_same_seed_same_interval():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 3)
    first, again = (compare_with_base(base, X, curve(X) + 0.03, np.arange(12) % 3, seed=5) for _ in range(2))
    assert first == again


def test_mistakes_get_one_line():
    base = base_line(np.random.Generator(np.random.PCG64(0)), 2)
    with pytest.raises(LosslineError, match="equal lists"):
        compare_with_base(base, X, X[:3])
    with pytest.raises(LosslineError, match="base line cannot be fitted"):
        fit_base_line(X[:3], X[:3])
