"""Measure verdicts of the line comparison on planted studies that break its assumptions.

A study is a base and six settings in four factors, with ten checkpoints a run. Each row is drawn twice: with no gap
between the base and other data, and with a gap of three noises. The row counts the verdicts on the factor with the gap
and on the other factors.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.far_runs import far_runs
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.tables.copies import find_copies
from lossline_jax.fit.tables.settings import Setting

BASE = {"data": "web", "size": "m", "context": "short", "optimiser": "adamw"}
OTHERS = (
    ("data", "code"),
    ("size", "s"),
    ("size", "l"),
    ("context", "long"),
    ("optimiser", "lion"),
    ("optimiser", "sgd"),
)
CHECKPOINTS = 10
SEEDS = POINTS = 0.01  # standard deviation of a run about its line, and of a checkpoint about its run
NOISE = float(np.hypot(SEEDS, POINTS / np.sqrt(CHECKPOINTS)))  # standard deviation of the mean of a run
GAP = 3 * NOISE
NOISE_IN_X = 0.02  # standard deviation of a checkpoint
SLOPE = 1.5  # of the line over the losses that runs reach; noise in x is noise of SLOPE times as much in y
STUDIES = 60


@dataclass
class PlantedSetting:
    """The losses (runs, checkpoints) of one setting, which the condition of a row may change."""

    levels: dict[str, str]
    x: np.ndarray
    y: np.ndarray


def line(x: np.ndarray) -> np.ndarray:
    return 0.9 * (x - 1.5) ** 1.3 + 1.1


# (generator, (runs, checkpoints)) -> deviations from the line
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Change = Callable[[list[PlantedSetting], np.random.Generator], None]


def usual_noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw normal noise of seeds, plus normal noise of checkpoints."""
    return SEEDS * generator.normal(size=(shape[0], 1)) + POINTS * generator.normal(size=shape)


def heavy_tails(generator, shape):
    """Draw seeds from Student's t with three degrees of freedom and the usual variance."""
    return SEEDS * generator.standard_t(3, (shape[0], 1)) / np.sqrt(3) + POINTS * generator.normal(size=shape)


def autocorrelated_noise(generator, shape):
    """Draw checkpoints that follow an AR(1) process of .95."""
    noise = generator.normal(size=shape)
    for k in range(1, shape[1]):
        noise[:, k] = 0.95 * noise[:, k - 1] + np.sqrt(1 - 0.95**2) * noise[:, k]
    return SEEDS * generator.normal(size=(shape[0], 1)) + POINTS * noise


def shrinking_noise(generator, shape):
    """Draw noise that shrinks within a run, to a tenth at the last checkpoint."""
    scale = np.geomspace(1, 0.1, shape[1])
    return scale / np.sqrt(np.mean(scale**2)) * usual_noise(generator, shape)


def of_a_run(noise: Noise, points: float = 0.0) -> float:
    """Return the standard deviation of a run's mean, which is the true noise of a condition.

    Args:
        noise: the function that draws the noise of the condition.
        points: standard deviation of more noise for each checkpoint.
    """
    generator = np.random.Generator(np.random.PCG64(15))
    drawn = np.var(noise(generator, (20_000, CHECKPOINTS)).mean(1))
    return float(np.sqrt(drawn + points**2 / CHECKPOINTS))


def divergence(name: str) -> Change:
    """Make the first run of a setting leave its line after half of its checkpoints, and end .3 above it."""

    def change(study: list[PlantedSetting], generator: np.random.Generator) -> None:
        half = CHECKPOINTS // 2
        _setting_named(study, name).y[0, half:] += 0.3 * np.arange(1, half + 1) / half

    return change


def outlier(name: str) -> Change:
    """Move the first run of a setting eight noises off its line, above or below."""

    def change(study: list[PlantedSetting], generator: np.random.Generator) -> None:
        _setting_named(study, name).y[0] += 8 * NOISE * generator.choice([-1, 1])

    return change


def copy_runs(study: list[PlantedSetting], generator: np.random.Generator) -> None:
    """Repeat every run under a second name."""
    for setting in study:
        setting.x, setting.y = np.tile(setting.x, (2, 1)), np.tile(setting.y, (2, 1))


def little_overlap(study: list[PlantedSetting], generator: np.random.Generator) -> None:
    """Move the base so that only four of its checkpoints reach the losses of the other settings."""
    base = study[0]
    low = np.sort(base.x.mean(0))[CHECKPOINTS - 4]
    base.y += line(base.x * low / base.x.min()) - line(base.x)
    base.x *= low / base.x.min()


def noise_in_x(study: list[PlantedSetting], generator: np.random.Generator) -> None:
    """Add normal noise to x."""
    for setting in study:
        setting.x = setting.x + NOISE_IN_X * generator.normal(size=setting.x.shape)


def cross_lines(study: list[PlantedSetting], generator: np.random.Generator) -> None:
    """Turn the line of other data, so that its ends lie ten noises below and above the base. The mean gap is zero."""
    code = _setting_named(study, "code")
    code.y += np.linspace(-1, 1, CHECKPOINTS) * 10 * NOISE


def _setting_named(study: list[PlantedSetting], name: str) -> PlantedSetting:
    return study[0] if name == "base" else next(setting for setting in study if name in setting.levels.values())


@dataclass(frozen=True)
class Row:
    """A row of the table: one condition that studies are drawn under."""

    runs: tuple[int, int] = (5, 5)  # (runs of the base, runs of every other setting)
    noise: Noise = usual_noise
    changes: tuple[Change, ...] = ()
    levels: int = 1  # of the data, without that of the base
    far: str = ""  # the setting whose first run is far from its line; empty: there is none
    settings: tuple[tuple[str, str], ...] = field(default=OTHERS)
    gap: float = GAP

    def draw(self, generator: np.random.Generator, gap: float) -> list[PlantedSetting]:
        more = tuple(("data", f"code{k}") for k in range(2, self.levels + 1))
        study = [self._setting(generator, BASE, self.runs[0], 0.0)]
        for factor, level in (*self.settings, *more):
            setting_gap = gap if level == "code" else 0.0
            study.append(self._setting(generator, BASE | {factor: level}, self.runs[1], setting_gap))
        for change in self.changes:
            change(study, generator)
        return study

    def _setting(self, generator, levels: dict[str, str], num_runs: int, gap: float) -> PlantedSetting:
        reach = 2.5 + (0.0 if levels == BASE else generator.uniform(-0.1, 0.5))
        x = np.geomspace(5.0, reach, CHECKPOINTS) + generator.normal(0, 0.02, (num_runs, 1))
        return PlantedSetting(levels, x, line(x) + gap + self.noise(generator, x.shape))


ROWS = {
    "as the claim was made": Row(),
    "seeds t(3)": Row(noise=heavy_tails),
    "checkpoints AR(1) .95": Row(noise=autocorrelated_noise, gap=3 * of_a_run(autocorrelated_noise)),
    "noise shrinks tenfold": Row(noise=shrinking_noise, gap=3 * of_a_run(shrinking_noise)),
    "overlap of four points": Row(changes=(little_overlap,)),
    "six levels": Row(levels=6),
    "noise in x": Row(changes=(noise_in_x,), gap=3 * of_a_run(usual_noise, NOISE_IN_X * SLOPE)),
    "diverged run, base": Row(changes=(divergence("base"),), far="base"),
    "diverged run, level": Row(changes=(divergence("code"),), far="code"),
    "outlier, base": Row(changes=(outlier("base"),), far="base"),
    "outlier, level": Row(changes=(outlier("code"),), far="code"),
    "outliers, base and level": Row(changes=(outlier("base"), outlier("code")), far="base"),
    "copies, 3 x 2": Row(runs=(3, 3), changes=(copy_runs,)),
    "3 against 3": Row(runs=(3, 3)),
    "5 against 1": Row(runs=(5, 1)),
    "1 against 5": Row(runs=(1, 5)),
    "2 against 2": Row(runs=(2, 2)),
    "1 against 1": Row(runs=(1, 1)),
    "crossing lines": Row(changes=(cross_lines,), gap=0.0),
    "one run ends .1 higher": Row(settings=OTHERS[:1], far="base", gap=0.031, changes=(
        lambda study, generator: study[0].y.__setitem__(0, study[0].y[0] + np.linspace(0, 0.1, CHECKPOINTS)),
    )),
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A study after the comparison. It has no factors where the comparison refuses the study."""

    factors: tuple[FactorComparison, ...]
    named: frozenset[str]  # runs named as far from the line of their setting
    gap: float  # the planted gap


def judge(studies: Sequence[list[PlantedSetting]], gap: float) -> list[Judged]:
    """Fit and compare the lines of studies with one planted gap. The lines of all studies are fitted together."""
    lines = [[_points(setting) for setting in study] for study in studies]
    data = [DataSet({"x": x}, y, clusters=runs) for study in lines for x, y, runs in study]
    fits = iter(fit_law_many(SHIFTED_POWER, data, objective=LEAST_SQUARES, num_starts=8))
    judged = []
    for study, points in zip(studies, lines, strict=True):
        cells = [
            _cell(setting, *arrays, next(fits), first=k == 0)
            for k, (setting, arrays) in enumerate(zip(study, points, strict=True))
        ]
        if _has_copies(study):
            judged.append(Judged((), frozenset(), gap))
            continue
        named = frozenset(run for far in far_runs(cells) for run in far.run_ids)
        judged.append(Judged(compare_setting_lines(cells, BASE), named, gap))
    return judged


def _name(setting: PlantedSetting, run: int) -> str:
    return f"{'-'.join(setting.levels.values())}:{run}"


def _points(setting: PlantedSetting) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and the run of each point."""
    runs = np.repeat([_name(setting, k) for k in range(setting.x.shape[0])], setting.x.shape[1])
    return setting.x.ravel(), setting.y.ravel(), runs


def _cell(
    setting: PlantedSetting, x: np.ndarray, y: np.ndarray, runs: np.ndarray, fit: FitResult, *, first: bool
) -> SettingLine:
    """Return the line of a setting. Only that of the base (`first`) is resampled, as a reference line."""
    resamples = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100) if first else None
    return SettingLine(Setting(setting.levels), x, y, runs, fit, resamples)


def _has_copies(study: list[PlantedSetting]) -> bool:
    if all(np.unique(setting.y, axis=0).shape == setting.y.shape for setting in study):
        return False
    rows = [
        (k, _name(setting, run), x, y)
        for k, setting in enumerate(study)
        for run in range(setting.x.shape[0])
        for x, y in zip(setting.x[run], setting.y[run], strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["setting", "run", "x", "y"])
    return any(copy.is_certain for copy in find_copies(frame, "run", ("x", "y"), ("setting",)))


def table(options: argparse.Namespace) -> str:
    """Return a markdown table, in which each share has its standard error."""
    names = list(ROWS) if options.rows is None else options.rows
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    number = options.studies or STUDIES
    head = (
        "condition", "n", "refused", "equal %", "crosses %", "cannot %", "moves %", "any %",
        "gap: found / cannot / crosses / equal %", "covers %", "noise / true", "run named %", "other run named %",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        lines.append(f"| {' | '.join(_row_cells(name, ROWS[name], number, options.seed))} |")
        print(lines[-1], flush=True)
    return "\n".join(["", *lines])


def _row_cells(name: str, row: Row, number: int, seed: int) -> list[str]:
    generator = np.random.Generator(np.random.PCG64([seed, 15, list(ROWS).index(name)]))
    null, planted = (judge([row.draw(generator, gap) for _ in range(number)], gap) for gap in (0.0, row.gap))
    studies = [*null, *planted]
    data_verdicts = [next((item.verdict for item in study.factors if item.factor == "data"), "") for study in planted]
    equal_verdicts = [
        factor.verdict
        for study in studies
        for factor in study.factors
        if factor.factor != "data" or (study.gap == 0 and row.gap > 0)
    ]
    covered = [
        level.interval[0] < study.gap < level.interval[1]
        for study in studies
        for factor in study.factors
        for level in factor.levels
        if level.level == "code" and level.interval is not None
    ]
    far = ""
    if row.far:
        far = _name(row.draw(generator, 0.0)[0 if row.far == "base" else 1], 0)
    shares = [
        share_text([verdict == counted_verdict for verdict in equal_verdicts])
        for counted_verdict in ("does not move", "crosses", "cannot tell", "moves")
    ]
    gaps = " / ".join(
        share_text([verdict == counted_verdict for verdict in data_verdicts if verdict])
        for counted_verdict in ("moves", "cannot tell", "crosses", "does not move")
    )
    return [
        name,
        str(number),
        f"{sum(not study.factors for study in studies)} of {len(studies)}",
        *shares,
        share_text([any(factor.verdict == "moves" for factor in study.factors) for study in null if study.factors]),
        gaps,
        share_text(covered),
        _noise_text(studies, row.gap / 3 if row.gap else NOISE),
        share_text([far in study.named for study in studies]) if far else "-",
        share_text([bool(study.named - {far}) for study in studies]),
    ]


def _noise_text(studies: list[Judged], true_noise: float) -> str:
    """Return the noise of the factor with the gap over the true noise, as `1.02 (.85-1.20)`: median, quartiles."""
    noises = [item.noise for study in studies for item in study.factors if item.factor == "data" and item.noise]
    if not noises:
        return "-"
    low, middle, high = np.quantile(np.array(noises) / true_noise, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def share_text(values: list[bool]) -> str:
    """Return the share of true values in %, as `91.0±3.0`, with its standard error.

    Studies count as independent, and so do the factors of one study.
    """
    if not values:
        return "-"
    share = float(np.mean(values))
    return f"{100 * share:.1f}±{100 * np.sqrt(share * (1 - share) / len(values)):.1f}"
