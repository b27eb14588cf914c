"""Styles for figures that compare levels: each level has one colour and one marker in all figures."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from lossline_jax.fit.study.panels import CELL, EVAL_SET, POOLED, eval_sets, levels_in_order, own_set, runs_of
from lossline_jax.report.content.run_names import BASE, Run
from lossline_jax.report.figures.style import COLOURS, LEVEL_DASHES, PAPER, SEQUENCE_COLOURS, Dashes, MarkStyle, Style

T = TypeVar("T")

ORDERED = ("size", "context_length")  # factors whose levels have an order
COLOUR_NAMES = ("base", "data", "tokenizer", "architecture", "size", "optimiser", "context_length", "other")
MOST_KEYED = 8  # levels of a sequence that a key shows
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "p")


@dataclass(frozen=True)
class LevelStyle:
    """A style for one level, with the same attributes as `style.Style` (see `style.MarkStyle`)."""

    colour_name: str  # in `style.COLOURS`
    marker: str = "o"
    dashes: Dashes = "solid"
    is_filled: bool = True

    @property
    def colour(self) -> str:
        """The light colour, as `#rrggbb`."""
        return COLOURS[self.colour_name][0]

    @property
    def filling(self) -> str:
        """The colour inside the marker."""
        return self.colour if self.is_filled else PAPER


COMMON = LevelStyle("seed", marker="None")  # style of a curve that serves all levels


def level_style(index: int) -> LevelStyle:
    """Return the style of the level with number `index`, from 0.

    After eight levels the colours repeat with other dashes and hollow markers.
    """
    k, turn = index % len(COLOUR_NAMES), index // len(COLOUR_NAMES)
    return LevelStyle(COLOUR_NAMES[k], MARKERS[k], LEVEL_DASHES[turn % len(LEVEL_DASHES)], turn % 2 == 0)


def sequence_style(index: int, count: int) -> LevelStyle:
    """Return the style of level number `index`, from 0, of `count` levels that have an order."""
    last = len(SEQUENCE_COLOURS) - 1
    return LevelStyle(f"sequence-{round(index * last / (count - 1)) if count > 1 else 0}")


def level_styles(
    long: pd.DataFrame, base: Mapping[str, object], runs: Mapping[str, Run]
) -> dict[tuple[str, str], MarkStyle]:
    """Return a style for every level of every factor and for every evaluation set, by (factor, level).

    A level has the style of its runs in all figures. The base's level comes first. More than eight sizes or contexts
    have sequence colours, by their order. The validation set of a corpus has the colour of its data. The styles of
    tasks start from the first colour again, because no panel shows validation sets and tasks together.

    Args:
        long: the losses table as `as_long` gives it.
        base: the level of each factor in the base; empty for a table without a base.
        runs: the runs by id, as `describe_runs` gives them.
    """
    table = runs_of(long)
    known: dict[tuple[str, str], MarkStyle] = {(run.factor, run.level): run.style for run in runs.values()}
    styles: dict[tuple[str, str], MarkStyle] = {}
    for factor in (*CELL, *POOLED):
        levels = levels_in_order(table, factor)
        if factor in ORDERED and len(levels) > len(COLOUR_NAMES):
            styles |= {(factor, level): sequence_style(k, len(levels)) for k, level in enumerate(levels)}
            continue
        levels = sorted(levels, key=lambda level, f=factor: level != str(base.get(f)))
        unused = (style for k in itertools.count() if (style := Style(factor, k)) not in known.values())
        for level in levels:
            is_base = level == str(base.get(factor))
            styles[factor, level] = Style(BASE) if is_base else known.get((factor, level)) or next(unused)
    validation, tasks = eval_sets(long)
    own_sets = {own_set(level, validation): style for (factor, level), style in styles.items() if factor == "data"}
    others = [name for name in validation if name not in own_sets]
    for sets in (others, tasks):
        styles |= {(EVAL_SET, name): level_style(k) for k, name in enumerate(sets)}
    return styles | {(EVAL_SET, name): style for name, style in own_sets.items() if name is not None}


def keyed(levels: Sequence[str], styles: Mapping[tuple[str, str], MarkStyle], factor: str) -> list[str]:
    """Return the levels that a key shows, in the order of their styles. A long sequence is thinned.

    Args:
        levels: the levels that a figure shows.
        styles: the styles by (factor, level), as `level_styles` gives them.
        factor: the factor of the levels.
    """
    order = [level for name, level in styles if name == factor]
    known = sorted(levels, key=order.index)
    return thinned(known) if any("sequence" in styles[factor, level].colour_name for level in known) else known


def thinned(entries: Sequence[T]) -> list[T]:
    """Return at most `MOST_KEYED` of the entries, evenly spread from the first to the last."""
    if len(entries) <= MOST_KEYED:
        return list(entries)
    return [entries[round(k * (len(entries) - 1) / (MOST_KEYED - 1))] for k in range(MOST_KEYED)]
