"""The batch is a factor where runs differ in it alone. Where it follows other factors, these are compared as before."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.fit.study.fit_study import Statistics, compare_lines, fit_study

QUICK = Statistics(num_resamples=20)
LATER = {"algorithm": "data-parallel", "objective": "next-token", "sparsity": "dense", "start": "scratch"}


def planted(settings, seeds=3):
    """Return a losses table with a run of each seed in each setting: (levels, gap)."""
    rows = []
    for levels, gap in settings:
        for seed in range(seeds):
            run_id = "-".join(map(str, (*levels.values(), seed)))
            noise = np.random.default_rng([seed, *map(ord, run_id)])
            x = 2.0 + 90 * np.linspace(1e5, 1e6, 10) ** -0.35
            y = 0.8 * (x - 1.0) ** 1.2 + 1.0 + gap + noise.normal(0, 0.002) + noise.normal(0, 0.001, 10)
            facts = {"data": "wiki", "tokenizer": "bpe", "architecture": "llama", "size": "d64-L4", "params_total": 4e5}
            facts |= {"context_length": 128, "optimiser": "adamw", "batch": 2048, **LATER, **levels, "run_id": run_id}
            for name, losses in (("wiki", x), ("cloze", y)):
                rows += [
                    {**facts, "seed": seed, "step": step, "eval_set": name, "nats_per_token": loss, "tokens_seen": step}
                    for step, loss in enumerate(losses)
                ]
    return pd.DataFrame(rows)


BASE = ({}, 0.0)
FOLLOWS = planted([BASE, ({"context_length": 256, "batch": 4096}, 0.1), ({"data": "code"}, -0.2)])
ALONE = planted([BASE, ({"batch": 4096}, 0.1), ({"context_length": 256}, 0.0)])


def verdicts(fits):
    return {comparison.factor: comparison.verdict for comparison in fits.comparisons}


@pytest.mark.parametrize("base", [None, {"context_length": 128, "batch": 2048, "seed": 0}])
def test_a_batch_that_follows_the_context_does_not_hide_the_context(base):
    fits = compare_lines(FOLLOWS, "wiki", "cloze", base, statistics=QUICK)
    assert verdicts(fits)["context_length"] == "moves"
    assert "batch" not in verdicts(fits)
    assert any("batch: no two settings differ in it alone" in note for note in fits.failures)


def test_a_batch_that_differs_alone_is_judged():
    fits = compare_lines(ALONE, "wiki", "cloze", {"batch": 2048}, statistics=QUICK)
    assert verdicts(fits)["batch"] == "moves"
    assert verdicts(fits)["context_length"] != "moves"
    (level,) = next(c for c in fits.comparisons if c.factor == "batch").levels
    assert level.gap == pytest.approx(0.1, abs=0.01)
    assert not any("batch:" in note for note in fits.failures)


def test_a_table_from_before_has_the_same_verdicts_and_figures():
    """It lacks the later columns, which have one level each in the newer table."""
    old = FOLLOWS.drop(columns=["batch", *LATER])
    before, now = (fit_study(table, "wiki", "cloze", statistics=QUICK) for table in (old, FOLLOWS))
    for factor in ("context_length", "data"):
        of_both = [next(c for c in fits.comparisons if c.factor == factor).levels for fits in (before, now)]
        assert of_both[0] == of_both[1]
    lines = [
        {(line.figure, line.factor, line.level, line.run_ids) for line in fits.panel_lines} for fits in (before, now)
    ]
    assert lines[0] == lines[1]


def test_models_without_a_batch_are_compared_where_all_stated_batches_are_equal():
    """The batch of an imported model is not known. A study of one batch still compares it, as before the column."""
    table = planted([BASE, ({"data": "code", "batch": None}, -0.2)])
    fits = fit_study(table, "wiki", "cloze", {"data": "wiki", "batch": 2048}, statistics=QUICK)
    assert verdicts(fits)["data"] == "moves"
    assert not any("batch" in note for note in fits.failures)
    assert {fit.group["data"] for fit in fits.lines} == {"wiki", "code"}
    old = table.drop(columns=["batch", *LATER])
    lines = [len(f.panel_lines) for f in (fits, fit_study(old, "wiki", "cloze", {"data": "wiki"}, statistics=QUICK))]
    assert lines[0] == lines[1] > 0


def test_compute_laws_do_not_need_the_later_columns_nor_divide_by_a_batch_that_follows_the_size():
    sizes = [({}, 0.0), ({"size": "d32-L2", "params_total": 1e5, "batch": 1024}, 0.0)]
    table = planted([*sizes, ({"size": "d128-L4", "params_total": 1e6, "batch": 4096}, 0.0)])
    labels = []
    for frame in (table, table.drop(columns=["batch", *LATER])):
        fits = fit_study(frame, "wiki", "cloze", statistics=QUICK)
        labels.append([(fit.eval_set, fit.label) for fit in fits.compute_fits])
    assert labels[0] == labels[1]
    assert len(labels[0]) == 2
