"""Styles for figures that compare levels: each level has one colour and one marker in all figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from lossline_jax.fit.study.panels import CELL, EVAL_SET, POOLED, eval_sets, levels_in_order, own_set, runs_of
from lossline_jax.report.figures.style import FACTOR_COLOURS, LEVEL_DASHES, PAPER, SEQUENCE_COLOURS, Dashes

T = TypeVar("T")

ORDERED = ("size", "context_length")  # factors whose levels have an order
COLOUR_NAMES = ("base", "data", "tokenizer", "architecture", "size", "optimiser", "context_length", "other")
MOST_KEYED = 8  # levels of a sequence that a key shows
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "p")


@dataclass(frozen=True)
class LevelStyle:
    """A style for one level, with the same attributes as `style.Style` (see `style.MarkStyle`)."""

    colour_name: str  # in `FACTOR_COLOURS` or `SEQUENCE_COLOURS`
    marker: str = "o"
    dashes: Dashes = "solid"
    is_filled: bool = True

    @property
    def colour(self) -> str:
        """The light colour, as `#rrggbb`."""
        return (FACTOR_COLOURS | SEQUENCE_COLOURS)[self.colour_name][0]

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


def level_styles(long: pd.DataFrame, base: Mapping[str, object]) -> dict[tuple[str, str], LevelStyle]:
    """Return a style for every level of every factor and for every evaluation set, by (factor, level).

    The base's level comes first. More than eight sizes or contexts have sequence colours, by their order. The
    validation set of a corpus has the colour of its data. The styles of tasks start from the first colour again,
    because no panel shows validation sets and tasks together.

    Args:
        long: the losses table as `as_long` gives it.
        base: the level of each factor in the base; empty for a table without a base.
    """
    runs = runs_of(long)
    styles = {}
    for factor in (*CELL, *POOLED):
        levels = levels_in_order(runs, factor)
        if factor in ORDERED and len(levels) > len(COLOUR_NAMES):
            styles |= {(factor, level): sequence_style(k, len(levels)) for k, level in enumerate(levels)}
            continue
        levels = sorted(levels, key=lambda level, f=factor: level != str(base.get(f)))
        styles |= {(factor, level): level_style(k) for k, level in enumerate(levels)}
    validation, tasks = eval_sets(long)
    data = [level for factor, level in styles if factor == "data"]
    corpus_sets = [name for level in data if (name := own_set(level, validation)) is not None]
    ordered = dict.fromkeys([*corpus_sets, *validation])
    for sets in (ordered, tasks):
        styles |= {(EVAL_SET, name): level_style(k) for k, name in enumerate(sets)}
    return styles


def keyed(levels: Sequence[str], styles: Mapping[tuple[str, str], LevelStyle], factor: str) -> list[str]:
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
