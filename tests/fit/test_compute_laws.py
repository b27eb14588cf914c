"""Compute laws of a study: intervals by budget where each run has one row, and by run where it has checkpoints."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.laws.size_and_tokens import KAPLAN
from lossline_jax.fit.study.compute_laws import fit_compute_laws
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.settings import FACTORS
from lossline_jax.summary.fits import fits_text

pytestmark = pytest.mark.usefixtures("quick_compilation")
SET, UNIT = "wiki", "nats_per_token"
# Both terms are 0.35 at 1e9 parameters and 2e10 tokens.
PLANTED = {"E": 1.7, "A": 1e9 * 0.35 ** (1 / 0.32), "B": 2e10 * 0.35 ** (1 / 0.35), "alpha": 0.32, "beta": 0.35}


def study_table(seed, shared, own, num_checkpoints=1):
    """Return the losses of 30 runs, six at each of five budgets, which share an error of log loss `shared`."""
    generator = np.random.Generator(np.random.PCG64(seed))
    budget = np.repeat(np.arange(5), 6)
    compute = np.geomspace(1e18, 1e21, 5)[budget]
    size = np.sqrt(compute / 120) * np.tile(np.geomspace(0.3, 3.0, 6), 5)
    errors = shared * generator.normal(size=5)[budget] + own * generator.normal(size=30)
    frames = []
    for k in range(1, num_checkpoints + 1):
        tokens = compute / (6 * size) * k / num_checkpoints
        loss = KAPLAN(PLANTED, {"N": size, "D": tokens}) * np.exp(errors)
        columns = {"run_id": [f"run{i}" for i in range(30)], "step": k, "eval_set": SET, "size": size.astype(str)}
        frames.append(pd.DataFrame({**columns, "params_total": size, "tokens_seen": tokens, UNIT: loss}))
    same = {name: "one" for name in FACTORS if name != "size"}
    return pd.concat(frames, ignore_index=True).assign(**same)


def law_of(frame):
    (law,), notes = fit_compute_laws(frame, [SET], [UNIT])
    assert notes == []
    return law


def plain_fit(frame):
    return fit_compute_law(frame[UNIT], N=frame["params_total"], D=frame["tokens_seen"])


def text_of(*laws):
    fits = StudyFits(x=SET, y="task", by=(), units=(UNIT,), base_label=None, lines=(), compute_fits=laws)
    return fits_text(fits)


def test_intervals_hold_where_runs_of_a_budget_share_an_error():
    frames = [study_table(seed, shared=0.004, own=0.002) for seed in range(24)]
    fits, plain = [law_of(frame).fit for frame in frames], [plain_fit(frame) for frame in frames]

    def coverage(results):
        return np.mean([fit.intervals["E"][0] <= PLANTED["E"] <= fit.intervals["E"][1] for fit in results])

    assert coverage(plain) < 0.7  # nominal: 90%
    assert coverage(fits) > 0.77  # two standard errors below 90%
    assert [fit.parameters for fit in fits] == [fit.parameters for fit in plain]


def test_the_first_line_names_the_kind_of_interval():
    budgets = text_of(law_of(study_table(0, shared=0.004, own=0.002)))
    assert budgets.splitlines()[0].endswith("nats/token   (intervals: 90%, profile likelihood by 5 budgets)")
    assert "rows of one budget share" in budgets
    frame = study_table(0, shared=0.0, own=0.004, num_checkpoints=3)
    assert text_of(law_of(frame)).splitlines()[0].endswith("(intervals: 90%, bootstrap of 30 whole runs)")
    both = text_of(law_of(study_table(0, shared=0.004, own=0.002)), law_of(frame))
    assert both.splitlines()[0].endswith("(intervals: see below)")
    assert "intervals: 90%, profile likelihood by 5 budgets" in both


def test_runs_with_one_row_each_are_never_taken_for_checkpoints():
    """Rows of one size with growing tokens look like checkpoints, but the study knows its runs."""
    size, tokens = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e8, 1e10, 5), np.geomspace(1e9, 1e12, 7)))
    order = np.lexsort((tokens, size))
    frame = study_table(0, shared=0.0, own=0.0)
    frame = frame.loc[np.zeros(35, int)].assign(run_id=[f"run{k}" for k in range(35)], params_total=size[order])
    frame = frame.assign(tokens_seen=tokens[order], size=frame["params_total"].astype(str)).reset_index(drop=True)
    errors = 0.004 * np.random.Generator(np.random.PCG64(0)).normal(size=5).repeat(7)
    frame[UNIT] = KAPLAN(PLANTED, {"N": frame["params_total"], "D": frame["tokens_seen"]}) * np.exp(errors)
    fit = law_of(frame).fit
    assert fit.conventions["intervals"] == "90%, profile likelihood of independent rows"
    assert fit.intervals == plain_fit(frame).intervals
