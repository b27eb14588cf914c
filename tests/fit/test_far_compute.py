"""Speedups without bad runs: a run in another unit, or one that diverged, is named and set aside."""

import json

import numpy as np
import pytest

from lossline_jax import fit
from lossline_jax.cli.main import main
from lossline_jax.fit.compare.far_run import RunDistances, farthest_runs
from lossline_jax.summary import as_text
from tests.support.planted_compute import (
    BASE,
    FIRST_OF_BASE,
    FIRST_OF_LEVEL,
    Design,
    diverged,
    in_another_unit,
    planted_table,
    two_settings,
)

FIVE = Design(5, 5)
POWER = fit.CurveOptions(curve="power law")
MEASURED = fit.CurveOptions()


def compared(table, curves=MEASURED, base=BASE):
    return fit.compare_compute(table, "loss", base, curves=curves)


def without_run(table, run):
    return table.loc[table.run_id != run]


def assert_same_levels(result, expected):
    for item, other in zip(result.factors, expected.factors, strict=True):
        for level, of_other in zip(item.levels, other.levels, strict=True):
            assert level.verdict == of_other.verdict
            assert level.speedup == pytest.approx(of_other.speedup, rel=1e-9)
            assert level.interval == pytest.approx(of_other.interval, rel=1e-9)
            assert level.num_runs == of_other.num_runs


@pytest.mark.parametrize("curves", [MEASURED, POWER], ids=["measured", "power law"])
@pytest.mark.parametrize("run", [FIRST_OF_BASE, FIRST_OF_LEVEL])
@pytest.mark.parametrize("factor", [1e-15, 1 / 6, 6.0, 1000.0])
def test_a_run_whose_compute_has_another_unit_is_set_aside(factor, run, curves):
    clean = planted_table(3, 1.3, FIVE)
    result = compared(in_another_unit(clean, run, factor), curves)
    assert_same_levels(result, compared(without_run(clean, run), curves))
    data = result.factor("data")
    assert data.far_runs == (run,)
    assert f"run {run} has " in data.note
    assert "times the compute at equal loss of its setting's other runs" in data.note
    assert "set aside" in data.note
    assert ("as if its compute had another unit" in data.note) == (factor in (1e-15, 1000.0))
    concerned = [item.factor for item in result.factors if item.far_runs]
    assert len(concerned) == (4 if run == FIRST_OF_BASE else len(concerned)) >= 1


@pytest.mark.parametrize("run", [FIRST_OF_BASE, FIRST_OF_LEVEL])
def test_a_diverged_run_is_set_aside(run):
    clean = planted_table(5, 1.3, FIVE)
    bad = diverged(clean, run)
    result = compared(bad)
    assert_same_levels(result, compared(without_run(clean, run)))
    assert result.factor("data").far_runs == (run,)
    assert "times the loss at equal compute of its setting's other runs" in result.factor("data").note


def test_the_stated_distance_is_the_planted_one():
    """Six times the compute at equal loss, up to the noise of the seeds: 5% of a run and of the mean of four others."""
    note = compared(in_another_unit(planted_table(3, 1.0, FIVE), FIRST_OF_LEVEL, 6.0)).factor("data").note
    stated = float(note.split(" has ")[1].split(" times")[0])
    assert np.log(stated / 6) == pytest.approx(0, abs=4 * 0.05 * np.sqrt(1 + 1 / 4))


def test_the_verdict_with_all_runs_is_told_where_it_is_another_one():
    bad = in_another_unit(planted_table(3, 2.0, FIVE), FIRST_OF_LEVEL, 1e-15)
    level = compared(bad).factor("data").levels[0]
    assert level.verdict == "saves compute"
    assert level.note.startswith("with all runs: cannot tell, speedup ")


@pytest.mark.parametrize(
    "design", [Design(3, 3), Design(5, 3), FIVE, Design(5, 3, noise_of_level=3.0)], ids=["3 3", "5 3", "5 5", "noisy"]
)
def test_clean_studies_name_no_run(design):
    """A run is named in 1% of studies at most, so ten studies without one are no luck."""
    named = [item.far_runs for seed in range(10) for item in compared(planted_table(seed, 1.3, design)).factors]
    assert not any(named)


def test_of_two_runs_either_may_be_the_bad_one():
    clean = planted_table(1, 2.0, Design(5, 2))
    bad = in_another_unit(clean, FIRST_OF_LEVEL, 1000.0)
    data = compared(bad).factor("data")
    level = data.levels[0]
    partner = FIRST_OF_LEVEL.removesuffix("0") + "1"
    assert set(data.far_runs) == {FIRST_OF_LEVEL, partner}
    assert "either may be off; not set aside, but no verdict rests on it" in data.note
    assert (level.verdict, level.num_runs) == ("cannot tell", 2)


def test_a_verdict_that_holds_without_either_run_stays():
    """The level needs five hundred times the compute or ten times as much, so it costs compute in any case."""
    clean = planted_table(1, 0.1, Design(5, 2))
    bad = in_another_unit(clean, FIRST_OF_LEVEL, 50.0)
    with_either = {
        compared(without_run(bad, run)).factor("data").levels[0].verdict
        for run in (FIRST_OF_LEVEL, FIRST_OF_LEVEL.removesuffix("0") + "1")
    }
    data = compared(bad).factor("data")
    assert with_either == {"costs compute"}
    assert data.far_runs
    assert data.levels[0].verdict in ("costs compute", "cannot tell")
    assert data.levels[0].verdict == "costs compute" or "with the runs in doubt: " in data.levels[0].note


def test_few_repetitions_leave_a_far_run_in_doubt():
    """One setting alone has three runs: the other two may lie close together by chance."""
    table = in_another_unit(two_settings([-0.02, 0.03, 0.01], [0.4]), "wiki-2", 1e-5)
    data = compared(table, base={"data": "wiki"}).factor("data")
    assert data.far_runs == ("wiki-2",)
    assert "not set aside, but no verdict rests on it" in data.note
    assert data.levels[0].num_reference_runs == 3


def test_runs_of_a_frontier_are_no_repetitions():
    bad = in_another_unit(planted_table(3, 1.0, FIVE), FIRST_OF_LEVEL, 6.0)
    curves = fit.CurveOptions(curve="power law", frontier=True)
    assert not any(item.far_runs for item in compared(bad, curves).factors)


def test_the_last_checkpoints_are_judged_by_all_checkpoints():
    """With `last`, a run has one point and no curve of its own. Its other checkpoints still tell that it is far off."""
    clean = planted_table(3, 1.3, FIVE)
    lengths = {run: 10 - k % 5 for k, run in enumerate(dict.fromkeys(clean.run_id))}
    shorter = clean.loc[clean.step < clean.run_id.map(lengths)]
    curves = fit.CurveOptions(last=True)
    bad = in_another_unit(shorter, FIRST_OF_LEVEL, 1e-15)
    assert_same_levels(compared(bad, curves), compared(without_run(shorter, FIRST_OF_LEVEL), curves))


def test_the_noise_of_other_settings_counts_twice():
    """The limit is that of Student's t with the stated noise, computed here by hand for one kind of distance."""
    quiet = [RunDistances(("a", "b", "c"), np.array([-1.0, 0.0, 1.0]), "compute") for _ in range(4)]
    one = RunDistances(("d", "e", "f"), np.array([-1.0, 1.0, 20.0]), "compute")
    (far,) = farthest_runs([[*quiet, one]], 15, 2.0)
    # The others: variance 1 with 8 degrees of freedom, of which 5 count, doubled as a deviation; and d, e: 2 with one.
    assert far.run == "f"
    assert far.ratio == pytest.approx(20 / np.sqrt((5 * 4 * 1.0 + 2.0) / 6))
    assert far.freedom == pytest.approx(36 / (1 + 25 / 8))


def test_the_run_is_named_once_in_the_text_and_in_the_json(tmp_path, capsys):
    table = in_another_unit(planted_table(3, 1.3, FIVE), FIRST_OF_BASE, 1e-15)
    path, out = tmp_path / "t.csv", tmp_path / "out.json"
    table.to_csv(path, index=False)
    words = ["table", "speedup", str(path), "--y", "loss", "--factors", *BASE, "--out", str(out)]
    main(words)
    text = " ".join(capsys.readouterr().out.split())
    assert text.count(f"run {FIRST_OF_BASE} has ") == 1
    assert f"data, architecture, context_length, optimiser: run {FIRST_OF_BASE} has " in text
    assert "as if its compute had another unit" in text
    assert "set aside" in text
    written = fit.ComputeComparison.from_json(json.loads(out.read_text()))
    assert all(item.far_runs == (FIRST_OF_BASE,) for item in written.factors)


def test_a_stored_result_without_far_runs_is_read():
    result = compared(planted_table(3, 1.3, Design(3, 3)))
    plain = result.to_json()
    for item in plain["factors"]:
        del item["far_runs"]
    assert as_text(fit.ComputeComparison.from_json(plain)) == as_text(result)
