"""The course of a gap: planted courses get their word, and values are those of a parabola fitted by numpy."""

import dataclasses

import numpy as np
import pytest

from lossline_jax.config.serialise import from_json, to_json
from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.comparison import LevelGap
from lossline_jax.fit.compare.course import GapCourse
from tests.support.planted_lines import BASE, FLOOR, cell, fit_setting, study


def generator(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def planted(setting, start: float, far: float):
    """Return the setting with a gap of `start` noises at its highest x, and of `far` noises at its lowest x."""
    gap = FLOOR * np.interp(setting.x, [setting.x.min(), setting.x.max()], [far, start])
    return fit_setting(setting.levels, setting.x, setting.y + gap, setting.runs)


def data_level(cells, base=BASE) -> LevelGap:
    return next(item for item in compare_setting_lines(cells, base) if item.factor == "data").levels[0]


def course_of(cells) -> GapCourse:
    course = data_level(cells).course
    assert course is not None
    return course


def changed(seed: int, start: float, far: float, **runs):
    cells = study(seed, base_runs=5, num_runs=5, **runs)
    return [cells[0], planted(cells[1], start, far), *cells[2:]]


@pytest.mark.parametrize(("seed", "verdict"), [(0, "cannot tell"), (3, "crosses")])
def test_a_mean_within_the_margin_is_not_called_equal_where_an_end_is_surely_beyond(seed, verdict):
    """The outer thirds of these studies do not show the crossing, but the ends of the course do: one, or both."""
    level = data_level(changed(seed, 5.5, -5.5))
    assert all(abs(end) < 3 * FLOOR for end in level.interval)
    assert level.verdict == verdict
    assert ("surely is not" if verdict == "cannot tell" else "the lines cross") in level.note


@pytest.mark.parametrize(
    ("start", "far", "word", "verdict"),
    [
        (0, 0, "stays", "does not move"),
        (8, 8, "stays", "moves"),
        (8, 0, "fades", "moves"),
        (0, 8, "grows", "moves"),
        (4, 12, "grows", "moves"),
        (12, 4, "fades", "moves"),
        (7, -7, "crosses", "crosses"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_course_gets_its_word(start, far, word, verdict, sign):
    level = data_level(changed(11, sign * start, sign * far))
    assert (level.course.word, level.verdict) == (word, verdict)
    assert level.verdict_and_course == (verdict if word == verdict else f"{verdict}, {word}")
    truth = sign * FLOOR * np.array([start, far, far - start])
    measured = np.array([level.course.start, level.course.far, level.course.change])
    assert np.all(np.abs(measured - truth) < 3 * FLOOR)


def bumped(setting, size: float, mean: float):
    """Return the setting with a gap of `size` noises in the middle of its x and none at its ends, plus `mean`."""
    t = np.interp(setting.x, [setting.x.min(), setting.x.max()], [-1, 1])
    return fit_setting(setting.levels, setting.x, setting.y + FLOOR * (size * (1 - t**2) + mean), setting.runs)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("size", "mean", "words", "verdict"),
    [(14, 0, "larger in the middle", "moves"), (-14, 15, "another one in the middle", "moves"), (0, 8, "", "moves")],
)
def test_a_gap_that_differs_in_the_middle_does_not_stay(size, mean, words, verdict, sign):
    cells = study(11, base_runs=5, num_runs=5)
    level = data_level([cells[0], bumped(cells[1], sign * size, sign * mean), *cells[2:]])
    assert level.verdict == verdict
    assert level.course.word == ("" if words else "stays")
    assert level.course.bends == bool(words)
    low, high = level.course.middle_interval
    assert low < sign * FLOOR * (size + mean) < high
    assert (f"the gap is {words} than at both ends: " in level.note) == bool(words)


def test_a_mean_within_the_margin_is_not_called_equal_where_the_middle_is_surely_beyond():
    """The gap is 5 noises in the middle and -4 at both ends, which is not surely beyond the margin of three."""
    cells = study(5, base_runs=5, num_runs=5)
    level = data_level([cells[0], bumped(cells[1], 9.0, -4.0), *cells[2:]])
    assert all(abs(end) < 3 * FLOOR for end in level.interval)
    assert level.verdict == "cannot tell"
    assert f"but the gap at x {np.mean(level.course.x):.3f} surely is not: +" in level.note


def test_no_word_where_a_change_is_neither_sure_nor_small():
    (data,) = [item for item in compare_setting_lines(study(2, num_runs=1), BASE) if item.factor == "data"]
    course = data.levels[0].course
    low, high = course.change_interval
    assert low < 0 < high
    assert max(-low, high) > data.margin
    assert course.word == ""


def test_values_are_those_of_a_parabola_through_each_run():
    cells = changed(12, 2, 9)
    reference, level = cells[:2]
    course = course_of(cells)
    low, high = max(reference.x.min(), level.x.min()), min(reference.x.max(), level.x.max())
    inside = (level.x >= low) & (level.x <= high)
    runs = [inside & (level.runs == run) for run in level.run_ids]
    far = max(
        [level.x[run].min() for run in runs] + [reference.x[reference.runs == r].min() for r in reference.run_ids]
    )
    start = min(
        [level.x[run].max() for run in runs] + [reference.x[reference.runs == r].max() for r in reference.run_ids]
    )
    assert course.x == pytest.approx((start, far))
    distances = level.y - reference.fit.predict(x=np.clip(level.x, low, high))
    fitted = [np.polynomial.Polynomial.fit(level.x[run], distances[run], 2) for run in runs]
    expected = [np.mean([parabola(x) for parabola in fitted]) for x in (start, far)]
    assert (course.start, course.far) == pytest.approx(expected)
    assert course.change == pytest.approx(expected[1] - expected[0])


def test_the_change_is_judged_by_the_noise_of_changes():
    """Seeds that turn their runs make a change unsure, although they leave the noise floor as it is."""
    r = generator(5)

    def turned(setting, by):
        turns = dict(zip(setting.run_ids, r.normal(0, by * FLOOR, len(setting.run_ids)), strict=True))
        lean = np.interp(setting.x, [setting.x.min(), np.median(setting.x), setting.x.max()], [-1, 0, 1])
        y = setting.y + lean * [turns[run] for run in setting.runs]
        return fit_setting(setting.levels, setting.x, y, setting.runs)

    cells = changed(13, 6, 0)
    steady, turning = course_of(cells), course_of([turned(setting, 8) for setting in cells])
    assert steady.word == "fades"
    assert turning.word == ""
    assert np.diff(turning.change_interval) > 3 * np.diff(steady.change_interval)


def test_without_repetitions_there_is_no_word_and_no_interval():
    cells = study(1, base_runs=1, num_runs=1)
    level = data_level([cells[0], planted(cells[1], 40, 0), *cells[2:]])
    course = level.course
    assert (course.word, course.p, course.start_interval, course.far_interval, course.change_interval) == (
        "", None, None, None, None,
    )  # fmt: skip
    assert course.start - course.far > 30 * FLOOR


def test_a_run_that_stops_early_does_not_shorten_the_course():
    cells = changed(14, 0, 8)
    level = cells[1]
    stopped = (level.runs == level.run_ids[0]) & (level.x < np.quantile(level.x, 0.7))
    shorter = fit_setting(level.levels, level.x[~stopped], level.y[~stopped], level.runs[~stopped])
    whole, course = course_of(cells), course_of([cells[0], shorter, *cells[2:]])
    assert course.x == pytest.approx(whole.x, abs=0.05)
    assert course.word == "grows"


def test_three_points_a_run_give_a_straight_course():
    cells = changed(15, 0, 12)
    kept = []
    for setting in cells:
        few = np.tile(np.isin(np.arange(10), [0, 5, 9]), 5)
        kept.append(fit_setting(setting.levels, setting.x[few], setting.y[few], setting.runs[few]))
    course = course_of(kept)
    assert course.word == "grows"
    assert course.change == pytest.approx(12 * FLOOR, abs=3 * FLOOR)


def test_pairs_of_different_course_get_no_word_and_a_note():
    r = generator(3)
    settings = [
        cell(r, {"data": data, "size": size}, 4) for data, size in (("a", "s"), ("b", "s"), ("a", "l"), ("b", "l"))
    ]
    settings[1], settings[3] = planted(settings[1], 0, 10), planted(settings[3], 0, -10)
    level = data_level(settings, {"data": "a", "size": "s"})
    assert [pair.course.word for pair in level.pairs] == ["grows", "grows"]
    assert level.course.word == ""
    assert "the course differs between pairs: change from -0." in level.note


def test_pairs_of_gaps_of_opposite_signs_get_no_word():
    r = generator(4)
    settings = [
        cell(r, {"data": data, "size": size}, 4) for data, size in (("a", "s"), ("b", "s"), ("a", "l"), ("b", "l"))
    ]
    settings[1], settings[3] = planted(settings[1], 8, 8), planted(settings[3], -2, -12)
    level = data_level(settings, {"data": "a", "size": "s"})
    assert [pair.course.word for pair in level.pairs] == ["stays", "grows"]
    assert level.course.word == ""


def test_a_course_without_a_middle_is_still_read():
    level = data_level(changed(11, 8, 8))
    plain = to_json(level)
    for name in ("middle", "middle_interval", "bends"):
        del plain["course"][name]
    course = dataclasses.replace(level.course, middle=None, middle_interval=None, bends=False)
    assert from_json(LevelGap, plain) == dataclasses.replace(level, course=course)


def test_a_level_without_a_course_is_still_read():
    level = data_level(changed(16, 0, 8))
    stored = to_json(level)
    assert from_json(LevelGap, stored) == level
    del stored["course"]
    for pair in stored["pairs"]:
        del pair["course"]
    pairs = tuple(dataclasses.replace(pair, course=None) for pair in level.pairs)
    assert from_json(LevelGap, stored) == dataclasses.replace(level, course=None, pairs=pairs)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_verdict_with_a_far_run_is_judged_by_the_same_rules(seed, monkeypatch):
    """The note tells the verdict with all runs, which is that of a comparison that sets no run aside."""
    cells = changed(seed, 5.5, -5.5)
    setting = cells[2]
    y = setting.y + 14 * FLOOR * (setting.runs == setting.run_ids[0])
    cells[2] = fit_setting(setting.levels, setting.x, y, setting.runs)
    level = data_level(cells)
    monkeypatch.setattr("lossline_jax.fit.compare.compare_lines.far_runs", lambda cells: ())
    with_all = data_level(cells).verdict
    assert ("with all runs" in level.note) == (with_all != level.verdict)
    assert with_all == level.verdict or f"with all runs: {with_all}" in level.note
