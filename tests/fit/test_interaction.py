"""Interactions of two factors, against closed forms of the balanced design and against planted studies."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.gap import measure_gap
from lossline_jax.fit.compare.gap_design import GapDesign, gap_design
from lossline_jax.fit.compare.interaction import (
    Interaction,
    cautious_interactions,
    judge_interactions,
    measure_interactions,
)
from lossline_jax.fit.compare.noise import Noise, noise_floor
from lossline_jax.fit.compare.over_levels import notes_on_level
from lossline_jax.fit.compare.setting_line import matched_pairs
from tests.support.planted_lines import FLOOR, cell

NOISE = Noise(0.01, 16, "seeds", np.zeros(0))
GRID = [(data, kind) for kind in ("gpt", "mamba") for data in ("wiki", "code")]


def two_by_two(gap_on_wiki: float, gap_on_code: float, runs=(4, 4, 4, 4)) -> GapDesign:
    """Return the gaps of mamba on wiki and on code. `runs`: mamba and gpt on wiki, mamba and gpt on code."""
    variances = (1 / runs[0] + 1 / runs[1], 1 / runs[2] + 1 / runs[3])
    settings = tuple({"data": data, "architecture": "gpt"} for data in ("wiki", "code"))
    return GapDesign(("mamba", "mamba"), settings, np.array([gap_on_wiki, gap_on_code]), np.diag(variances))


@pytest.mark.parametrize("runs", [(4, 4, 4, 4), (2, 3, 5, 1)])
def test_two_by_two_is_the_difference_of_differences(runs):
    """Its variance is the squared noise times the sum of 1/n over the four settings."""
    ((item,),) = measure_interactions("architecture", two_by_two(0.02, -0.01, runs), NOISE)
    t = (0.02 - -0.01) / (0.01 * np.sqrt(sum(1 / n for n in runs)))
    assert item.p == pytest.approx(2 * scipy.stats.t.sf(t, 16))
    assert item.p_holm == pytest.approx(item.p)
    assert [(gap.level, gap.gap) for gap in item.gaps] == [
        ("wiki", pytest.approx(0.02)),
        ("code", pytest.approx(-0.01)),
    ]
    half = scipy.stats.t.ppf(0.95, 16) * 0.01 * np.sqrt(1 / runs[0] + 1 / runs[1])
    assert item.gaps[0].interval == pytest.approx((0.02 - half, 0.02 + half))


def test_the_joint_test_is_that_of_two_way_anova():
    """The grid is balanced: the F test of the gaps is that of the interaction in a two-way analysis of variance."""
    generator = np.random.Generator(np.random.PCG64(2))
    means = generator.normal(size=(3, 4))  # architectures, the reference first; data sets
    runs, kinds, sets = 5, ("gpt", "mamba", "rwkv"), ("a", "b", "c", "d")
    interaction = means - means.mean(0) - means.mean(1)[:, None] + means.mean()
    f = runs * np.sum(interaction**2) / 6 / NOISE.floor**2
    levels, settings, gaps, references = [], [], [], []
    for k, kind in enumerate(kinds[1:], 1):
        for n, name in enumerate(sets):
            levels.append(kind)
            settings.append({"data": name, "architecture": "gpt"})
            gaps.append(means[k, n] - means[0, n])
            references.append(n)
    shared = np.equal.outer(references, references) / runs
    design = GapDesign(tuple(levels), tuple(settings), np.array(gaps), shared + np.eye(len(gaps)) / runs)
    scale = 100  # so that p is neither 0 nor 1
    noise = dataclasses.replace(NOISE, floor=scale * NOISE.floor)
    (items,) = measure_interactions("architecture", design, noise)
    assert items[0].p_holm == pytest.approx(scipy.stats.f.sf(f / scale**2, 6, 16))


def test_an_interaction_needs_both_tests_and_a_difference_that_matters():
    ((item,),) = measure_interactions("architecture", two_by_two(0.02, -0.02), NOISE)
    (found,) = judge_interactions([item], item.p, NOISE)
    assert found.found
    assert found.changes_sign
    assert not judge_interactions([item], 0.2, NOISE)[0].found
    exact = Noise(0.05, 10**6, "seeds", np.zeros(0))
    ((tiny,),) = measure_interactions("architecture", two_by_two(0.0, 0.04, (10**4,) * 4), exact)
    assert tiny.p < 1e-6
    assert not judge_interactions([tiny], tiny.p, exact)[0].found


def test_nothing_is_tested_without_repetitions_or_without_crossing():
    scatter = Noise(0.01, 0, "scatter", np.zeros(0))
    assert measure_interactions("architecture", two_by_two(0.1, -0.1), scatter) == []
    alone = GapDesign(("mamba",), ({"data": "wiki", "architecture": "gpt"},), np.ones(1), np.ones((1, 1)))
    assert measure_interactions("architecture", alone, NOISE) == []


def test_an_interaction_that_needs_a_far_run_is_withdrawn():
    item = Interaction("mamba", "data", True, 0.001, 0.001, ())
    assert cautious_interactions([item], [[item]]) == (item,)
    assert not cautious_interactions([item], [[item], [dataclasses.replace(item, found=False)]])[0].found
    assert not cautious_interactions([item], [[]])[0].found


def planted(seed: int, on_wiki: float, on_code: float):
    """Draw a 2 x 2 study. Code lies 2 noises above wiki; mamba lies these noises above gpt."""
    generator = np.random.Generator(np.random.PCG64(seed))
    gaps = {"wiki": on_wiki, "code": on_code}
    cells = [
        cell(generator, {"data": data, "architecture": kind}, 5,
             FLOOR * (2 * (data == "code") + (kind == "mamba") * gaps[data]))
        for data, kind in GRID
    ]  # fmt: skip
    return cells, compare_setting_lines(cells, cells[0].levels)


def test_pairs_of_two_levels_that_share_a_reference_are_correlated():
    cells, _ = planted(0, 0, 0)
    generator = np.random.Generator(np.random.PCG64(9))
    cells.append(cell(generator, {"data": "wiki", "architecture": "rwkv"}, 2))
    noise = noise_floor(cells)
    gaps = {
        level: measure_gap(matched_pairs(cells, "architecture", level, "gpt"), noise, 0) for level in ("mamba", "rwkv")
    }
    design = gap_design(cells, "architecture", "gpt", gaps)
    assert design.levels == ("mamba", "mamba", "rwkv")
    wiki, code, rwkv = 0, 1, 2
    assert design.covariance_PP[wiki, wiki] == pytest.approx(1 / 5 + 1 / 5)
    assert design.covariance_PP[rwkv, rwkv] == pytest.approx(1 / 2 + 1 / 5)
    assert design.covariance_PP[wiki, rwkv] == pytest.approx(1 / 5)
    assert design.covariance_PP[wiki, code] == 0


def test_a_planted_interaction_is_told_and_an_additive_truth_is_not():
    _, comparisons = planted(0, 3, -3)
    architecture = next(item for item in comparisons if item.factor == "architecture")
    (item,) = architecture.interactions_of("mamba")
    assert item.changes_sign
    assert [gap.level for gap in item.gaps] == ["wiki", "code"]
    assert all(low < truth * FLOOR < high for (low, high), truth in
               zip((gap.interval for gap in item.gaps), (3, -3), strict=True))  # fmt: skip
    (level,) = architecture.levels
    first, *rest = notes_on_level(architecture, level)
    assert first.startswith("gap +")
    assert "interaction with data, p <0.001" in first
    assert not any(
        part.startswith("from ") for note in rest for part in note.split("; ")
    )  # the lowest and the highest gap are in the interaction
    _, additive = planted(1, 2, 2)
    assert not any(item.interactions_of(level.level) for item in additive for level in item.levels)
    assert any(item.interactions for item in additive)  # it was tested
