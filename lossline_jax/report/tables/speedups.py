"""The speedups as a table: a row for each level, with a verdict and a number on each loss."""

from collections.abc import Mapping, Sequence

from lossline_jax.fit.speedup.speedups import FactorSpeedup, LevelSpeedup
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import p_text, ratio_text
from lossline_jax.report.content.wording import NONE
from lossline_jax.report.figures.plot import swatch
from lossline_jax.report.figures.style import Style, factor_name, factor_rank
from lossline_jax.report.tables.table import Cell, Column, Table

DECISIVE = ("saves compute", "costs compute", "depends")


def speedups_table(
    speedups: Sequence[FactorSpeedup], styles: Mapping[tuple[str, str], Style], names: Mapping[tuple[str, str], str]
) -> Table:
    """Return the table: a row for each factor, and below it a row for each level.

    Args:
        speedups: one item for each factor and loss.
        styles: the style of each level, by (factor, level).
        names: the level as readers see it, by (factor, level).
    """
    losses = list(dict.fromkeys((item.loss, item.unit) for item in speedups))
    columns = [Column("factor", "level")]
    for loss, unit in losses:
        columns += [
            Column(f"compute at equal {loss}", unit_label(unit) if unit else ""),
            Column("speedup", "90% interval", numeric=True),
            Column("p", "noise share", numeric=True),
        ]
    columns.append(Column("runs", "vs reference", numeric=True))
    by_factor: dict[str, dict[str, FactorSpeedup]] = {}
    for item in speedups:
        by_factor.setdefault(item.factor, {})[item.loss] = item
    rows, notes = [], []
    for factor in sorted(by_factor, key=factor_rank):
        of_losses = by_factor[factor]
        first = next(iter(of_losses.values()))
        rows.append(_factor_row(first, len(columns)))
        notes.append(_note([(loss, of_losses.get(loss)) for loss, _ in losses]))
        for name in dict.fromkeys(level.level for item in of_losses.values() for level in item.levels):
            found = [_level(of_losses.get(loss), name) for loss, _ in losses]
            style = swatch(styles.get((factor, name), Style(factor)))
            row = [Cell(names.get((factor, name), name), drawing=style)]
            row += [cell for level in found for cell in _cells(level)]
            rows.append([*row, _runs(found)])
            notes.append(_note([(loss, level) for (loss, _), level in zip(losses, found, strict=True)]))
    return Table("Compute at equal loss", columns, rows, notes=notes)


def _factor_row(item: FactorSpeedup, num_columns: int) -> list[Cell]:
    head = Cell(factor_name(item.factor), f"from {item.reference}", tone="strong")
    return [head, *[Cell()] * (num_columns - 1)]


def _level(item: FactorSpeedup | None, name: str) -> LevelSpeedup | None:
    return next((level for level in item.levels if level.level == name), None) if item else None


def _note(found: Sequence[tuple[str, FactorSpeedup | LevelSpeedup | None]]) -> str:
    """Return the notes on a factor or level; a note that is not the same on all losses begins with its loss."""
    notes = {loss: item.note if item else "" for loss, item in found}
    if len(set(notes.values())) == 1:
        return next(iter(notes.values()))
    return "; ".join(f"{loss}: {note}" for loss, note in notes.items() if note)


def _cells(level: LevelSpeedup | None) -> list[Cell]:
    """Return the verdict, the speedup and the test of a level on one loss."""
    if level is None:
        return [Cell(NONE), Cell(NONE), Cell(NONE)]
    tone = "strong" if level.verdict in DECISIVE else ""
    if level.speedup is None:
        return [Cell(level.verdict, tone=tone), Cell(NONE), Cell(NONE)]
    course = f"{_ratio(level.highest)} to {_ratio(level.lowest)}"
    share = "" if level.noise_share is None else f"{level.noise_share:.2f}"
    pairs = "\n".join(f"{pair.matched_on}: {_ratio(pair.speedup)} {_ends(pair.interval)}" for pair in level.pairs)
    return [
        Cell(level.verdict, course, tone=tone),
        Cell(_ratio(level.speedup), _ends(level.interval), title=pairs),
        Cell(p_text(level.p_holm), share, title="Holm-corrected over levels; noise of a run over the speedup"),
    ]


def _ratio(ratio: float | None) -> str:
    return NONE if ratio is None else ratio_text(ratio)


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{_ratio(interval[0])}, {_ratio(interval[1])}]"


def _runs(found: Sequence[LevelSpeedup | None]) -> Cell:
    known = next((level for level in found if level is not None and level.pairs), None)
    return Cell(NONE) if known is None else Cell(f"{known.num_runs} vs {known.num_reference_runs}")
