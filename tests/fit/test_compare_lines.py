"""Planted gaps are found, equal lines are called equal, and what cannot be compared is said in words."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import scipy.stats

from lossline_jax.fit.compare.compare_lines import compare_setting_lines, holm
from lossline_jax.fit.compare.far_run import runs_in_doubt, runs_set_aside
from lossline_jax.fit.compare.far_runs import far_runs
from lossline_jax.fit.compare.noise import noise_floor, pool_noise
from lossline_jax.fit.compare.permutation import anova_p, moments_of, permutation_test
from lossline_jax.fit.compare.setting_line import confounders, matched_pairs, unmatched
from tests.support.planted_lines import BASE, FLOOR, POINT_NOISE, RUN_NOISE, cell, curve, fit_setting, study


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def compare(cells, base=BASE, **kwargs):
    return {item.factor: item for item in compare_setting_lines(cells, base, **kwargs)}


@pytest.fixture(scope="module")
def many_studies():
    """Count the verdicts by planted gap: on the factor with the gap, and on the three equal factors."""
    verdicts_by_gap = {}
    for gap in (0.0, 3.0):
        verdicts = {"planted": Counter(), "equal": Counter()}
        for seed in range(40):
            for factor, item in compare(study(seed, gap * FLOOR, base_runs=6, num_runs=6)).items():
                verdicts["planted" if factor == "data" else "equal"][item.verdict] += 1
        verdicts_by_gap[gap] = verdicts
    return verdicts_by_gap


@pytest.mark.slow
def test_equal_lines_are_called_equal_in_95_of_100_studies(many_studies):
    equal = many_studies[0.0]["equal"] + many_studies[0.0]["planted"] + many_studies[3.0]["equal"]
    assert equal["does not move"] >= 0.95 * equal.total()
    assert equal["moves"] <= 0.05 * equal.total()


@pytest.mark.slow
def test_gaps_of_three_times_the_noise_are_found_in_90_of_100_studies(many_studies):
    planted = many_studies[3.0]["planted"]
    assert planted["moves"] >= 0.9 * planted.total()


def test_gap_is_signed_and_in_the_unit_of_y():
    item = compare(study(1, gap=-0.2))["data"]
    (level,) = item.levels
    assert (item.factor, item.reference, item.verdict, level.level) == ("data", "wiki", "moves", "code")
    assert level.gap == pytest.approx(-0.2, abs=4 * FLOOR)
    assert level.interval[0] < -0.2 < level.interval[1]
    assert level.ratio == pytest.approx(level.gap / item.noise)
    assert (level.num_runs, level.num_reference_runs) == (3, 5)


def test_only_settings_that_are_equal_in_all_else_are_compared():
    settings = [
        {"data": "wiki", "size": "s"}, {"data": "code", "size": "s"},
        {"data": "wiki", "size": "l"}, {"data": "code", "size": "l"}, {"data": "web", "size": "xl"},
    ]  # fmt: skip
    gaps = {"s": 0.3, "l": -0.1, "xl": 0.0}
    r = generator()
    cells = [cell(r, levels, 3, gaps[levels["size"]] * (levels["data"] == "code")) for levels in settings]
    pairs = matched_pairs(cells, "data", "code", "wiki")
    assert [(p.reference.levels["size"], p.other.levels["size"]) for p in pairs] == [("s", "s"), ("l", "l")]
    data = compare(cells, {"data": "wiki", "size": "s"})["data"]
    by_level = {level.level: level for level in data.levels}
    by_pair = {pair.matched_on: pair.gap for pair in by_level["code"].pairs}
    assert by_pair == pytest.approx({"s": 0.3, "l": -0.1}, abs=4 * FLOOR)
    assert by_level["code"].gap == pytest.approx(0.1, abs=3 * FLOOR)  # equal weights for equally many runs
    assert "(l) to" in by_level["code"].note  # the pair with the smallest gap, then that with the largest
    assert "confounded with size" in by_level["web"].note
    assert (by_level["web"].verdict, by_level["web"].gap, by_level["web"].p) == ("cannot tell", None, None)
    assert unmatched(cells, {"data": "wiki", "size": "s"}) == [cells[-1]]


def test_opposite_gaps_that_cancel_are_not_called_equal():
    r = generator(3)
    cells = [
        cell(r, {"data": data, "size": size}, 4, gap)
        for data, size, gap in (("a", "s", 0), ("b", "s", 0.2), ("a", "l", 0), ("b", "l", -0.2))
    ]
    data = compare(cells, {"data": "a", "size": "s"})["data"]
    assert abs(data.levels[0].gap) < 3 * FLOOR
    assert data.verdict == "moves"


def test_a_size_label_of_another_architecture_is_matched_by_parameters():
    r = generator()
    sizes = {("llama", "L12"): 416e6, ("llama", "L8"): 365e6, ("mamba", "L24"): 420e6, ("mamba", "L16"): 367e6}
    cells = []
    for (architecture, size), params in sizes.items():
        setting = cell(r, {"architecture": architecture, "size": size}, 2)
        cells.append(fit_setting(setting.levels, setting.x, setting.y, setting.runs, (params, params / 3)))
    pairs = matched_pairs(cells, "architecture", "mamba", "llama")
    assert [(p.reference.levels["size"], p.other.levels["size"]) for p in pairs] == [("L12", "L24"), ("L8", "L16")]
    assert matched_pairs(cells, "size", "L24", "L12") == []


def test_a_factor_that_always_changes_with_another_is_named():
    r = generator()
    settings = [{"data": "wiki", "tokenizer": "a", "size": "s"}, {"data": "code", "tokenizer": "b", "size": "s"}]
    settings.append({"data": "code", "tokenizer": "b", "size": "l"})
    cells = [cell(r, levels, 2) for levels in settings]
    assert confounders(cells, "data", "code", "wiki") == ["tokenizer"]
    comparisons = compare(cells, settings[0])
    for factor, confounder in (("data", "tokenizer"), ("tokenizer", "data")):
        assert comparisons[factor].levels[0].note.startswith(f"confounded with {confounder}")
        assert comparisons[factor].verdict == "cannot tell"


def test_only_the_common_support_is_compared():
    r = generator()
    base = cell(r, BASE, 3)
    code = cell(r, BASE | {"data": "code"}, 3)
    x = np.concatenate([code.x, [9.0, 9.5, 10.0]])
    y = np.concatenate([code.y, [100.0] * 3])
    far = fit_setting(code.levels, x, y, np.concatenate([code.runs, code.run_ids]))
    (level,) = compare([base, far])["data"].levels
    assert level.num_points_outside >= 3
    assert abs(level.gap) < 5 * FLOOR
    assert level.support[1] <= base.x.max()


def test_reference_runs_that_stop_short_of_the_support_do_not_count():
    r = generator()
    base, code = cell(r, BASE, 5), cell(r, BASE | {"data": "code"}, 3)
    low = np.median(base.x)
    stopped = ~np.isin(base.runs, base.run_ids[:1]) & (base.x < low)  # four of the five runs end halfway
    reference = fit_setting(BASE, base.x[~stopped], base.y[~stopped], base.runs[~stopped])
    kept = code.x < low - 0.1
    late = fit_setting(code.levels, code.x[kept], code.y[kept], code.runs[kept])
    (pair,) = compare([reference, late])["data"].levels[0].pairs
    assert (pair.num_runs, pair.num_reference_runs) == (3, 1)


def test_no_common_support_is_said_in_words():
    r = generator()
    base, code = cell(r, BASE, 3), cell(r, BASE | {"data": "code"}, 3)
    far = fit_setting(code.levels, code.x + 10, code.y, code.runs)
    item = compare([base, far])["data"]
    (level,) = item.levels
    assert level.note.startswith("no common support: x 12.")
    assert (item.verdict, level.gap, level.interval, level.p) == ("cannot tell", None, None, None)


def test_one_run_a_level_has_no_p_and_says_so():
    r = generator()
    cells = [cell(r, BASE, 1), cell(r, BASE | {"data": "code"}, 1, gap=0.5), cell(r, BASE | {"size": "d32"}, 1)]
    comparisons = compare(cells)
    for item in comparisons.values():
        assert (item.noise_source, item.p, item.p_holm, item.p_line) == ("scatter", None, None, None)
        assert "one run a level" in item.note
        assert item.levels[0].smallest_detectable_gap is None
    assert comparisons["data"].verdict == "moves"


def test_one_run_of_a_level_takes_its_noise_from_the_repeated_settings():
    r = generator()
    cells = [cell(r, BASE, 6), cell(r, BASE | {"data": "code"}, 1, gap=0.5)]
    item = compare(cells)["data"]
    assert (item.noise_source, item.noise_freedom, item.verdict) == ("seeds", 5, "moves")
    assert "one run of this level" in item.levels[0].note


def test_noise_floor_is_that_of_runs_not_of_checkpoints():
    floors = [noise_floor([cell(generator(seed), BASE, 8)]).floor for seed in range(30)]
    assert np.sqrt(np.mean(np.square(floors))) == pytest.approx(FLOOR, rel=0.15)


def test_settings_with_a_noise_of_their_own_keep_it():
    r = generator()
    quiet = [cell(r, BASE | {"size": f"d{k}"}, 6) for k in range(4)]
    loud_x = np.tile(np.linspace(2.5, 5, 10), 6)
    loud_y = curve(loud_x) + np.repeat(r.normal(0, 20 * FLOOR, 6), 10)
    loud = fit_setting(BASE | {"data": "code"}, loud_x, loud_y, np.repeat([f"r{k}" for k in range(6)], 10))
    everywhere, own = noise_floor([*quiet, loud]), noise_floor(quiet)
    assert pool_noise(own, everywhere) is own
    assert pool_noise(noise_floor(quiet[:2]), own) is own


def test_runs_are_exchanged_whole():
    """Six runs can be divided into three and three in 20 ways, so that no p is below 1/20."""
    r = generator()
    apart = [cell(r, BASE, 3), cell(r, BASE | {"data": "code"}, 3, gap=5.0)]
    test = permutation_test(moments_of([apart]), seed=0)
    assert test.num_arrangements == 20
    assert 0.05 < test.p < 0.15  # two of the 20 arrangements are as extreme


@pytest.mark.slow
def test_permutation_p_is_uniform_where_one_line_serves_all():
    groups = [[cell(generator(s), BASE, 5), cell(generator(1000 + s), BASE | {"size": "d32"}, 5)] for s in range(80)]
    ps = [permutation_test([moments], s).p for s, moments in enumerate(moments_of(groups))]
    assert scipy.stats.kstest(ps, "uniform").pvalue > 0.01


def test_shape_is_tested_too():
    r = generator()
    base = cell(r, BASE, 5)
    code = cell(r, BASE | {"data": "code"}, 5)
    tilted = fit_setting(code.levels, code.x, code.y + 0.15 * (code.x - np.mean(code.x)), code.runs)
    assert permutation_test(moments_of([[base, tilted]]), 0).p < 0.05


def test_f_test_is_that_of_scipy_for_one_group():
    r = generator()
    samples = [r.normal(0, 1, n) for n in (4, 5, 3)]
    expected = scipy.stats.f_oneway(*samples).pvalue
    within = sum(np.sum((s - s.mean()) ** 2) for s in samples)
    p = anova_p([np.array([s.mean() for s in samples])], [np.array([4, 5, 3])], np.sqrt(within / 9), 9)
    assert p == pytest.approx(expected)


def test_holm_is_that_of_its_paper():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])


@pytest.mark.slow
def test_the_smallest_detectable_gap_is_detected_at_the_stated_rate():
    """About 90% of the gaps of this size are detected. 31 of 40 is the binomial 1% bound."""
    design = {"base_runs": 6, "num_runs": 6}
    detectable_gaps = [compare(study(seed, **design))["data"].levels[0].smallest_detectable_gap for seed in range(10)]
    verdicts = [compare(study(100 + seed, np.mean(detectable_gaps), **design))["data"].verdict for seed in range(40)]
    assert verdicts.count("moves") >= 31


def test_same_seed_same_comparison():
    assert compare(study(2), seed=5) == compare(study(2), seed=5)


def change_setting(cells, index: int, change):
    """Return the study with other y in one setting. `change` takes x, y and the mask of the first run."""
    setting = cells[index]
    first = setting.runs == setting.run_ids[0]
    y = change(setting.x, setting.y.copy(), first)
    return [*cells[:index], fit_setting(setting.levels, setting.x, y, setting.runs), *cells[index + 1 :]]


def off(x, y, first):
    y[first] += 9 * FLOOR
    return y


def diverging(x, y, first):
    y[first] += np.linspace(0, 0.3, first.sum())
    return y


@pytest.mark.parametrize("index", [0, 1], ids=["base", "level"])
@pytest.mark.parametrize("change", [off, diverging])
def test_a_run_far_from_its_line_is_set_aside(index, change):
    """The comparison is that of the study without the run, whose line was fitted without it."""
    clean = study(7, gap=3 * FLOOR, base_runs=5, num_runs=5)
    cells = change_setting(clean, index, change)
    run = cells[index].run_ids[0]
    changed = compare(cells)
    without = compare([*clean[:index], without_first_run(clean[index]), *clean[index + 1 :]])
    for factor, item in changed.items():
        assert item.verdict == without[factor].verdict
        assert item.noise == pytest.approx(without[factor].noise, rel=1e-6)
        for level, expected in zip(item.levels, without[factor].levels, strict=True):
            assert level.gap == pytest.approx(expected.gap, abs=1e-6)
            assert level.interval == pytest.approx(expected.interval, abs=0.1 * FLOOR)
            assert (level.num_runs, level.num_reference_runs) == (expected.num_runs, expected.num_reference_runs)
    data = changed["data"]
    assert (data.verdict, data.far_runs) == ("moves", (run,))
    assert f"run {run} " in data.note
    assert "times the noise of the others" in data.note
    assert "set aside; with it" in data.note
    assert sum(not item.far_runs for item in changed.values()) == (0 if index == 0 else 3)


def without_first_run(setting):
    kept = setting.runs != setting.run_ids[0]
    return fit_setting(setting.levels, setting.x[kept], setting.y[kept], setting.runs[kept])


def test_a_bad_run_does_not_make_a_verdict():
    """The bad run moves the mean of its setting by ten noises, and the comparison does not move."""
    cells = study(3, base_runs=6, num_runs=6)
    before = compare(cells)["data"]
    after = compare(change_setting(cells, 1, lambda x, y, first: y + 60 * FLOOR * first))["data"]
    assert before.verdict == after.verdict == "does not move"
    assert after.levels[0].gap == pytest.approx(before.levels[0].gap, abs=FLOOR)
    assert after.margin == pytest.approx(before.margin, rel=0.3)


def test_a_verdict_that_holds_with_the_far_run_says_so():
    cells = change_setting(study(7, gap=40 * FLOOR, base_runs=5, num_runs=5), 0, off)
    item = compare(cells)["data"]
    assert item.verdict == "moves"
    assert "set aside; with it too: moves" in item.note


def test_lines_that_a_far_run_does_not_touch_are_fitted_once(monkeypatch):
    """Lines of groups that no far run belongs to are not fitted again for the comparison with all runs."""
    counts = []

    def counted(groups):
        counts.append(len(groups))
        return moments_of(groups)

    monkeypatch.setattr("lossline_jax.fit.compare.compare_lines.moments_of", counted)
    compare(change_setting(study(7, base_runs=5, num_runs=5), 1, off))
    assert counts == [4, 1]  # four factors; then the data factor alone, with its far run


def test_clean_studies_name_no_run():
    assert not any(far_runs(study(seed, base_runs=5, num_runs=5)) for seed in range(4))


@pytest.fixture(scope="module")
def named_runs():
    """Return the runs named as far in 100 clean studies, and in these studies with one run eight noises off.

    All studies keep the fitted lines of the first one.
    """
    planned, clean, outlying = study(0, base_runs=5, num_runs=5), [], []
    for seed in range(100):
        r = generator([15, seed])
        cells = [_draw_again(r, setting) for setting in planned]
        clean.append(far_runs(cells))
        off_by = 8 * FLOOR * r.choice([-1, 1])
        outlying.append(far_runs([cells[0], _move_first_run(cells[1], off_by), *cells[2:]]))
    return planned[1].run_ids[0], clean, outlying


def _draw_again(r, planned):
    runs = planned.runs == np.array(planned.run_ids)[:, None]
    y = curve(planned.x) + r.normal(0, RUN_NOISE, len(runs)) @ runs + r.normal(0, POINT_NOISE, planned.x.size)
    return dataclasses.replace(planned, y=y)


def _move_first_run(planned, by: float):
    return dataclasses.replace(planned, y=planned.y + by * (planned.runs == planned.run_ids[0]))


def test_a_clean_study_names_a_run_in_at_most_one_of_twenty(named_runs):
    _, clean, _ = named_runs
    assert sum(bool(named) for named in clean) <= 0.05 * len(clean)


def test_a_run_eight_noises_off_is_named_in_nine_of_ten_studies(named_runs):
    run, _, outlying = named_runs
    assert sum(run in {far.run for far in named} for named in outlying) >= 0.9 * len(outlying)
    assert sum(bool({far.run for far in named} - {run}) for named in outlying) <= 0.05 * len(outlying)


def test_of_two_runs_either_may_be_the_far_one():
    cells = [cell(generator(3), BASE, 2), *study(3, base_runs=5, num_runs=5)[1:]]
    cells = change_setting(cells, 0, lambda x, y, first: y + 40 * FLOOR * first)
    (far,) = far_runs(cells)
    assert set(far.run_ids) == set(cells[0].run_ids)
    assert "either may be off" in str(far)
    assert runs_set_aside([far]) == frozenset()
    assert runs_in_doubt([far]) == [frozenset({far.run}), frozenset({far.partner})]
    data = compare(cells)["data"]
    assert set(data.far_runs) == set(cells[0].run_ids)
    assert "either may be off; not set aside; with all: " in data.note


def test_a_far_run_is_in_doubt_where_few_runs_tell_the_noise():
    """Four runs of one setting may lie close together by chance, so that the fifth looks far."""
    cells = change_setting(
        [cell(generator(6), BASE, 5), *study(3, num_runs=1)[1:]], 0, lambda x, y, f: y + FLOOR * f * 40
    )
    (far,) = far_runs(cells)
    assert (far.run, far.partner, far.sure) == (cells[0].run_ids[0], None, False)
    assert (runs_set_aside([far]), runs_in_doubt([far])) == (frozenset(), [frozenset({far.run})])
    data = compare(cells)["data"]
    assert "not set aside; with all: " in data.note
    assert data.levels[0].num_reference_runs == 5


def test_one_run_of_a_setting_is_never_called_far():
    cells = change_setting([cell(generator(4), BASE, 5), cell(generator(5), BASE | {"data": "code"}, 1)], 1, off)
    assert far_runs(cells) == ()


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_a_bad_run_does_not_make_a_good_run_of_its_setting_look_far(seed):
    """Perplexities in place of losses bend the line of their setting, so that the other runs turn off it."""
    cells = study(seed, base_runs=5, num_runs=5)
    cells = change_setting(cells, 1, lambda x, y, first: np.where(first, np.exp(y), y))
    assert [far.run for far in far_runs(cells)] == [cells[1].run_ids[0]]


def test_two_far_runs_do_not_hide_each_other():
    cells = study(8, base_runs=5, num_runs=5)
    cells = change_setting(change_setting(cells, 0, lambda x, y, first: y + 30 * FLOOR * first), 1, diverging)
    assert {far.run for far in far_runs(cells)} == {cells[0].run_ids[0], cells[1].run_ids[0]}


@pytest.mark.parametrize(("num_runs", "ends"), [(5, 10), (5, -10), (1, 20)])
def test_lines_that_cross_are_called_so(num_runs, ends):
    cells = study(9, base_runs=num_runs, num_runs=num_runs)

    def tilt(x, y, first):
        return y + ends * FLOOR * np.interp(x, [x.min(), np.median(x), x.max()], [-1, 0, 1])

    item = compare(change_setting(cells, 1, tilt))["data"]
    (level,) = item.levels
    assert (item.verdict, level.verdict) == ("crosses", "crosses")
    low, high = level.outer
    assert np.sign(high.gap) == np.sign(ends) == -np.sign(low.gap)
    assert "the lines cross: " in level.note
    assert all(comparison.verdict != "crosses" for comparison in compare(cells).values())


def test_one_run_a_level_gives_no_interval():
    (level,) = compare(study(1, gap=0.5, base_runs=1, num_runs=1))["data"].levels
    assert level.note.startswith("one run a level: no interval")
    assert level.interval is None
    assert all(part.interval is None for part in (*level.pairs, *level.outer))
