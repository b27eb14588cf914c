"""Parts of the page that are neither figures nor tables."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import pandas as pd

from lossline_jax.fit.study_fits import StudyFits
from lossline_jax.report.plots import swatch
from lossline_jax.report.points import final_rows
from lossline_jax.report.runs import Run
from lossline_jax.units import human_count

PACKAGES = ("lossline_jax", "jax", "flax", "numpy", "scipy", "pandas", "matplotlib")


def flat(config: Mapping, prefix: str = "") -> dict[str, str]:
    """A nested configuration as `model.d_model -> 64`; the class of a part stands under its own path."""
    items = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            items |= flat(value, f"{path}.")
        else:
            items[path] = value if isinstance(value, str) else json.dumps(value)
    return items


def configurations(runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """Each run's configuration, with the values that differ from the base run marked."""
    configs = {run_id: flat(run.config) for run_id, run in runs.items() if run.config is not None}
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
    """The size of the study in a few numbers; `counted_in` as in `line_plot`."""
    last = final_rows(frame).drop_duplicates("run_id")
    found = {
        f"{counted_in}s": f"{len(runs):,}",
        "checkpoints": f"{len(frame.drop_duplicates(['run_id', 'step'])):,}",
        "evaluation sets": f"{frame['eval_set'].nunique():,}",
    }
    trained_here = [run_id for run_id, run in runs.items() if run.config is not None]
    if trained_here:  # else a table that somebody brought: what it says of its runs
        last = last[last["run_id"].isin(trained_here)]
    if last["tokens_seen"].notna().any():
        found["training tokens"] = human_count(float(last["tokens_seen"].sum()))
    if "train_flops" in last:
        found["training FLOPs"] = f"{last['train_flops'].sum():.2g}"
    return [{"name": name, "value": value} for name, value in found.items()]


def download(name: str, content: str, media_type: str, note: str) -> dict[str, str]:
    """A file kept in the page as a data: URI."""
    coded = base64.b64encode(content.encode()).decode("ascii")
    return {"name": name, "uri": f"data:{media_type};charset=utf-8;base64,{coded}", "note": note}


def versions() -> str:
    """The installed versions, read without importing anything."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found) + "."


def downloads(frame: pd.DataFrame, fits: StudyFits) -> list[dict[str, str]]:
    """The losses and the fits behind the page."""
    found = [
        download(
            "losses.csv",
            frame.to_csv(index=False),
            "text/csv",
            f"{len(frame):,} rows, the whole losses table",
        ),
        download("fits.json", json.dumps(fits.to_json(), indent=1), "application/json", "every fit and comparison"),
    ]
    if fits.comparisons:
        gaps = gaps_frame(fits)
        found.insert(
            1,
            download("gaps.csv", gaps.to_csv(index=False), "text/csv", "gaps to the base line and verdicts"),
        )
    return found


def gaps_frame(fits: StudyFits) -> pd.DataFrame:
    """Every comparison: a row a level and unit, the factor's columns repeated."""
    rows = []
    for comparison in fits.comparisons:
        factor = dataclasses.asdict(comparison)
        factor |= {f"factor_{name}": factor.pop(name) for name in ("verdict", "note", "p")}
        for level in factor.pop("levels"):
            low, high = level.pop("interval") or (None, None)
            x_low, x_high = level.pop("support") or (None, None)
            ends = {"interval_low": low, "interval_high": high, "x_low": x_low, "x_high": x_high}
            rows.append(factor | level | ends | {"pairs": json.dumps(level["pairs"])})
    return pd.DataFrame(rows)
