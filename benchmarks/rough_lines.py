"""Verdicts of the line comparison on planted studies that are not as its tests assume.

A study is a base and six settings in four factors, ten checkpoints a run. A row is drawn with no gap and with one of
three noises between the base and other data, and counts what is said of the factor with the gap and of the others.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.far_runs import far_runs
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.tables.copies import find_copies

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
SEEDS = POINTS = 0.01  # standard deviations of a run about its line, and of a checkpoint about its run
NOISE = float(np.hypot(SEEDS, POINTS / np.sqrt(CHECKPOINTS)))  # of the mean of a run
GAP = 3 * NOISE
NOISE_IN_X = 0.02
SLOPE = 1.5  # of the line over the losses that runs reach: noise in x comes to so much in y
STUDIES = 60


@dataclass
class Setting:
    """Losses (runs, checkpoints) of one setting before they are compared; a condition changes them."""

    levels: dict[str, str]
    x: np.ndarray
    y: np.ndarray


def line(x: np.ndarray) -> np.ndarray:
    return 0.9 * (x - 1.5) ** 1.3 + 1.1


Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]  # (runs, checkpoints) about the line
Change = Callable[[list[Setting], np.random.Generator], None]


def usual(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise of seeds, plus normal noise of checkpoints."""
    return SEEDS * generator.normal(size=(shape[0], 1)) + POINTS * generator.normal(size=shape)


def heavy_tails(generator, shape):
    """Seeds of Student's t with three degrees of freedom and the usual variance."""
    return SEEDS * generator.standard_t(3, (shape[0], 1)) / np.sqrt(3) + POINTS * generator.normal(size=shape)


def autocorrelated(generator, shape):
    """Checkpoints that follow each other, AR(1) of .95."""
    noise = generator.normal(size=shape)
    for k in range(1, shape[1]):
        noise[:, k] = 0.95 * noise[:, k - 1] + np.sqrt(1 - 0.95**2) * noise[:, k]
    return SEEDS * generator.normal(size=(shape[0], 1)) + POINTS * noise


def shrinking(generator, shape):
    """The noise of a run at its last checkpoint is a tenth of that at its first."""
    scale = np.geomspace(1, 0.1, shape[1])
    return scale / np.sqrt(np.mean(scale**2)) * usual(generator, shape)


def of_a_run(noise: Noise, points: float = 0.0) -> float:
    """Standard deviation of a run's mean: the true noise of a condition; `points` more for each checkpoint."""
    generator = np.random.Generator(np.random.PCG64(15))
    drawn = np.var(noise(generator, (20_000, CHECKPOINTS)).mean(1))
    return float(np.sqrt(drawn + points**2 / CHECKPOINTS))


def diverged(name: str) -> Change:
    """The first run leaves its line after half of its checkpoints and ends .3 above it."""

    def change(study: list[Setting], generator: np.random.Generator) -> None:
        half = CHECKPOINTS // 2
        _named(study, name).y[0, half:] += 0.3 * np.arange(1, half + 1) / half

    return change


def outlier(name: str) -> Change:
    """The first run lies eight noises off its line, above or below."""

    def change(study: list[Setting], generator: np.random.Generator) -> None:
        _named(study, name).y[0] += 8 * NOISE * generator.choice([-1, 1])

    return change


def copied(study: list[Setting], generator: np.random.Generator) -> None:
    for setting in study:
        setting.x, setting.y = np.tile(setting.x, (2, 1)), np.tile(setting.y, (2, 1))


def little_overlap(study: list[Setting], generator: np.random.Generator) -> None:
    """Four checkpoints of the base reach what the other settings reach."""
    base = study[0]
    low = np.sort(base.x.mean(0))[CHECKPOINTS - 4]
    base.y += line(base.x * low / base.x.min()) - line(base.x)
    base.x *= low / base.x.min()


def noise_in_x(study: list[Setting], generator: np.random.Generator) -> None:
    for setting in study:
        setting.x = setting.x + NOISE_IN_X * generator.normal(size=setting.x.shape)


def crossing(study: list[Setting], generator: np.random.Generator) -> None:
    """The ends of the line of other data lie ten noises off the base's, on either side, its mean nowhere."""
    code = _named(study, "code")
    code.y += np.linspace(-1, 1, CHECKPOINTS) * 10 * NOISE


def _named(study: list[Setting], name: str) -> Setting:
    return study[0] if name == "base" else next(each for each in study if name in each.levels.values())


@dataclass(frozen=True)
class Row:
    """A condition."""

    runs: tuple[int, int] = (5, 5)  # of the base, of every other setting
    noise: Noise = usual
    changes: tuple[Change, ...] = ()
    levels: int = 1  # of the data, beside the base's
    far: str = ""  # the setting whose first run is far from its line
    settings: tuple[tuple[str, str], ...] = field(default=OTHERS)
    gap: float = GAP

    def draw(self, generator: np.random.Generator, gap: float) -> list[Setting]:
        more = tuple(("data", f"code{k}") for k in range(2, self.levels + 1))
        study = [self._setting(generator, BASE, self.runs[0], 0.0)]
        for factor, level in (*self.settings, *more):
            moved = gap if level == "code" else 0.0
            study.append(self._setting(generator, BASE | {factor: level}, self.runs[1], moved))
        for change in self.changes:
            change(study, generator)
        return study

    def _setting(self, generator, levels: dict[str, str], num_runs: int, gap: float) -> Setting:
        reach = 2.5 + (0.0 if levels == BASE else generator.uniform(-0.1, 0.5))
        x = np.geomspace(5.0, reach, CHECKPOINTS) + generator.normal(0, 0.02, (num_runs, 1))
        return Setting(levels, x, line(x) + gap + self.noise(generator, x.shape))


ROWS = {
    "as the claim was made": Row(),
    "seeds t(3)": Row(noise=heavy_tails),
    "checkpoints AR(1) .95": Row(noise=autocorrelated, gap=3 * of_a_run(autocorrelated)),
    "noise shrinks tenfold": Row(noise=shrinking, gap=3 * of_a_run(shrinking)),
    "overlap of four points": Row(changes=(little_overlap,)),
    "six levels": Row(levels=6),
    "noise in x": Row(changes=(noise_in_x,), gap=3 * of_a_run(usual, NOISE_IN_X * SLOPE)),
    "diverged run, base": Row(changes=(diverged("base"),), far="base"),
    "diverged run, level": Row(changes=(diverged("code"),), far="code"),
    "outlier, base": Row(changes=(outlier("base"),), far="base"),
    "outlier, level": Row(changes=(outlier("code"),), far="code"),
    "outliers, base and level": Row(changes=(outlier("base"), outlier("code")), far="base"),
    "copies, 3 x 2": Row(runs=(3, 3), changes=(copied,)),
    "3 against 3": Row(runs=(3, 3)),
    "5 against 1": Row(runs=(5, 1)),
    "1 against 5": Row(runs=(1, 5)),
    "2 against 2": Row(runs=(2, 2)),
    "1 against 1": Row(runs=(1, 1)),
    "crossing lines": Row(changes=(crossing,), gap=0.0),
    "one run ends .1 higher": Row(settings=OTHERS[:1], far="base", gap=0.031, changes=(
        lambda study, generator: study[0].y.__setitem__(0, study[0].y[0] + np.linspace(0, 0.1, CHECKPOINTS)),
    )),
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A study as the comparison sees it; without factors where it refuses the study."""

    factors: tuple[FactorComparison, ...]
    named: frozenset[str]
    gap: float


def judged(study: list[Setting], gap: float) -> Judged:
    if _has_copies(study):
        return Judged((), frozenset(), gap)
    cells = [_cell(setting, first=k == 0) for k, setting in enumerate(study)]
    named = frozenset(run for far in far_runs(cells) for run in far.run_ids)
    return Judged(compare_setting_lines(cells, BASE), named, gap)


def _name(setting: Setting, run: int) -> str:
    return f"{'-'.join(setting.levels.values())}:{run}"


def _cell(setting: Setting, first: bool) -> SettingLine:
    """Only the line of the base is held against others, so only that one is resampled."""
    x, y = setting.x.ravel(), setting.y.ravel()
    runs = np.repeat([_name(setting, k) for k in range(setting.x.shape[0])], CHECKPOINTS)
    fit = fit_line(x, y, runs, num_starts=8, level=None)
    resamples = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=100) if first else None
    return SettingLine(setting.levels, x, y, runs, fit, resamples)


def _has_copies(study: list[Setting]) -> bool:
    rows = [
        (k, _name(setting, run), x, y)
        for k, setting in enumerate(study)
        for run in range(setting.x.shape[0])
        for x, y in zip(setting.x[run], setting.y[run], strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["setting", "run", "x", "y"])
    return any(copy.is_certain for copy in find_copies(frame, "run", ("x", "y"), ("setting",)))


def table(options: argparse.Namespace) -> str:
    """A markdown table, each share with its standard error."""
    names = list(ROWS) if options.rows is None else options.rows
    if unknown := [name for name in names if name not in ROWS]:
        raise SystemExit(f"--rows: no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    number = options.studies or STUDIES
    head = (
        "condition", "n", "refused", "equal %", "crosses %", "cannot %", "moves %", "any %",
        "gap: found / cannot / crosses / equal %", "covers %", "run named %", "other run named %",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        lines.append(f"| {' | '.join(_told(name, ROWS[name], number, options.seed))} |")
        print(lines[-1], flush=True)
    return "\n".join(["", *lines])


def _told(name: str, row: Row, number: int, seed: int) -> list[str]:
    generator = np.random.Generator(np.random.PCG64([seed, 15, list(ROWS).index(name)]))
    found = [judged(row.draw(generator, gap), gap) for gap in (0.0, row.gap) for _ in range(number)]
    null, planted = found[:number], found[number:]
    code = [_of(each, "data") for each in planted]
    equal = [
        factor.verdict
        for each in found
        for factor in each.factors
        if factor.factor != "data" or (each.gap == 0 and row.gap > 0)
    ]
    covered = [
        level.interval[0] < each.gap < level.interval[1]
        for each in found
        for factor in each.factors
        for level in factor.levels
        if level.level == "code" and level.interval is not None
    ]
    far = ""
    if row.far:
        far = _name(row.draw(generator, 0.0)[0 if row.far == "base" else 1], 0)
    shares = [
        _share([verdict == word for verdict in equal]) for word in ("does not move", "crosses", "cannot tell", "moves")
    ]
    gaps = " / ".join(
        _share([verdict == word for verdict in code if verdict])
        for word in ("moves", "cannot tell", "crosses", "does not move")
    )
    return [
        name,
        str(number),
        f"{sum(not each.factors for each in found)} of {len(found)}",
        *shares,
        _share([any(factor.verdict == "moves" for factor in each.factors) for each in null if each.factors]),
        gaps,
        _share(covered),
        _share([far in each.named for each in found]) if far else "-",
        _share([bool(each.named - {far}) for each in found]),
    ]


def _of(each: Judged, factor: str) -> str:
    return next((item.verdict for item in each.factors if item.factor == factor), "")


def _share(values: list[bool]) -> str:
    """`91±3`; studies are taken for independent, factors of one study too."""
    if not values:
        return "-"
    share = float(np.mean(values))
    return f"{100 * share:.1f}±{100 * np.sqrt(share * (1 - share) / len(values)):.1f}"
