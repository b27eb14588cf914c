"""The tables of docs/speedup.md are what the package computes, and power laws agree with plain interpolation."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax import fit
from lossline_jax.summary.speedups import interval_text, times_text
from tests.support.paths import ROOT
from tests.support.shared_data import shared_path

PAGE = (ROOT / "docs/speedup.md").read_text()
SHORT = {"saves compute": "saves", "costs compute": "costs"}
TASKS = {
    name: f"eval/downstream_ce_loss/{column}_ce_loss"
    for name, column in (
        ("hellaswag", "hellaswag_test"),
        ("arc_easy", "arc_easy_test"),
        ("mmlu_stem", "mmlu_stem_test"),
        ("imbue_codegen", "imbue_codegen"),
    )
}


def rows_below(heading):
    lines = PAGE.split(heading, 1)[1].split("\n## ", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def numbers(level):
    return f"{times_text(level.speedup)} {interval_text(level.interval)}"


def test_the_table_of_the_cpu_study():
    frame = pd.read_parquet(ROOT / "results/llms_on_the_line_cpu/losses.parquet")
    result = fit.compare_compute(frame, ["wiki", "techdoc_cloze"])
    header, *rows = rows_below("## The CPU study")
    assert header[2] == "speedup on wiki"
    computed = [
        [
            factor.factor,
            level.level,
            *_cells(level),
            *_cells(result.factor(factor.factor, "techdoc_cloze").level(level.level)),
        ]
        for factor in result.factors
        if factor.loss == "wiki"
        for level in factor.levels
    ]
    assert rows == computed
    mamba = result.factor("architecture", "wiki").level("mamba2")
    assert "the other way round" in mamba.note
    assert (round(mamba.highest, 2), round(mamba.lowest, 1)) == (0.63, 1.6)


def of_loss(result, loss):
    return [factor for factor in result.factors if factor.loss == loss]


def _cells(level):
    return [numbers(level), level.verdict]


@pytest.fixture(scope="module")
def sweep():
    return pd.read_csv(shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv")).rename(columns={"id": "run_id"})


@pytest.fixture(scope="module")
def compared(sweep):
    return fit.compare_compute(
        sweep,
        list(TASKS.values()),
        {"data": "fineweb-100b"},
        factors=["data"],
        columns=fit.ComputeColumns("iso_flop"),
        curves=fit.CurveOptions(frontier=True),
    )


def test_the_table_of_the_published_sweep(compared):
    header, *rows = rows_below("## A published sweep")
    assert header[1:] == list(TASKS)
    on_tasks = [compared.factor("data", column) for column in TASKS.values()]
    for corpus, *cells in rows:
        levels = [factor.level(corpus) for factor in on_tasks]
        assert cells == [f"{numbers(level)} {SHORT.get(level.verdict, level.verdict)}" for level in levels]
    assert len(rows) == 5


@pytest.mark.parametrize("task", ["hellaswag", "arc_easy", "mmlu_stem"])
def test_power_laws_agree_with_interpolation_of_the_best_runs(task, sweep, compared):
    best = sweep.groupby(["data", "iso_flop"])[TASKS[task]].min().unstack(0).cummin()
    budgets = np.log(best.index.to_numpy())
    reference = best["fineweb-100b"].to_numpy()
    for level in compared.factor("data", TASKS[task]).levels:
        losses = best[level.level].to_numpy()
        grid = np.linspace(max(losses.min(), reference.min()), min(losses.max(), reference.max()), 50)
        needed, own = (np.interp(-grid, -curve, budgets) for curve in (reference, losses))
        lower = needed >= (needed.min() + needed.max()) / 2
        assert np.log(level.speedup) == pytest.approx((needed - own)[lower].mean(), abs=np.log(1.35))
