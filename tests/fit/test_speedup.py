"""Speedups: planted curves give them back, errors are those of runs as units, and nothing is extrapolated."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from lossline_jax import fit
from lossline_jax.cli.main import main
from lossline_jax.errors import LosslineError
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.late_rises import checkpoint_noise, late_rises
from lossline_jax.fit.speedup.noise_pool import Errors
from lossline_jax.fit.speedup.power_law import fit_power_laws
from lossline_jax.fit.tables.settings import Setting
from lossline_jax.formatting import TABLE_WIDTH
from lossline_jax.summary import as_text
from tests.support.planted_compute import (
    ALPHA,
    BASE,
    Design,
    E,
    planted_runs,
    planted_table,
    plateau_curve,
    power_curve,
    two_settings,
)

POWER = fit.CurveOptions(curve="power law")
SAME = np.array([-1e-4, 0.0, 1e-4])  # runs that are no copies, and have hardly any noise
SHIFTS = [-0.06, 0.01, 0.03], [0.35, 0.41, 0.44, 0.38]


def level_of(table, curves=POWER, loss="loss", **options):
    return fit.compare_compute(table, loss, curves=curves, **options).factors[0].levels[0]


@pytest.mark.parametrize("curve", ["measured", "power law"])
@pytest.mark.parametrize("speedup", [0.4, 1.0, 2.5])
def test_noise_free_curves_give_the_planted_speedup_at_every_loss_and_budget(curve, speedup):
    level = level_of(two_settings(SAME, np.log(speedup) + SAME), fit.CurveOptions(curve=curve), base={"data": "wiki"})
    exact = 1e-6 if curve == "power law" else 2e-4
    (pair,) = level.pairs
    assert level.speedup == pytest.approx(speedup, rel=exact)
    assert len(pair.by_loss) == len(pair.by_budget) == 5
    for at in (*pair.by_loss, *pair.by_budget):
        assert at.speedup == pytest.approx(speedup, rel=10 * exact)
        assert at.reference_compute / at.level_compute == pytest.approx(at.speedup)
    assert level.interval == pytest.approx((speedup, speedup), rel=1e-3)


def test_a_measured_curve_has_the_t_test_of_the_runs_as_units():
    level = level_of(two_settings(*SHIFTS), fit.CurveOptions(), base={"data": "wiki"})
    expected = scipy.stats.ttest_ind(*SHIFTS[::-1])
    low, high = np.exp(expected.confidence_interval(0.9))
    assert level.p == level.p_holm == pytest.approx(expected.pvalue, rel=0.02)
    assert level.interval == pytest.approx((low, high), rel=1e-3)
    assert level.noise_freedom == 5
    assert level.noise == pytest.approx(
        np.sqrt((2 * np.var(SHIFTS[0], ddof=1) + 3 * np.var(SHIFTS[1], ddof=1)) / 5), rel=2e-3
    )
    assert level.noise_share == pytest.approx(level.noise / np.log(level.speedup))
    assert level.verdict == "saves compute"


def test_power_laws_with_given_parameters_have_the_jackknife_of_the_mean():
    """The ln A of a level is then the mean over its runs, and the jackknife is the usual standard error."""
    curves = fit.CurveOptions(curve="power law", fix={"E": 0.0, "alpha": ALPHA})
    rng = np.random.default_rng(3)
    tables = []
    for data, shifts in zip(("wiki", "code"), SHIFTS, strict=True):
        for k, shift in enumerate(shifts):
            compute = np.geomspace(1e16, 1e18, 6)
            loss = 3 * (compute / 1e16 * np.exp(shift)) ** -ALPHA * np.exp(rng.normal(0, 0.01, 6))
            tables.append(pd.DataFrame({"run_id": f"{data}{k}", "data": data, "train_flops": compute, "loss": loss}))
    table = pd.concat(tables)
    level = level_of(table, curves, base={"data": "wiki"})
    of_run = (
        table.assign(u=-(np.log(table.loss) + ALPHA * np.log(table.train_flops)) / ALPHA)
        .groupby(["data", "run_id"])
        .u.mean()
    )
    difference = of_run["code"].mean() - of_run["wiki"].mean()
    error = np.sqrt(of_run["code"].var() / 4 + of_run["wiki"].var() / 3)
    half = scipy.stats.t.ppf(0.95, 5) * error
    assert np.log(level.speedup) == pytest.approx(difference, abs=1e-9)
    assert np.log(level.interval) == pytest.approx((difference - half, difference + half), abs=1e-6)


def test_one_step_without_a_run_is_near_a_new_fit_without_it():
    table = planted_runs(np.random.default_rng(0), BASE, 14, design=Design(num_checkpoints=1, point_noise=0.003))
    x, loss, runs = np.log(table.train_flops.to_numpy()), table.loss.to_numpy(), table.run_id.to_numpy(str)
    whole, _ = fit_power_laws([ComputeCell(Setting({}), loss, x, runs)], {}, None)
    for k, run in enumerate(sorted(set(runs))):
        keep = runs != run
        part, _ = fit_power_laws([ComputeCell(Setting({}), loss[keep], x[keep], runs[keep])], {}, None)
        grid = np.linspace(x.min(), x.max(), 5)
        losses = whole.loss(0, grid)
        moved = whole.gradient(0, losses) @ whole.moves[k]
        exact = part.log_compute(0, losses) - grid
        assert np.abs(moved - exact).max() < 0.05 * np.abs(exact).max() + 1e-4


@pytest.mark.parametrize("curve", ["measured", "power law"])
def test_the_units_of_compute_and_loss_change_nothing(curve):
    table = planted_table(1, 1.4)
    curves = fit.CurveOptions(curve=curve)
    first = fit.compare_compute(table, "loss", curves=curves)
    second = fit.compare_compute(
        table.assign(train_flops=table.train_flops / 8.64e19, loss=table.loss * 1e15), "loss", curves=curves
    )
    for a, b in zip(first.factors, second.factors, strict=True):
        for one, other in zip(a.levels, b.levels, strict=True):
            assert one.verdict == other.verdict
            assert one.speedup == pytest.approx(other.speedup, rel=1e-5)
            assert one.interval == pytest.approx(other.interval, rel=1e-4)


@pytest.mark.parametrize("curve", ["measured", "power law"])
def test_level_and_reference_in_exchange_invert_the_speedup(curve):
    table = planted_table(2, 1.4)
    table = table.loc[table[["architecture", "context_length", "optimiser"]].eq(["llama", "128", "adamw"]).all(axis=1)]
    curves = fit.CurveOptions(curve=curve)
    one, other = (level_of(table, curves, base={"data": data}, factors=["data"]) for data in ("wiki", "code"))
    # The lower half of the measured losses is that of the reference, so it moves a little.
    exact = 0.02 if curve == "measured" else 1e-6
    assert one.speedup == pytest.approx(1 / other.speedup, rel=exact)
    assert one.interval == pytest.approx((1 / other.interval[1], 1 / other.interval[0]), rel=2 * exact)
    assert {one.verdict, other.verdict} == {"saves compute", "costs compute"}


def test_pinned_and_shared_parameters():
    table = two_settings(SAME, 0.7 + SAME, points=8)
    (free,) = level_of(table, base={"data": "wiki"}).pairs
    assert free.parameters == pytest.approx(
        {"E of the reference": E, "E": E, "alpha of the reference": ALPHA, "alpha": ALPHA}, rel=1e-5
    )
    pinned = level_of(table, fit.CurveOptions(fix={"E": 1.2}), base={"data": "wiki"})
    assert pinned.pairs[0].parameters["E"] == 1.2
    assert pinned.pairs[0].parameters["alpha"] < 0.9 * ALPHA  # a lower E needs a flatter curve
    noisy = planted_table(5, 1.3)
    own = level_of(noisy, fit.CurveOptions(share=("E",))).pairs[0].parameters
    assert own["alpha"] != own["alpha of the reference"]
    assert own["E"] == own["E of the reference"]
    shared = level_of(noisy, fit.CurveOptions(share=("E", "alpha"))).pairs[0].parameters
    assert shared["alpha"] == shared["alpha of the reference"]


def test_different_exponents_are_not_shared_and_the_course_shows_them():
    compute = np.geomspace(1e16, 1e19, 9)
    rng = np.random.default_rng(0)
    rows = []
    for data, alpha in (("wiki", 0.20), ("code", 0.30)):
        loss = (1.7 + 2 * (compute / 1e16) ** -alpha) * np.exp(rng.normal(0, 0.001, 9))
        rows.append(
            pd.DataFrame(
                {"run_id": [f"{data}{k}" for k in range(9)], "data": data, "train_flops": compute, "loss": loss}
            )
        )
    result = fit.compare_compute(pd.concat(rows), "loss", {"data": "wiki"})
    (factor,) = result.factors
    (level,) = factor.levels
    assert "each has its own" in factor.note
    assert level.highest == pytest.approx(1.0, abs=0.05)
    exact = ((level.pairs[0].by_loss[-1].loss - 1.7) / 2) ** (1 / 0.30 - 1 / 0.20)
    assert level.lowest == pytest.approx(exact, rel=0.1)
    assert level.lowest_interval[0] < exact < level.lowest_interval[1]


def test_a_curve_of_another_form_is_told():
    right = fit.compare_compute(planted_table(8), "loss", BASE, curves=POWER)
    assert not any("miss their points" in factor.note for factor in right.factors)
    wrong = fit.compare_compute(planted_table(8, 1.0, Design(curve=plateau_curve)), "loss", BASE, curves=POWER)
    assert all("miss their points" in factor.note for factor in wrong.factors)


@pytest.mark.parametrize(("alpha", "verdict"), [(ALPHA, "saves compute"), (3.0, "cannot tell")])
def test_curves_far_from_their_own_points_give_no_verdict(alpha, verdict):
    """The exponent is held. The planted one fits the points; another one misses them by far more than the speedup."""
    table = two_settings(SHIFTS[0], np.add(0.2, SHIFTS[0]))
    table["loss"] *= np.exp(np.random.default_rng(0).normal(0, 0.001, len(table)))
    level = level_of(table, fit.CurveOptions(curve="power law", fix={"alpha": alpha}), base={"data": "wiki"})
    assert level.verdict == verdict
    assert level.p < 0.05
    assert ("the curves miss their own points by more than the speedup, a factor of " in level.note) == (alpha != ALPHA)


def test_only_losses_that_both_reach_are_compared():
    table = two_settings([0.0, 0.02, -0.02], [1.0, 1.1, 0.9])
    for curves in (fit.CurveOptions(), POWER):
        (pair,) = level_of(table, curves, base={"data": "wiki"}).pairs
        ends = table.groupby("data").loss.agg(["min", "max"])
        low, high = ends["min"].max(), ends["max"].min()
        assert low - 0.02 < pair.losses[0] < pair.losses[1] < high + 0.02
        for at in (*pair.by_loss, *pair.by_budget):
            assert pair.losses[0] <= at.loss <= pair.losses[1]
            assert min(at.reference_compute, at.level_compute) > 0.9e16
            assert max(at.reference_compute, at.level_compute) < 1.2e18


def test_levels_without_common_losses_cannot_be_told():
    table = two_settings([0.0, 0.02, -0.02], [8.0, 8.1, 7.9])
    for curves in (fit.CurveOptions(), POWER):
        level = level_of(table, curves, base={"data": "wiki"})
        assert level.verdict == "cannot tell"
        assert level.speedup is None
        assert "no losses that all runs reach" in level.note


def test_losses_that_do_not_fall_are_said():
    table = two_settings(SAME, 0.1 + SAME, points=8)
    rising = table.assign(loss=np.where(table["data"] == "code", 6 - table["loss"], table["loss"]))
    assert "does not fall" in level_of(rising, base={"data": "wiki"}).note
    result = fit.compare_compute(rising, "loss", {"data": "wiki"})
    (level,) = result.factor("data").levels
    assert (level.verdict, level.speedup, level.pairs) == ("cannot tell", None, ())
    assert level.note == "no run of this level has 3 checkpoints with a falling loss"
    assert "falling loss, left out: code-0" in result.failures[0]


def rising_after(table, runs, first_step, rise):
    """Return the table with a loss that is higher by `rise` from a step on, in some runs."""
    rises = table.run_id.isin(runs) & (table.step >= first_step)
    return table.assign(loss=table.loss + rise * rises)


@pytest.mark.parametrize(("side", "words"), [("code", ""), ("wiki", " of the reference wiki")])
def test_no_verdict_where_half_of_the_runs_of_a_side_get_worse(side, words):
    table = two_settings([-0.01, 0.0, 0.01, 0.02], [0.4, 0.42, 0.44, 0.38], points=10)
    before = level_of(table, fit.CurveOptions(), base={"data": "wiki"})
    worse = rising_after(table, [f"{side}-0", f"{side}-1"], 6, 0.9)
    level = level_of(worse, fit.CurveOptions(), base={"data": "wiki"})
    risen = worse.loc[worse.run_id.isin([f"{side}-0", f"{side}-1"])].groupby("run_id").loss
    mean = (risen.last() - risen.min()).mean()
    assert (before.verdict, before.note) == ("saves compute", "")
    assert level.verdict == "cannot tell"
    assert level.speedup == pytest.approx(before.speedup, rel=0.03)
    assert level.p_holm < 0.001  # the test alone would say that it saves compute
    assert level.note.startswith(f"the last loss of 2 of 4 runs{words} lies above an earlier one, by {mean:.2g} in the")


def test_one_run_that_gets_worse_is_named():
    table = two_settings([-0.01, 0.0, 0.01], [0.4, 0.42, 0.44], points=10)
    level = level_of(rising_after(table, ["wiki-1"], 6, 0.9), fit.CurveOptions(), base={"data": "wiki"})
    assert level.verdict == "saves compute"
    assert "the last loss of wiki-1 of the reference wiki lies above an earlier one, by 0.48:" in level.note
    recovered = table.assign(loss=table.loss + 0.9 * ((table.run_id == "wiki-1") & (table.step == 5)))
    assert not level_of(recovered, fit.CurveOptions(), base={"data": "wiki"}).note


def test_a_run_left_out_because_it_gets_worse_counts_too():
    table = two_settings([-0.01, 0.0, 0.01], [0.4, 0.42, 0.44], points=10)
    worse = rising_after(table, ["code-0", "code-1"], 2, 3.0)
    level = level_of(worse, fit.CurveOptions(), base={"data": "wiki"})
    assert (level.num_runs, level.verdict) == (1, "cannot tell")
    assert "the last loss of 2 of 3 runs lies above" in level.note


def flat_after_a_decade(compute):
    return power_curve(np.minimum(compute, 1e17))


@pytest.mark.parametrize("curve", [power_curve, plateau_curve, flat_after_a_decade])
def test_noise_of_checkpoints_is_no_rise(curve):
    for seed in range(4):
        table = planted_table(seed, 1.0, Design(5, 3, point_noise=0.006, curve=curve))
        for setting, runs in table.groupby(list(BASE)):
            points = runs.loss.to_numpy(), np.log(runs.train_flops.to_numpy()), runs.run_id.to_numpy(str)
            assert not late_rises(ComputeCell(Setting({}), *points)), setting


def test_the_noise_of_a_checkpoint_is_the_planted_one():
    design = Design(num_checkpoints=40, point_noise=0.006)
    runs = planted_runs(np.random.default_rng(0), BASE, 20, design=design)
    points = runs.loss.to_numpy(), np.log(runs.train_flops.to_numpy()), runs.run_id.to_numpy(str)
    assert checkpoint_noise(ComputeCell(Setting({}), *points)) == pytest.approx(0.006, rel=0.1)


def test_one_compute_for_all_checkpoints_of_a_run_is_refused():
    table = two_settings(*SHIFTS, points=8)
    table["size"] = 1e7 * (1 + table.run_id.str[-1].astype(int))
    columns = fit.ComputeColumns("size")
    with pytest.raises(LosslineError, match="compute: size has one value in each run, although .* or use last"):
        fit.compare_compute(table, "loss", columns=columns)
    shuffled = table.sample(frac=1, random_state=0)
    level = level_of(shuffled, fit.CurveOptions(last=True), base={"data": "wiki"}, columns=columns)
    ends = table.loc[table.step == 7].assign(train_flops=lambda t: t["size"])
    assert level == level_of(ends, fit.CurveOptions(last=True), base={"data": "wiki"})


def test_one_run_a_level_has_a_speedup_but_no_interval():
    level = level_of(two_settings([0.0], [0.5]), fit.CurveOptions(), base={"data": "wiki"})
    assert level.speedup == pytest.approx(np.exp(0.5), rel=1e-3)
    assert level.interval is level.p is level.noise is None
    assert "one run a level" in level.note
    assert level.verdict == "cannot tell"


def test_repetitions_without_noise_have_no_interval():
    errors = Errors(np.array([0.3, 0.3]), np.array([0.0, 0.0]), 4.0, 0.0)
    assert errors.interval(-1) is errors.p is None


def test_one_run_of_a_level_takes_the_noise_of_the_repeated_settings():
    level = level_of(two_settings(SHIFTS[0], [0.5]), fit.CurveOptions(), base={"data": "wiki"})
    error = np.std(SHIFTS[0], ddof=1) * np.sqrt(1 / 3 + 1)
    half = scipy.stats.t.ppf(0.95, 2) * error
    centre = 0.5 - np.mean(SHIFTS[0])
    assert np.log(level.interval) == pytest.approx((centre - half, centre + half), rel=5e-3)
    assert "one run of this level" in level.note


def test_a_noisy_level_does_not_borrow_the_quiet_noise_of_the_others():
    noisy = planted_table(0, 1.0, Design(5, 5, noise_of_level=8.0))
    result = fit.compare_compute(noisy, "loss", BASE)
    level = result.factor("data").levels[0]
    quiet = result.factor("optimiser").levels[0]
    assert level.noise > 3 * quiet.noise
    assert level.noise_freedom < 6 < quiet.noise_freedom


def crossed(speedups):
    """Return settings of two corpora and two architectures, with the speedup of `mamba` on each corpus."""
    generator = np.random.default_rng(0)
    design = Design(4, 4)
    tables = []
    for (data, speedup), architecture in itertools.product(speedups.items(), ("llama", "mamba")):
        levels = {"data": data, "architecture": architecture}
        tables.append(
            planted_runs(generator, levels, 4, speedup=speedup if architecture == "mamba" else 1.0, design=design)
        )
    return pd.concat(tables)


def test_pairs_that_disagree_are_told_in_words():
    result = fit.compare_compute(crossed({"wiki": 2.0, "code": 0.8}), "loss", {"data": "wiki", "architecture": "llama"})
    level = result.factor("architecture").level("mamba")
    assert level.verdict == "depends"
    assert level.speedup == pytest.approx(np.sqrt(2.0 * 0.8), rel=0.06)
    assert [pair.matched_on for pair in level.pairs] == ["wiki", "code"]
    assert "(code) to" in level.note
    same = fit.compare_compute(crossed({"wiki": 2.0, "code": 1.8}), "loss", {"data": "wiki", "architecture": "llama"})
    assert same.factor("architecture").level("mamba").verdict == "saves compute"


def test_p_is_corrected_over_all_levels_of_all_factors():
    levels = [
        level for factor in fit.compare_compute(planted_table(3), "loss", BASE).factors for level in factor.levels
    ]
    order = np.argsort([level.p for level in levels])
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(levels) - rank) * levels[k].p))
        assert levels[k].p_holm == pytest.approx(largest)


def test_a_margin_makes_no_difference():
    table = two_settings([-0.01, 0.0, 0.01], [0.0, 0.02, 0.01, -0.01])
    assert level_of(table, fit.CurveOptions(), base={"data": "wiki"}).verdict == "no difference"
    assert level_of(table, fit.CurveOptions(margin=1.001), base={"data": "wiki"}).verdict == "cannot tell"


def test_last_points_and_the_frontier():
    generator = np.random.default_rng(0)
    rows = []
    for data, shift in (("wiki", 0.0), ("code", 0.5)):
        for budget, excess in itertools.product(np.geomspace(1e16, 1e18, 6), (0.0, 0.02, 0.05)):
            name = f"{data}-{budget:.3g}-{excess}"
            for part in (0.25, 0.5, 1.0):
                loss = E + 2 * (part * budget / 1e16 * np.exp(shift)) ** -ALPHA + excess + 0.3 * (part < 1)
                rows.append(
                    {
                        "run_id": name,
                        "data": data,
                        "train_flops": part * budget * 1.0001 ** generator.normal(),
                        "loss": loss,
                    }
                )
    table = pd.DataFrame(rows)
    options = fit.CurveOptions(last=True, frontier=True)
    level = level_of(table, options, base={"data": "wiki"})
    assert level.speedup == pytest.approx(np.exp(0.5), rel=1e-3)
    assert level.num_runs == level.num_reference_runs == 6


def test_a_run_that_the_frontier_thins_is_not_said_to_hardly_fall():
    """Each run falls at every checkpoint. The frontier leaves the second run of wiki with two of its points."""
    rows = []
    for data, run, compute in (
        [("code", 0, c) for c in range(8)]
        + [("wiki", 0, c) for c in (0, 1, 2, 3, 4, 5)]
        + [("wiki", 1, 6), ("wiki", 1, 7)]
    ):
        rows.append(
            {"run_id": f"{data}{run}", "data": data, "train_flops": 1e16 * 2.0**compute, "loss": 4 - 0.2 * compute}
        )
    worse = [{**row, "run_id": "wiki1", "loss": row["loss"] + 0.1} for row in rows if row["run_id"] == "wiki0"]
    options = fit.CurveOptions(curve="measured", frontier=True)
    result = fit.compare_compute(pd.DataFrame(rows + worse), "loss", {"data": "wiki"}, curves=options)
    words = "fewer than 3 checkpoints on the frontier with a falling loss"
    assert result.factor("data").levels[0].note.endswith(f"1 run left out: {words}")
    assert result.failures == (f"loss: {words}, left out: wiki1",)


@pytest.mark.parametrize("curve", ["measured", "power law"])
@pytest.mark.parametrize("factor", [1e-15, 1e-3, 1e6])
def test_a_level_in_another_unit_of_compute_has_no_verdict(factor, curve):
    clean = planted_table(3, 1.3, Design(3, 3))
    in_other_unit = clean.train_flops * np.where(clean.data == "code", factor, 1.0)
    level = level_of(clean.assign(train_flops=in_other_unit), fit.CurveOptions(curve=curve))
    if level.speedup is not None:
        assert level.speedup == pytest.approx(1.3 / factor, rel=0.2)
    assert level.verdict == "cannot tell"
    ends = f"{factor * 1e16:.2g} to {factor * 1e18:.2g}"
    assert f"its compute, {ends}, seems to have another unit than that of the reference, 1e+16 to 1e+18" in level.note


@pytest.mark.parametrize("speedup", [150.0, 1 / 150])
def test_a_large_speedup_at_the_same_budgets_is_no_other_unit(speedup):
    """Some corpora need a hundredth of the compute of another one for the same loss on one task."""
    rows = []
    for data, gain in (("wiki", 1.0), ("code", speedup)):
        for run, draw in enumerate((-0.02, 0.0, 0.02)):
            compute = np.geomspace(1e15, 1e20, 15)
            loss = E + 2 * (compute * gain * np.exp(draw) / 1e16) ** -ALPHA
            rows.append(pd.DataFrame({"run_id": f"{data}{run}", "data": data, "train_flops": compute, "loss": loss}))
    level = level_of(pd.concat(rows), base={"data": "wiki"})
    assert level.speedup == pytest.approx(speedup, rel=0.01)
    assert level.verdict == ("saves compute" if speedup > 1 else "costs compute")
    assert "unit" not in level.note


def test_sizes_times_tokens_are_compute():
    table = two_settings(SAME, 0.3 + SAME)
    sizes = table.assign(N=1e7, D=table.train_flops / 6e7).drop(columns="train_flops")
    result = fit.compare_compute(sizes, "loss", {"data": "wiki"}, columns=fit.ComputeColumns(params="N", tokens="D"))
    assert result.factors[0].levels[0].speedup == pytest.approx(np.exp(0.3), rel=1e-3)
    assert result.compute == "6 × N × D"
    assert result.factors[0].levels[0].pairs[0].by_loss[0].reference_compute == pytest.approx(
        fit.compare_compute(table, "loss", {"data": "wiki"}).factors[0].levels[0].pairs[0].by_loss[0].reference_compute
    )


def long_table():
    table = two_settings(*SHIFTS, points=12).rename(columns={"data": "tokenizer"})
    rows = [
        table.assign(eval_set=name, nats_per_token=table.loss * k, bits_per_byte=table.loss * k / 2)
        for name, k in (("wiki", 1.0), ("code", 0.7))
    ]
    return pd.concat(rows).drop(columns="loss")


def test_long_tables_and_units():
    table = long_table()
    result = fit.compare_compute(table, ["wiki", "code"], {"tokenizer": "wiki"})
    assert [(item.loss, item.unit) for item in result.factors] == [("wiki", "bits_per_byte"), ("code", "bits_per_byte")]
    one, other = (item.levels[0] for item in result.factors)
    assert one.verdict == "saves compute"
    assert one.speedup == pytest.approx(other.speedup)
    in_nats = fit.compare_compute(table, "wiki", {"tokenizer": "wiki"}, unit="nats_per_token").factors[0]
    assert in_nats.levels[0].verdict == "cannot tell"
    assert "bits/byte" in in_nats.note


def test_points_without_loss_or_compute_are_counted():
    table = two_settings(*SHIFTS)
    table.loc[table.step == 3, "loss"] = np.nan
    table.loc[table.step == 5, "train_flops"] = np.nan
    table.loc[table.step == 0, "train_flops"] = 0.0
    result = fit.compare_compute(table, "loss", {"data": "wiki"})
    assert "7 rows without any training" in result.failures[0]
    assert "21 of 280 points" in result.failures[1]
    assert result.factors[0].levels[0].speedup == pytest.approx(
        np.exp(np.mean(SHIFTS[1]) - np.mean(SHIFTS[0])), rel=1e-3
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"curves": fit.CurveOptions(margin=0.9)}, "not a ratio above 1"),
        ({}, {"curves": fit.CurveOptions(fix={"beta": 1.0})}, "'beta' is not a parameter"),
        ({}, {"curves": fit.CurveOptions(fix={"E": -1.0})}, "E=-1 is not a positive number"),
        ({}, {"curves": fit.CurveOptions(fix={"E": 9.0})}, "E=9 is not below the smallest loss"),
        ({}, {"curves": fit.CurveOptions(fix={"E": 1.0}, share=("E",))}, "leave it out"),
        ({}, {"curves": fit.CurveOptions("measured", share=("E",))}, "belong to the power law"),
        ({}, {"curves": fit.CurveOptions("measured", last=True)}, "one point of each run"),
        ({}, {"columns": fit.ComputeColumns("flops")}, "no column 'flops'"),
        ({}, {"columns": fit.ComputeColumns(params="N")}, "give both"),
        ({}, {"columns": fit.ComputeColumns("train_flops", "N", "D")}, "leave params and tokens out"),
        ({}, {"unit": "bits_per_byte"}, "leave unit out"),
        ({}, {"base": {"data": "books"}}, "books"),
        ({"train_flops": -1.0}, {}, "train_flops is -1.0"),
        ({"loss": lambda table: table.loss.where(table.step > 0, 0.0)}, {}, "loss is 0.0"),
        ({"run_id": None}, {}, "run"),
    ],
)
def test_bad_input_is_one_line(change, options, message):
    table = two_settings(*SHIFTS).assign(**change)
    with pytest.raises(LosslineError, match=message) as error:
        fit.compare_compute(table, "loss", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "message"), [("run_id", "runs are the units"), ("train_flops", "no column train_flops")]
)
def test_a_table_without_runs_or_compute_is_refused(column, message):
    with pytest.raises(LosslineError, match=message):
        fit.compare_compute(two_settings(*SHIFTS).drop(columns=column), "loss")


def test_the_result_is_read_back_and_shown_in_narrow_lines():
    result = fit.compare_compute(planted_table(4, 1.5), "loss", BASE)
    assert fit.ComputeComparison.from_json(json.loads(json.dumps(result.to_json()))) == result
    text = as_text(result)
    assert max(map(len, text.splitlines())) <= TABLE_WIDTH
    assert "saves compute" in text
    assert "budget" in text
    assert "loss" in repr(result)
    two = fit.compare_compute(planted_table(4).assign(other=lambda t: t.loss * 0.9), ["loss", "other"], BASE)
    assert "Name one loss alone" in as_text(two)
    with pytest.raises(LosslineError, match="did you mean 'data'"):
        result.factor("dat")
    with pytest.raises(LosslineError, match="did you mean 'code'"):
        result.factor("data").level("cod")
    assert as_text(dataclasses.replace(result, factors=())).startswith("Nothing to compare")


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    planted_table(6, 1.5).to_csv(tmp_path / "t.csv", index=False)
    words = ["table", "speedup", str(tmp_path / "t.csv"), "--y", "loss", "--out", str(tmp_path / "s.json")]
    main([*words, "--curve", "power-law", "--fix", "E=1.7", "--share", "alpha", "--base", "data=wiki"])
    shown = capsys.readouterr().out
    result = fit.ComputeComparison.from_json(json.loads((tmp_path / "s.json").read_text()))
    assert as_text(result) == shown.rstrip("\n")
    assert result.factor("data").level("code").verdict == "saves compute"
    assert result.factor("data").level("code").pairs[0].parameters["E"] == 1.7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fix", "E=low"], "--fix: E=low: 'low' is not a number"),
        (["--fix", "E"], "--fix: 'E' is not NAME=VALUE"),
        (["--fix", "A=2"], "--fix: 'A' is not a parameter"),
        (["--compute", "flop"], "--compute: the table has no column 'flop'"),
        (["--params", "train_flops"], "--params, --tokens: give both"),
        (["--margin", "1"], "--margin: 1 is not a ratio"),
        (["--compute", "one_value"], "--compute: one_value has one value in each run"),
        (["--curve", "measured", "--fix", "E=1.6"], "--curve is measured; leave --curve out"),
        (["--share", "B"], "--share"),
    ],
)
def test_bad_flags_are_one_line(words, message, tmp_path, capsys):
    two_settings(*SHIFTS).assign(one_value=1e7).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SystemExit) as stop:
        main(["table", "speedup", str(tmp_path / "t.csv"), "--y", "loss", *words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_study_has_the_speedups_of_both_axes():
    table = planted_table(7, 1.5).assign(task=lambda t: 0.9 * t.loss + 0.2)
    table = table.loc[table.data.isin(["wiki", "code"]) & (table.architecture == "llama")]
    table = table.loc[(table.optimiser == "adamw") & (table.context_length == "128")]
    study = fit.fit_study(table, "loss", "task", factors=["data"], statistics=fit.Statistics(num_resamples=20))
    alone = fit.compare_compute(table, ["loss", "task"], factors=["data"])
    assert study.speedups == alone.factors
    assert study.speedups[0].levels[0].verdict == "saves compute"
    assert "Does it save compute?" in as_text(study)
    stored = json.loads(json.dumps(study.to_json()))
    assert fit.StudyFits.from_json(stored) == study
    del stored["speedups"]  # as an older file
    assert fit.StudyFits.from_json(stored).speedups == ()
    without = fit.fit_study(table.drop(columns="train_flops"), "loss", "task", factors=["data"])
    assert without.speedups == ()
