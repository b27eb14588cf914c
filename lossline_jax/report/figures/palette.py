"""How levels are drawn in figures where the level is what differs: a colour and a marker each, the same everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from lossline_jax.fit.study.panels import CELL, EVAL_SET, POOLED, eval_sets, levels_in_order, own_set, runs_of
from lossline_jax.report.figures.style import FACTOR_COLOURS, LEVEL_DASHES, PAPER, SEQUENCE_COLOURS

T = TypeVar("T")

ORDERED = ("size", "context_length")
COLOUR_NAMES = ("base", "data", "tokenizer", "architecture", "size", "optimiser", "context_length", "other")
MOST_KEYED = 8  # levels of a sequence in a key
MARKERS = ("o", "s", "^", "D", "v", "X", "P", "p")


@dataclass(frozen=True)
class LevelStyle:
    """A colour of the house by name, with what else tells a level from its siblings; read like `style.Style`."""

    colour_name: str
    marker: str = "o"
    dashes: str | tuple = "solid"
    is_filled: bool = True

    @property
    def colour(self) -> str:
        return (FACTOR_COLOURS | SEQUENCE_COLOURS)[self.colour_name][0]

    @property
    def filling(self) -> str:
        return self.colour if self.is_filled else PAPER


COMMON = LevelStyle("seed", marker="None")  # a curve that serves all levels


def level_style(index: int) -> LevelStyle:
    """The style of the level with this number; beyond eight, colours return with other dashes and hollow markers."""
    k, turn = index % len(COLOUR_NAMES), index // len(COLOUR_NAMES)
    return LevelStyle(COLOUR_NAMES[k], MARKERS[k], LEVEL_DASHES[turn % len(LEVEL_DASHES)], turn % 2 == 0)


def sequence_style(index: int, count: int) -> LevelStyle:
    """The style of number `index` of `count` levels that have an order."""
    last = len(SEQUENCE_COLOURS) - 1
    return LevelStyle(f"sequence-{round(index * last / (count - 1)) if count > 1 else 0}")


def level_styles(long: pd.DataFrame, base: Mapping[str, str]) -> dict[tuple[str, str], LevelStyle]:
    """A style for every level of every factor and for every evaluation set, by (factor, level).

    The base's level comes first; more than eight sizes or contexts go by their order instead. The validation set of a
    corpus has the colour of the data that it is of; tasks begin anew, as no panel shows both kinds.
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
    """The levels that a key tells of, in the order of their styles: of a long sequence some."""
    order = [level for name, level in styles if name == factor]
    known = sorted(levels, key=order.index)
    return thinned(known) if any("sequence" in styles[factor, level].colour_name for level in known) else known


def thinned(entries: Sequence[T]) -> list[T]:
    """At most `MOST_KEYED` of some entries, evenly spread from the first to the last."""
    if len(entries) <= MOST_KEYED:
        return list(entries)
    return [entries[round(k * (len(entries) - 1) / (MOST_KEYED - 1))] for k in range(MOST_KEYED)]
