"""Colour is for the levels that move the line. All other levels are grey in the figures that show the finding."""

from collections.abc import Mapping, Sequence

from lossline_jax.report.content.points import Unit
from lossline_jax.report.content.run_names import BASE, Run
from lossline_jax.report.figures.plot import KeyEntry
from lossline_jax.report.figures.style import Style, factor_name
from lossline_jax.report.tables.verdicts import DIFFERENT, FactorVerdict

GREY = Style("seed")  # of a level for which the study finds no move
GREY_TEXT = "other seeds, and levels without a move"
OPEN = Style("seed", 1)  # of a level for which the study cannot tell: dark grey, hollow and dashed
OPEN_TEXT = "levels for which the study cannot tell"
Level = tuple[str, str]  # a factor, and its level as in the fits


def unit_of_texts(judged: Sequence[FactorVerdict], units: Sequence[Unit]) -> Unit:
    """Return the unit in which the page states its finding. It is the last unit where nothing is compared.

    Args:
        judged: the factors, as `group_by_factor` gives them.
        units: the units of the table, as `units_of` gives them.
    """
    key = judged[0].unit if judged else units[-1].key
    return next(unit for unit in units if unit.key == key)


def _style(run: Run, verdicts: Mapping[Level, str]) -> Style:
    verdict = verdicts.get((run.factor, run.level))
    if run.is_base or verdict in DIFFERENT:
        return run.style
    return OPEN if verdict == "cannot tell" else GREY


def emphasised(runs: Mapping[str, Run], judged: Sequence[FactorVerdict]) -> dict[Level, Style]:
    """Return the style of every level for figures that show the finding: grey for a level that does not move the line.

    A level for which the study cannot tell is dashed grey. Without a comparison every level keeps its colour.

    Args:
        runs: the runs by id, as `describe_runs` gives them.
        judged: the factors, as `group_by_factor` gives them.
    """
    verdicts = {(item.factor, level.level): item.gap(level).verdict for item in judged for level in item.levels}
    return {(run.factor, run.level): _style(run, verdicts) if judged else run.style for run in runs.values()}


def key_of(runs: Mapping[str, Run], judged: Sequence[FactorVerdict]) -> list[KeyEntry]:
    """Return the key of such a figure: the base, each level with a colour and its gap, and one entry for the grey ones.

    Args:
        runs: the runs by id, as `describe_runs` gives them.
        judged: the factors, as `group_by_factor` gives them.
    """
    gaps = {(verdict.factor, level.level): verdict.remark(level) for verdict in judged for level in verdict.levels}
    styles = emphasised(runs, judged)
    entries: dict[Level, KeyEntry] = {}
    for run in runs.values():
        level = run.factor, run.level
        if styles[level] not in (GREY, OPEN) or not judged:
            entries.setdefault(level, KeyEntry(run.style, factor_name(run.factor), run.name, gaps.get(level, "")))
    greys = ((OPEN, OPEN_TEXT), (GREY, GREY_TEXT)) if judged else ()
    return [*entries.values(), *(KeyEntry(style, BASE, text) for style, text in greys if style in styles.values())]
