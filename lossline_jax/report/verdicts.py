"""Which factor moved the line, as a table and as a paragraph."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lossline_jax.fit.lines import LineComparison
from lossline_jax.report.plots import swatch
from lossline_jax.report.points import unit_label, with_unit
from lossline_jax.report.style import Style, factor_name, factor_rank
from lossline_jax.report.tables import Cell, Column, Table
from lossline_jax.report.wording import NONE, interval, listed, number, signed

PER_BYTE = "bits_per_byte"
IN_WORDS = {"moves": "moves the line", "does not move": "does not move it", "cannot tell": "cannot tell"}


@dataclass(frozen=True)
class Judged:
    """One level of a factor: its comparison with the base line in each unit, by the unit's name."""

    factor: str
    level: str
    name: str  # the level as it is shown
    by_unit: Mapping[str, LineComparison]

    @property
    def main(self) -> LineComparison:
        """The comparison that is spoken of: in bits/byte where the token itself differs, else the first."""
        if self.factor == "tokenizer" and PER_BYTE in self.by_unit:
            return self.by_unit[PER_BYTE]
        return next(iter(self.by_unit.values()))

    @property
    def agreed(self) -> bool:
        return len({comparison.verdict for comparison in self.by_unit.values()}) == 1

    @property
    def remark(self) -> str:
        """The mean gap for a key: `−0.399 nats/token`."""
        return with_unit(signed(self.main.gap), self.main.unit) if self.main.gap is not None else ""


def judge(comparisons: Sequence[LineComparison], names: Mapping[tuple[str, str], str]) -> list[Judged]:
    """The comparisons with the units of one level together: factors in the order of the house.

    Args:
        names: (factor, level) -> the level as it is shown.
    """
    levels: dict[tuple[str, str], dict[str, LineComparison]] = {}
    for comparison in comparisons:
        levels.setdefault((comparison.factor, comparison.level), {})[comparison.unit] = comparison
    judged = [
        Judged(factor, level, names.get((factor, level), level), by_unit) for (factor, level), by_unit in levels.items()
    ]
    return sorted(judged, key=lambda item: factor_rank(item.factor))


def verdicts_table(judged: Sequence[Judged], styles: Mapping[tuple[str, str], Style]) -> Table:
    """A row a level: gap with interval in each unit, noise, support, and the verdict in words."""
    units = list(dict.fromkeys(unit for item in judged for unit in item.by_unit))
    columns = [
        Column("level"),
        Column("verdict", prose=True),
        *(Column("gap to base", unit_label(unit), numeric=True) for unit in units),
        Column("gap in noise", "band: margin"),
        Column("noise", "of the verdict's unit", numeric=True),
        Column("runs", numeric=True),
        Column("points", "compared", numeric=True),
    ]
    reach = max((_reach(item.main) for item in judged), default=1.0)
    rows = []
    for item in judged:
        style = styles.get((item.factor, item.level), Style(item.factor))
        rows.append(
            [
                Cell(item.name, factor_name(item.factor), drawing=swatch(style)),
                verdict_cell(item),
                *(_gap_cell(item.by_unit.get(unit)) for unit in units),
                Cell(drawing=forest(item.main, reach, style)),
                Cell(number(item.main.noise, 4), _noise_source(item.main)),
                Cell(NONE if item.main.num_runs is None else str(item.main.num_runs)),
                Cell(f"{item.main.num_points}", f"of {item.main.num_points + item.main.num_points_outside}"),
            ]
        )
    return Table("Gaps to the base line and verdicts", columns, rows)


def _noise_source(comparison: LineComparison) -> str:
    source = "scatter" if comparison.noise == comparison.residual_noise else "seeds"
    return f"{source}, {unit_label(comparison.unit)}"


def _gap_cell(comparison: LineComparison | None) -> Cell:
    if comparison is None or comparison.gap is None:
        return Cell(NONE, title="" if comparison is None else comparison.note)
    ends = comparison.interval or (None, None)
    title = f"{comparison.interval_level:.0%} interval, {comparison.method}"
    return Cell(signed(comparison.gap), interval(*ends), title=title)


def verdict_cell(item: Judged) -> Cell:
    """The verdict; both where the units disagree; below it what to know before believing it."""
    if item.agreed:
        text = IN_WORDS[item.main.verdict]
    else:
        text = "; ".join(f"{IN_WORDS[c.verdict]} in {unit_label(unit)}" for unit, c in item.by_unit.items())
    notes = dict.fromkeys(note for c in item.by_unit.values() for note in c.note.split("; ") if note)
    return Cell(text, "; ".join(notes), tone="strong" if item.main.verdict == "moves" else "")


def _reach(comparison: LineComparison) -> float:
    """How far from zero the drawing of a comparison goes, in noise."""
    ends = [comparison.margin, *(comparison.interval or ())]
    return max(abs(end) for end in ends) / comparison.noise if comparison.noise > 0 else 1.0


def forest(comparison: LineComparison, reach: float, style: Style) -> Markup:
    """The gap with its interval about zero, in multiples of the noise; the margin as a grey band.

    The scale is asinh: linear near zero, logarithmic far out, so that large gaps do not hide small ones.
    """
    if comparison.gap is None or comparison.interval is None or not comparison.noise > 0:
        return Markup()
    half, middle = 64.0, 70.0

    def at(value: float) -> float:
        return middle + half * math.asinh(value / comparison.noise) / math.asinh(reach)

    low, high = (at(end) for end in comparison.interval)
    left, right = at(-comparison.margin), at(comparison.margin)
    colour, label = (
        f"var(--c-{style.colour_name})",
        f"{comparison.gap / comparison.noise:+.1f} times the noise",
    )
    return Markup(
        f'<svg class="forest" viewBox="0 0 140 20" role="img" aria-label="{label}"><title>{label}</title>'
        f'<rect x="{left:.1f}" y="2" width="{right - left:.1f}" height="16" style="fill:var(--grid)"/>'
        f'<path d="M{middle} 0V20" style="stroke:var(--muted)"/>'
        f'<path d="M{low:.1f} 10H{high:.1f}" style="stroke:{colour};stroke-width:2.5"/>'
        f'<circle cx="{at(comparison.gap):.1f}" cy="10" r="4" style="fill:{colour}"/></svg>'
    )


def finding(judged: Sequence[Judged], x: str, y: str, base_note: str) -> str:
    """One paragraph: what moved the line and by how much, what did not, what cannot be told, and why.

    Args:
        base_note: why there is no base line to compare with; empty where there is one.
    """
    if base_note:
        return f"This study cannot tell which factor moves the line of {y} against {x}: {base_note}."
    if not judged:
        return f"This table draws one line of {y} against {x} and has no other level to compare with it."
    parts = [_moved(judged), _same(judged), _open(judged)]
    first = judged[0].main
    if first.seed_noise is None:
        parts.append(
            "The base was not repeated with another seed, so noise is only the scatter of its checkpoints, "
            "and the margin is wider for it."
        )
    return " ".join(part for part in parts if part)


def _names(items: Sequence[Judged]) -> str:
    """`data (speeches, code) and architecture (mamba)`."""
    levels: dict[str, list[str]] = {}
    for item in items:
        levels.setdefault(item.factor, []).append(item.name)
    return listed([f"{factor_name(factor)} ({', '.join(names)})" for factor, names in levels.items()])


def _moved(judged: Sequence[Judged]) -> str:
    movers = sorted((i for i in judged if i.main.verdict == "moves"), key=lambda i: -abs(i.main.ratio or 0.0))
    if not movers:
        return "No factor is seen to move the line."
    factors = list(dict.fromkeys(factor_name(item.factor) for item in movers))
    told = [
        f"{item.name} by {with_unit(signed(item.main.gap), item.main.unit)}"
        + (f" ({abs(item.main.ratio):.0f} times the noise)" if item.main.ratio else "")
        for item in movers
    ]
    verb = "moves" if len(factors) == 1 else "move"
    return f"{_capital(listed(factors))} {verb} the line: {listed(told)}."


def _same(judged: Sequence[Judged]) -> str:
    items = [item for item in judged if item.main.verdict == "does not move"]
    if not items:
        return ""
    margins = {item.main.unit: item.main.margin for item in items}
    within = " and ".join(with_unit(f"±{number(margin)}", unit) for unit, margin in margins.items())
    names = _names(items)
    verb = "stays" if len(items) == 1 else "stay"
    return f"{_capital(names)} {verb} within the margin of {within} about the base line."


def _open(judged: Sequence[Judged]) -> str:
    items = [item for item in judged if item.main.verdict == "cannot tell"]
    texts = [f"For {_names(items)} this study cannot tell."] if items else []
    for item in judged:
        for unit, other in item.by_unit.items():
            if other.verdict != item.main.verdict:
                why = f" ({other.note.split(';')[0]})" if other.gap is None else f" (gap {signed(other.gap)})"
                texts.append(f"In {unit_label(unit)} {_names([item])} reads otherwise: {IN_WORDS[other.verdict]}{why}.")
    return " ".join(texts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
