"""Fit a study: runs that differ from the base in one factor, a line each, in both units."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lossline_jax.config import suggestion
from lossline_jax.errors import LosslineError
from lossline_jax.fit.compute import fit_compute_law
from lossline_jax.fit.study_fits import ComputeFit, StudyFits
from lossline_jax.fit.table_fits import Group, fit_groups, line_conventions, plain
from lossline_jax.fit.table_input import (
    RUN,
    UNITS,
    name_checkpoints,
    numeric_losses,
    paired_points,
    require_column,
)
from lossline_jax.table import FACTOR_COLUMNS

BASE = "base"
UNKNOWN = "unknown"  # a factor of an imported model that nobody stated
FACTORS = tuple(name for name in FACTOR_COLUMNS if name != "seed")
COMPUTE_CONVENTIONS = {
    "N": "total parameters, embeddings included",
    "D": "tokens seen",
    "compute points": "every checkpoint; only the last of a run has a fully decayed learning rate",
}
NESTED_SIZE_TOLERANCE = 0.1  # relative difference of parameter counts that still counts as the same size


def fit_study(
    frame: pd.DataFrame,
    x: str,
    y: str,
    base: Mapping[str, Any] | None = None,
    *,
    units: Sequence[str] = tuple(UNITS),
    num_resamples: int = 200,
    seed: int = 0,
) -> StudyFits:
    """Group the runs of a long losses table by the one factor in which they differ from the base.

    Seeds are pooled: those of the base give the noise floor, those of a level its clusters. A run that
    differs in more than one factor is confounded: it is named in `failures`, not compared. One exception, as
    layers of different architectures and embeddings of different tokenizers do not compare: where the size
    label differs too but total or non-embedding parameters are within 10% of the base's, the size counts
    as equal.

    Args:
        frame: rows of `table.LossRow` (any seeds, any checkpoints).
        x, y: evaluation sets on the axes.
        base: value of each factor column of the base (seed is ignored); None: that of the table's first row.
        units: loss columns, a set of lines each.

    Raises:
        LosslineError: a column, set or base that is not there, or a bad loss in every line.
    """
    for name in (*FACTOR_COLUMNS, "run_id", "params_total", "params_non_embedding", "tokens_seen"):
        require_column(frame, name)
    base = _base_factors(frame, base)
    groups_of_runs, confounded = _group_runs(frame, base)
    lines, comparisons, failures = [], [], list(confounded)
    for unit in units:
        groups, absent = _groups(frame, x, y, unit, groups_of_runs, base)
        found = fit_groups(groups, BASE, x, y, unit, num_resamples, seed)
        lines += found[0]
        comparisons += found[1]
        failures += [f"{failure} ({unit})" for failure in (*absent, *found[2])]
    if not lines:
        raise LosslineError(failures[0])
    return StudyFits(
        x=x,
        y=y,
        by=FACTORS,
        units=tuple(units),
        base_label=BASE,
        lines=tuple(lines),
        comparisons=tuple(comparisons),
        compute_fits=tuple(_compute_fits(frame, (x, y), units, failures)),
        failures=tuple(failures),
        conventions=line_conventions(x, y) | COMPUTE_CONVENTIONS,
    )


def _groups(frame, x, y, unit, groups_of_runs, base) -> tuple[list[Group], list[str]]:
    """The points of each group in one unit, and a line for each group without any."""
    points = paired_points(frame, x, y, (), unit=unit, cluster="run_id")
    groups, absent = [], []
    for (factor, level), runs in groups_of_runs.items():
        rows = points[points[RUN].isin(runs)]
        label = f"{factor}={level}" if factor else BASE
        if rows.empty:
            absent.append(f"{label}: no checkpoint has both {x!r} and {y!r}")
            continue
        groups.append(Group(label, factor, level, base | ({factor: level} if factor else {}), rows))
    return groups, absent


def _base_factors(frame: pd.DataFrame, base: Mapping[str, Any] | None) -> dict[str, Any]:
    if base is None:
        return {name: plain(frame[name].iloc[0]) for name in FACTORS}
    if missing := [name for name in FACTORS if name not in base]:
        raise LosslineError(f"the base needs a value for each of {missing}")
    for name in FACTORS:
        known = frame[name].astype(str).unique().tolist()
        if str(base[name]) not in known:
            hint = suggestion(str(base[name]), known)
            raise LosslineError(f"no run has {name} {str(base[name])!r}{hint}; the table has {known[:20]}")
    return {name: plain(base[name]) for name in FACTORS}


def _group_runs(frame: pd.DataFrame, base: Mapping[str, Any]) -> tuple[dict[tuple[str, str], list[str]], list[str]]:
    """Run ids by (factor, level), the base first under ("", ""), and a line for each confounded run."""
    runs = frame.drop_duplicates("run_id")
    differs = {
        row.run_id: [name for name in FACTORS if str(getattr(row, name)) != str(base[name])]
        for row in runs.itertuples()
    }
    base_rows = runs[[not differs[run] for run in runs["run_id"]]]
    if base_rows.empty:
        raise LosslineError(f"no run has all the factors of the base: {dict(base)}")
    groups: dict[tuple[str, str], list[str]] = {("", ""): []}
    confounded = []
    for row in runs.itertuples():
        factors = differs[row.run_id]
        if unknown := [name for name in factors if getattr(row, name) == UNKNOWN]:
            confounded.append(f"run {row.run_id}: its {' and '.join(unknown)} are not known: not compared")
            continue
        if len(factors) == 2 and "size" in factors and _same_size(row, base_rows.iloc[0]):
            factors = [name for name in factors if name != "size"]
        if len(factors) > 1:
            confounded.append(f"run {row.run_id} differs from the base in {' and '.join(factors)}: not compared")
            continue
        key = (factors[0], str(getattr(row, factors[0]))) if factors else ("", "")
        groups.setdefault(key, []).append(str(row.run_id))
    return groups, confounded


def _same_size(row: Any, base: Any) -> bool:
    ratios = [getattr(row, name) / getattr(base, name) for name in ("params_total", "params_non_embedding")]
    return any(abs(ratio - 1) <= NESTED_SIZE_TOLERANCE for ratio in ratios)


def _compute_fits(
    frame: pd.DataFrame, eval_sets: Sequence[str], units: Sequence[str], failures: list[str]
) -> list[ComputeFit]:
    """A compute law for every set of runs that differ in size and seed alone, where there are two sizes."""
    fits = []
    columns = [name for name in FACTORS if name != "size"]
    known = frame[frame["eval_set"].isin(eval_sets) & frame["tokens_seen"].notna()]
    for key, rows in known.groupby(columns, sort=True):
        if rows["params_total"].nunique() < 2:
            continue
        group = {name: plain(value) for name, value in zip(columns, key, strict=True)}
        label = ", ".join(str(value) for value in group.values())
        for eval_set in eval_sets:
            chosen = name_checkpoints(rows[rows["eval_set"] == eval_set])
            for unit in units:
                try:
                    losses = numeric_losses(chosen, unit, eval_set)
                except LosslineError as error:
                    failures.append(f"compute law of {label} ({unit}): {error}")
                    continue
                fit = fit_compute_law(
                    chosen["params_total"],
                    chosen["tokens_seen"],
                    losses,
                    clusters=chosen["run_id"],
                    unit=UNITS[unit],
                )
                fits.append(ComputeFit(label, group, eval_set, unit, fit))
    return fits
