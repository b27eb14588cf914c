"""Measure trends over numeric levels, and interactions of two factors, on planted studies.

A setting has `runs` runs of ten checkpoints on the line of `rough_lines`. Each row counts the answers about its factor.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from rough_lines import CHECKPOINTS, NOISE, Noise, heavy_tails, line, usual_noise

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.tables.settings import Setting

STUDIES = 200
RATES = ("1e-3", "5e-4", "2e-3", "4e-3", "8e-3")  # learning rates, the base's first; 4 doublings in all
DATA, ARCHITECTURES = ("wiki", "code", "math"), ("gpt", "mamba")
Gap = Callable[[Mapping[str, str]], float]  # levels of a setting -> planted gap to the base's line, in noises


def doublings(levels: Mapping[str, str]) -> float:
    """Return the number of doublings from the base's learning rate."""
    return float(np.log2(float(levels["rate"]) / float(RATES[0])))


def crossed(levels: Mapping[str, str], by_data: float = 2.0, by_architecture: float = 0.0) -> float:
    """Return the gap of an additive truth."""
    return by_data * (levels["data"] == "code") + by_architecture * (levels["architecture"] == "mamba")


@dataclass(frozen=True)
class Row:
    """A row of the table: settings with planted gaps."""

    settings: tuple[dict[str, str], ...]  # the base first
    gap: Gap
    runs: int = 5
    noise: Noise = usual_noise


def _rates(gap: Gap, **options) -> Row:
    return Row(tuple({"rate": rate, "data": "wiki"} for rate in RATES), gap, **options)


def _grid(gap: Gap, data: tuple[str, ...] = DATA[:2], **options) -> Row:
    grid = tuple({"data": name, "architecture": kind} for kind in ARCHITECTURES for name in data)
    return Row(grid, gap, **options)


def opposite(levels: Mapping[str, str]) -> float:
    """Return the gap of an architecture that is 2 noises above on wiki, and 2 noises below on other data."""
    return crossed(levels) + (levels["architecture"] == "mamba") * (2.0 if levels["data"] == "wiki" else -2.0)


TREND_ROWS = {
    "no trend": _rates(lambda levels: 0.0),
    "no trend, 3 runs": _rates(lambda levels: 0.0, runs=3),
    "no trend, 1 run": _rates(lambda levels: 0.0, runs=1),
    "no trend, seeds t(3)": _rates(lambda levels: 0.0, noise=heavy_tails),
    ".4 noises a doubling": _rates(lambda levels: 0.4 * doublings(levels)),
    ".4 noises a doubling, 3 runs": _rates(lambda levels: 0.4 * doublings(levels), runs=3),
    ".8 noises a doubling, 3 runs": _rates(lambda levels: 0.8 * doublings(levels), runs=3),
    ".8 noises a doubling, 1 run": _rates(lambda levels: 0.8 * doublings(levels), runs=1),
    "bent: .5 noises a squared doubling": _rates(lambda levels: 0.5 * doublings(levels) ** 2),
}
INTERACTION_ROWS = {
    "2 x 2, additive": _grid(lambda levels: crossed(levels, by_architecture=2.0)),
    "2 x 2, additive, 3 runs": _grid(lambda levels: crossed(levels, by_architecture=2.0), runs=3),
    "2 x 2, additive, seeds t(3)": _grid(lambda levels: crossed(levels, by_architecture=2.0), noise=heavy_tails),
    "3 x 2, additive": _grid(lambda levels: crossed(levels, by_architecture=2.0), DATA),
    "2 x 2, +2 and -2 noises": _grid(opposite),
    "2 x 2, +2 and -2 noises, 3 runs": _grid(opposite, runs=3),
    "3 x 2, +2, -2 and -2 noises": _grid(opposite, DATA),
}
ROWS = TREND_ROWS | INTERACTION_ROWS


def compared(row: Row, generator: np.random.Generator) -> dict[str, FactorComparison]:
    """Draw one study of a row, and return its comparisons by factor."""
    cells = []
    for levels in row.settings:
        reach = 2.5 + (generator.uniform(-0.1, 0.5) if cells else 0.0)
        x = np.geomspace(5.0, reach, CHECKPOINTS) + generator.normal(0, 0.02, (row.runs, 1))
        y = line(x) + row.gap(levels) * NOISE + row.noise(generator, x.shape)
        cells.append(_cell(levels, x, y))
    return {item.factor: item for item in compare_setting_lines(cells, row.settings[0])}


def _cell(levels: dict[str, str], x_RC: np.ndarray, y_RC: np.ndarray) -> SettingLine:
    x, y = x_RC.ravel(), y_RC.ravel()
    runs = np.repeat([f"{'-'.join(levels.values())}:{k}" for k in range(x_RC.shape[0])], CHECKPOINTS)
    fit = fit_line(x, y, runs, num_starts=8, level=None)
    resamples = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100)
    return SettingLine(Setting(levels), x, y, runs, fit, resamples)


def table(options: argparse.Namespace) -> str:
    """Return two markdown tables, in which each share has its standard error."""
    names = list(ROWS) if options.rows is None else options.rows
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    number = options.studies or STUDIES
    trends = ("trend", "n", "rises %", "falls %", "flat %", "cannot %", "slope held %", "bend told %", "levels move %",
              "rises, no level moves %")  # fmt: skip
    interactions = ("interaction", "n", "told in a study %", "sign told %", "gap of each level held %",
                    "mean moves %", "told with it %")  # fmt: skip
    lines = []
    for head, rows, cells in ((trends, TREND_ROWS, _trend_cells), (interactions, INTERACTION_ROWS, _interaction_cells)):
        chosen = [name for name in names if name in rows]
        lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"] if chosen else []
        for name in chosen:
            generator = np.random.Generator(np.random.PCG64([options.seed, 19, list(ROWS).index(name)]))
            studies = [compared(rows[name], generator) for _ in range(number)]
            lines.append(f"| {' | '.join([name, str(number), *cells(rows[name], studies)])} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def _trend_cells(row: Row, studies: list[dict[str, FactorComparison]]) -> list[str]:
    factors = [study["rate"] for study in studies]
    trends = [factor.trend for factor in factors if factor.trend is not None]
    verdicts = Counter(trend.verdict for trend in trends)
    doubled = {"rate": str(2 * float(RATES[0]))}
    true_slope = row.gap(doubled) * NOISE  # of a straight truth
    alone = [
        trend.verdict in ("rises", "falls") and all(level.verdict != "moves" for level in factor.levels)
        for factor, trend in zip(factors, trends, strict=True)
    ]
    return [
        *(share([trend.verdict == verdict for trend in trends]) for verdict in ("rises", "falls", "flat")),
        share([trend.verdict == "cannot tell" for trend in trends]),
        share([trend.interval[0] < true_slope < trend.interval[1] for trend in trends]),
        share([trend.p_bend is not None and trend.p_bend < 0.05 for trend in trends]),
        share([level.verdict == "moves" for factor in factors for level in factor.levels]),
        share(alone) if verdicts else "-",
    ]


def _interaction_cells(row: Row, studies: list[dict[str, FactorComparison]]) -> list[str]:
    told = [any(item.found for factor in study.values() for item in factor.interactions) for study in studies]
    held, signs, moves, with_it = [], [], [], []
    for study in studies:
        factor = study["architecture"]
        of_mamba = [item for item in factor.interactions if item.other_factor == "data"]
        signs.append(any(item.found and item.changes_sign for item in of_mamba))
        moves.append(factor.verdict == "moves")
        if moves[-1]:
            with_it.append(any(item.found for item in of_mamba))
        for item in of_mamba:
            for gap in item.gaps:
                levels = {"data": gap.level, "architecture": "mamba"}
                truth = (row.gap(levels) - row.gap(levels | {"architecture": "gpt"})) * NOISE
                held.append(gap.interval[0] < truth < gap.interval[1])
    return [share(told), share(signs), share(held), share(moves), share(with_it)]


def share(values: list[bool]) -> str:
    """Return the share of true values in %, with its standard error. Studies count as independent."""
    if not values:
        return "-"
    mean = float(np.mean(values))
    return f"{100 * mean:.1f}±{100 * np.sqrt(mean * (1 - mean) / len(values)):.1f}"
