"""Format laws and fits of laws as aligned text."""

from collections import Counter
from collections.abc import Mapping

from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import LAWS
from lossline_jax.fit.laws.published_values import PUBLISHED, PUBLISHED_UNITS
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.study.table_laws import LawFits
from lossline_jax.formatting import shown, text_table, titled_list
from lossline_jax.summary.fits import fit_notes, interval_kinds, parameter_text


def laws_text(laws: Mapping[str, Law]) -> str:
    """Return the names and formulas of laws.

    Args:
        laws: laws by name, such as `fit.LAWS`.
    """
    for name, law in laws.items():
        if not isinstance(law, Law):
            raise TypeError(f"show: {name!r} of the dictionary is a {type(law).__name__} and not a law; show it alone")
    return text_table(("law", "formula"), [(law.name, law.formula) for law in laws.values()])


def law_text(law: Law) -> str:
    """Return everything to know about a law before fitting it: formula, inputs, source, parameters, published values.

    Args:
        law: the law.
    """
    rows = []
    for p in law.parameters:
        upper = f"from the {p.below} of the data" if p.below else f"{p.upper:g}"
        rows.append((p.name, p.unit, f"{p.lower:g}", upper, "yes" if p.linear else ""))
    lines = [f"{law.name}: {law.formula}", *(f"  {name}: {meaning}" for name, meaning in law.inputs.items())]
    lines += [f"loss: {law.objective.name}", f"source: {law.source}", *([f"note: {law.note}"] if law.note else [])]
    return "\n".join([*lines, "", text_table(("parameter", "unit", "from", "to", "linear"), rows), *_published(law)])


def _published(law: Law) -> list[str]:
    """Return a block of the values that papers give for the law, with the units in which they hold."""
    if law.name not in PUBLISHED:
        return []
    labels = PUBLISHED[law.name]
    rows = [(label, *(f"{values[name]:.6g}" for name in law.names)) for label, values in labels.items()]
    return ["", f"published values, for {PUBLISHED_UNITS[law.name]}", text_table(("from", *law.names), rows)]


def fit_text(fit: FitResult) -> str:
    """Return the parameters of one fit with their intervals, then its status and the numbers behind it.

    Args:
        fit: the fit.
    """
    formula = f": {LAWS[fit.law].formula}" if fit.law in LAWS else ""
    rows = [(name, *_value_and_interval(fit, name), "held" * (name in fit.fixed)) for name in fit.parameters]
    interval = "interval" if fit.interval_level is None else f"{fit.interval_level:.0%} interval"
    runs = "" if fit.num_runs is None else f" of {fit.num_runs} runs"
    error = "" if fit.rmse is None else f", rmse {fit.rmse:.4g}"
    counts = f"{fit.status}: {fit.num_points} points{runs}, {fit.num_dropped} dropped, {fit.objective_name}{error}"
    table = [text_table(("parameter", "value", interval, ""), rows)] if rows else []
    table += [f"intervals: {fit.conventions[INTERVALS]}"] if INTERVALS in fit.conventions else []
    return "\n".join([f"{fit.law}{formula}", "", *table, counts, *([f"note: {fit.note}"] if fit.note else [])])


def _value_and_interval(fit: FitResult, name: str) -> tuple[str, str]:
    low, high = fit.intervals.get(name, (None, None))
    return f"{fit.parameters[name]:.4g}", "-" if low is None else f"[{low:.4g}, {high:.4g}]"


def law_fits_text(law_fits: LawFits) -> str:
    """Return the parameters with their intervals, one row for each group and output, and then the failures.

    Args:
        law_fits: the law in all groups of a table.
    """
    names = list(dict.fromkeys(name for law_fit in law_fits.fits for name in law_fit.fit.parameters))
    header = ("group", "output", *names, "rmse", "R2", "points", "starts at best", "status")
    rows: list[tuple[object, ...]] = []
    for law_fit in law_fits.fits:
        fit = law_fit.fit
        rows.append(
            (
                law_fit.label,
                law_fit.output,
                *(parameter_text(fit, name) for name in names),
                "-" if fit.rmse is None else f"{fit.rmse:.4g}",
                "-" if fit.r_squared is None else f"{fit.r_squared:.4f}",
                fit.num_points,
                "-" if fit.share_of_starts is None else f"{fit.share_of_starts:.0%}",
                fit.status,
            )
        )
    inputs = ", ".join(f"{name} = {column}" for name, column in law_fits.inputs.items())
    runs = f"runs are those of column {shown(law_fits.runs)}" if law_fits.runs else "rows count as independent runs"
    named = [(" ".join((item.label, item.output)).strip(), item.fit) for item in law_fits.fits]
    kind, kind_lines = interval_kinds(named)
    remark = f"{runs}; {kind}"
    held = ", ".join(f"{name} = {value:g}" for name, value in law_fits.fixed.items())
    remark += f"; held: {held}" if held else ""
    remark += f"; one value in {_sharing(law_fits)}: {', '.join(law_fits.shared)}" if law_fits.shared else ""
    notes = fit_notes((name, fit.note) for name, fit in named)
    table = "\n".join([text_table(header, rows), *map(shown, [*kind_lines, *notes])])
    blocks = [f"{law_fits.law}: {law_fits.formula}   ({shown(inputs)}; {remark})", table]
    return "\n\n".join([*blocks, *titled_list("Not fitted", law_fits.failures)])


def _sharing(law_fits: LawFits) -> str:
    """Return how many groups share a value, in words. A group that cannot be fitted does not."""
    counts = Counter(item.output for item in law_fits.fits if item.fit.has_curve)
    if law_fits.num_groups is None or set(counts.values()) == {law_fits.num_groups}:
        return "all groups"
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} of {law_fits.num_groups} groups"
    numbers = ", ".join(f"{number} for {output}" for output, number in counts.items())
    return f"some of {law_fits.num_groups} groups ({numbers})"
