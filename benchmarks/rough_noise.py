"""Measure lines and gaps where x has noise, with and without the correction of `fit_line(noise_x=...)`.

A study is a base, other data with a gap of three noises, and another size. Each has five runs on the line of
`rough_lines`. The intervals of the base's line are compared with the planted curve.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from rough_levels import share
from rough_lines import BASE, NOISE, line, usual_noise

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import Bootstrap, bootstrap
from lossline_jax.fit.tables.settings import Setting

STUDIES = 200
RUNS = 5
SETTINGS = (("data", "web", 0.0), ("data", "code", 3.0), ("size", "s", 0.0))  # factor, level, gap in noises
PLACES = np.array([0.1, 0.5, 0.9])  # of the band, as shares of the range of x
HALF = 1e-3  # of the range: half the distance over which a slope is taken


@dataclass(frozen=True)
class Row:
    """A row of the table: a range of x, checkpoints of a run, and noise of a checkpoint in x."""

    noise: float
    low: float = 2.5
    high: float = 5.0
    checkpoints: int = 10


ROWS = {
    f"{name}, noise {noise:g}": Row(noise, **options)
    for name, options in {
        "x from 5 to 2.5": {},
        "x from 3.3 to 2.5": {"high": 3.3},
        "60 checkpoints": {"checkpoints": 60},
    }.items()
    for noise in (0.0, 0.02, 0.04, 0.08)
}


# Whether the band holds the curve at each of `PLACES` and the interval its slope, and the errors at these places.
Held = tuple[list[bool], np.ndarray]


def table(options: argparse.Namespace) -> str:
    """Return a markdown table, in which each share has its standard error."""
    names = list(ROWS) if options.rows is None else options.rows
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    number = options.studies or STUDIES
    head = ("row", "n", "gap held %", "line held % at .1, .5, .9 of the range", "slope held %", "median error there",
            "corrected: line held %", "slope held %", "median error there")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        generator = np.random.Generator(np.random.PCG64([options.seed, 23, list(ROWS).index(name)]))
        studies = [_study(ROWS[name], generator) for _ in range(number)]
        cells = [share([held for held, _, _ in studies])]
        cells += _line_cells([plain for _, plain, _ in studies])
        cells += _line_cells([corrected for _, _, corrected in studies if corrected is not None])
        lines.append(f"| {' | '.join([name, str(number), *cells])} |")
        print(lines[-1], flush=True)
    return "\n".join(["", *lines])


def _line_cells(lines: list[Held]) -> list[str]:
    if not lines:
        return ["-", "-", "-"]
    *places, slope = zip(*(held for held, _ in lines), strict=True)
    biases = np.median([errors for _, errors in lines], axis=0)
    return [", ".join(share(list(place)) for place in places), share(list(slope)),
            ", ".join(f"{bias:+.3f}" for bias in biases)]  # fmt: skip


def _study(row: Row, generator: np.random.Generator) -> tuple[bool, Held, Held | None]:
    """Return whether the gap's interval holds it, and for both lines what `_held` returns (None: no noise)."""
    cells = []
    for factor, level, gap in SETTINGS:
        reach = row.low + (generator.uniform(-0.1, 0.5) * (row.high - row.low) / 2.5 if cells else 0.0)
        x = np.geomspace(row.high, reach, row.checkpoints) + generator.normal(0, 0.02, (RUNS, 1))
        y = line(x) + gap * NOISE + usual_noise(generator, x.shape)
        x += row.noise * generator.normal(size=x.shape)
        cells.append(_cell(BASE | {factor: level}, x, y, first=not cells))
    level_gap = compare_setting_lines(cells, BASE)[0].levels[0]
    assert level_gap.interval is not None
    base, resamples = cells[0], cells[0].resamples
    assert resamples is not None
    corrected = None
    if row.noise:
        fit = fit_line(base.x, base.y, base.runs, num_starts=8, noise_x=row.noise)
        corrected = _held(bootstrap(fit, {"x": base.x}, base.y, clusters=base.runs), row)
    low, high = level_gap.interval
    return low < 3 * NOISE < high, _held(resamples, row), corrected


def _cell(levels: dict[str, str], x_RC: np.ndarray, y_RC: np.ndarray, *, first: bool) -> SettingLine:
    x, y = x_RC.ravel(), y_RC.ravel()
    runs = np.repeat([f"{'-'.join(levels.values())}:{k}" for k in range(RUNS)], x_RC.shape[1])
    fit = fit_line(x, y, runs, num_starts=8, level=None)
    resamples = bootstrap(fit, {"x": x}, y, clusters=runs) if first else None
    return SettingLine(Setting(levels), x, y, runs, fit, resamples)


def _held(resamples: Bootstrap, row: Row) -> Held:
    width = row.high - row.low
    x = row.low + width * PLACES
    ends = np.array([x[1] - HALF * width, x[1] + HALF * width])
    band, truth = resamples.band(x), line(x)
    held = list((np.array(band.lower) < truth) & (truth < np.array(band.upper)))
    curves = resamples.curves({"x": ends})
    low, high = np.nanquantile((curves[:, 1] - curves[:, 0]) / (2 * HALF * width), resamples.quantiles(0.9))
    slope = (line(ends[1:]) - line(ends[:1]))[0] / (2 * HALF * width)
    return [*held, low < slope < high], np.array(band.estimate) - truth
