"""Parts of the page that are neither figures nor tables: configurations, facts, versions and filters."""

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import pandas as pd
from markupsafe import Markup

from lossline_jax.fit.tables.rows import NOT_STATED, level_text, level_texts
from lossline_jax.formatting import human_count
from lossline_jax.losses.loss_row import FACTOR_COLUMNS
from lossline_jax.report.content.points import final_rows
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.figures.plot import swatch
from lossline_jax.report.figures.style import factor_name

# Packages whose versions the page names.
PACKAGES = ("lossline_jax", "jax", "flax", "numpy", "scipy", "pandas", "matplotlib")


def flat_config(config: Mapping, prefix: str = "") -> dict[str, str]:
    """Flatten a nested configuration: `model.d_model` -> `64`. The class of a part is an item of its own.

    Args:
        config: a part of study.json.
        prefix: text before every name.
    """
    items = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            items |= flat_config(value, f"{path}.")
        else:
            items[path] = value if isinstance(value, str) else json.dumps(value)
    return items


def configurations(runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Return the configuration of each run. Values that differ from the base run are marked."""
    configs = {run_id: flat_config(run.config) for run_id, run in runs.items() if run.config is not None}
    base = next((configs[run_id] for run_id, run in runs.items() if run.is_base and run_id in configs), {})
    return [
        {
            "run_id": run_id,
            "name": runs[run_id].title,
            "swatch": swatch(runs[run_id].style),
            "fields": [
                {"name": name, "value": value, "differs": bool(base) and base.get(name) != value}
                for name, value in items.items()
            ],
        }
        for run_id, items in configs.items()
    ]


def facts(frame: pd.DataFrame, runs: Mapping[str, Run], counted_in: str) -> list[dict[str, str]]:
    """Return the size of the study in a few numbers.

    Args:
        frame: the losses table as `as_long` gives it.
        runs: the runs by id.
        counted_in: "run", or "line" where the table does not tell runs apart.
    """
    last = final_rows(frame).drop_duplicates("run_id")
    values_by_name = {
        f"{counted_in}s": f"{len(runs):,}",
        "checkpoints": f"{len(frame.drop_duplicates(['run_id', 'step'])):,}",
        "evaluation sets": f"{frame['eval_set'].nunique():,}",
    }
    trained_here = [run_id for run_id, run in runs.items() if run.config is not None]
    if trained_here:  # imported models do not count; a table from elsewhere has no such runs, and all of its runs count
        last = last.loc[last["run_id"].isin(trained_here)]
    tokens = last["tokens_seen"].dropna()
    if len(tokens):
        values_by_name["training tokens"] = human_count(float(tokens.to_numpy(float).sum()))
    if "train_flops" in last:
        values_by_name["training FLOPs"] = f"{last['train_flops'].sum():.2g}"
    return [{"name": name, "value": value} for name, value in values_by_name.items()]


def versions() -> str:
    """Return the installed versions of `PACKAGES`, read without importing them."""
    package_texts = []
    for name in PACKAGES:
        try:
            package_texts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            package_texts.append(f"{name} not installed")
    return ", ".join(package_texts) + "."


def filters(frame: pd.DataFrame, runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Return the levels that a reader can filter by, for each factor with two levels or more; the base's level first.

    A level has a swatch where some run differs from the base in this level alone.

    Args:
        frame: the losses table as `as_long` gives it.
        runs: the runs by id.
    """
    table = frame.drop_duplicates("run_id").set_index("run_id").loc[list(runs)]
    styled = {(run.factor, run.level): (run.name, swatch(run.style)) for run in runs.values()}
    base = next((run for run in runs.values() if run.is_base), None)
    factor_filters = []
    for factor in FACTOR_COLUMNS:
        levels = _stated_levels(table, factor)
        if len(levels) > 1:
            known = {level: styled[factor, level] for level in levels if (factor, level) in styled}
            if base is not None:
                level = level_text(table.at[base.run_id, factor])
                known[level] = level, swatch(base.style)
            items = []
            for level in levels:
                name, drawing = known.get(level, (level, ""))
                items.append({"value": level, "name": name, "swatch": drawing})
            factor_filters.append({"factor": factor, "name": factor_name(factor), "levels": items})
    return factor_filters


def _stated_levels(table: pd.DataFrame, factor: str) -> list[str]:
    levels = level_texts(table.loc[:, factor]) if factor in table else ()
    return [level for level in dict.fromkeys(levels) if level not in NOT_STATED]


def factors_json(frame: pd.DataFrame, runs: Mapping[str, Run]) -> Markup:
    """Return the level of every factor by run, as JSON for the page's script."""
    table = frame.drop_duplicates("run_id").set_index("run_id")
    names = [name for name in FACTOR_COLUMNS if name in table]
    levels = {str(run_id): {name: level_text(table.at[run_id, name]) for name in names} for run_id in runs}
    return json_in_page(levels)


def json_in_page(value: Mapping[str, Any]) -> Markup:
    """Return a value as JSON for the page's script. `<` is escaped, so no name can end the script element."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))
