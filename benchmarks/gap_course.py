"""Measure the words of the course of a gap, and its intervals, on planted studies.

The studies are those of `rough_lines.py`. The gap between the base and other data has a planted course along x.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rough_lines import (
    NOISE,
    PlantedSetting,
    Row,
    autocorrelated_noise,
    heavy_tails,
    judge,
    share_text,
    usual_noise,
)

STUDIES = 100
WORDS = ("fades", "grows", "crosses", "stays", "")
START, FAR = 5.0, 2.6  # x at both ends of training, about

Course = Callable[[np.ndarray], np.ndarray]  # (n,) x -> gap in true noises


def straight(start: float, far: float) -> Course:
    return lambda x: far + (start - far) * (x - FAR) / (START - FAR)


def bent(start: float, far: float) -> Course:
    """Return a course that has done most of its change early in training."""
    return lambda x: far + (start - far) * np.expm1(3 * (x - FAR) / (START - FAR)) / np.expm1(3)


def turning_noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the usual noise, and seeds that also turn a run about its middle, by one noise at its ends."""
    turns = NOISE * generator.normal(size=(shape[0], 1)) * np.linspace(-1, 1, shape[1])
    return usual_noise(generator, shape) + turns


@dataclass(frozen=True)
class CourseRow:
    """A row of the table: a planted course, and the condition that studies are drawn under."""

    course: Course
    right: tuple[str, ...]  # the words that are right
    row: Row = Row()


FADES, GROWS, CROSSES = straight(6, 0), straight(0, 6), straight(5, -5)
FADES_HALF = straight(9, 3)
ABSENT, CONSTANT, LARGE = straight(0, 0), straight(3, 3), straight(20, 20)
STILL = ("stays", "")  # no false word; "stays" is right, and no word says that it is unclear
ROWS = {
    "absent": CourseRow(ABSENT, STILL),
    "constant, 3 noises": CourseRow(CONSTANT, STILL),
    "constant, 20 noises": CourseRow(LARGE, STILL),
    "fades, 6 to 0": CourseRow(FADES, ("fades",)),
    "fades, 9 to 3": CourseRow(FADES_HALF, ("fades",)),
    "fades early, 6 to 0": CourseRow(bent(6, 0), ("fades",)),
    "grows, 0 to 6": CourseRow(GROWS, ("grows",)),
    "grows, 2 to 5": CourseRow(straight(2, 5), ("grows",)),
    "crosses, 5 to -5": CourseRow(CROSSES, ("crosses",)),
    "absent, 3 against 3": CourseRow(ABSENT, STILL, Row(runs=(3, 3))),
    "fades, 3 against 3": CourseRow(FADES, ("fades",), Row(runs=(3, 3))),
    "absent, 5 against 1": CourseRow(ABSENT, STILL, Row(runs=(5, 1))),
    "fades, 5 against 1": CourseRow(FADES, ("fades",), Row(runs=(5, 1))),
    "absent, 1 against 5": CourseRow(ABSENT, STILL, Row(runs=(1, 5))),
    "absent, seeds t(3)": CourseRow(ABSENT, STILL, Row(noise=heavy_tails)),
    "absent, checkpoints AR(1) .95": CourseRow(ABSENT, STILL, Row(noise=autocorrelated_noise)),
    "constant, seeds that turn": CourseRow(CONSTANT, STILL, Row(noise=turning_noise)),
    "fades, seeds that turn": CourseRow(FADES, ("fades",), Row(noise=turning_noise)),
}


def table(options: argparse.Namespace) -> str:
    """Return a markdown table, in which each share has its standard error."""
    names = list(ROWS) if options.rows is None else options.rows
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    head = ("course", "n", "right %", *(f"{word or 'no word'} %" for word in WORDS), "start, change, far: covers %")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        lines.append(f"| {' | '.join(_cells_of_row(name, options.studies or STUDIES, options.seed))} |")
        print(lines[-1], flush=True)
    return "\n".join(["", *lines])


def _cells_of_row(name: str, number: int, seed: int) -> Sequence[str]:
    planned = ROWS[name]
    generator = np.random.Generator(np.random.PCG64([seed, 19, list(ROWS).index(name)]))
    words, covered = [], {"start": [], "change": [], "far": []}
    for study in judge([_planted(planned, generator) for _ in range(number)], 0.0):
        (course,) = [level.course for item in study.factors for level in item.levels if level.level == "code"]
        words.append(course.word)
        start, far = NOISE * planned.course(np.array(course.x))
        for part, truth in (("start", start), ("change", far - start), ("far", far)):
            low, high = getattr(course, f"{part}_interval")
            covered[part].append(low < truth < high)
    right = share_text([word in planned.right for word in words])
    counts = [share_text([word == counted for word in words]) for counted in WORDS]
    return [name, str(number), right, *counts, ", ".join(share_text(values) for values in covered.values())]


def _planted(planned: CourseRow, generator: np.random.Generator) -> list[PlantedSetting]:
    study = planned.row.draw(generator, 0.0)
    code = next(setting for setting in study if "code" in setting.levels.values())
    code.y = code.y + NOISE * planned.course(code.x)
    return study
