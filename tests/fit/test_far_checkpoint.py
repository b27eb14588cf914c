"""A checkpoint at which all runs of a setting are off is named and set aside; what is left is the planted truth."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lossline_jax import fit
from lossline_jax.cli.main import main
from lossline_jax.fit.compare.compare_lines import compare_setting_lines
from lossline_jax.fit.compare.far_checkpoint import CheckpointCurves, far_checkpoints
from tests.support.planted_compute import BASE as COMPUTE_BASE
from tests.support.planted_compute import Design, planted_table, plateau_curve
from tests.support.planted_lines import BASE, NUM_CHECKPOINTS, POINT_NOISE, RUN_NOISE, curve, fit_setting, study

PLACE = 4  # of the bad checkpoint, from 0


def with_bad_checkpoint(setting, by: float, runs=None, place: int = PLACE):
    """Return the setting with one checkpoint too high, in all runs or in some."""
    is_bad = (np.arange(setting.x.size) % NUM_CHECKPOINTS == place) & np.isin(setting.runs, runs or setting.run_ids)
    return fit_setting(setting.levels, setting.x, setting.y + by * is_bad, setting.runs)


def without_checkpoint(setting, place: int = PLACE):
    keep = np.arange(setting.x.size) % NUM_CHECKPOINTS != place
    return fit_setting(setting.levels, setting.x[keep], setting.y[keep], setting.runs[keep])


@pytest.mark.parametrize(("by", "number"), [(1.0, 0), (1.0, 1), (-0.5, 1)])
def test_a_bad_checkpoint_of_all_runs_of_a_line_is_set_aside(number, by):
    """All verdicts and gaps are those of a study that never had the checkpoint."""
    cells = study(3, base_runs=5, num_runs=5)
    bad, without = list(cells), list(cells)
    bad[number] = with_bad_checkpoint(cells[number], by)
    without[number] = without_checkpoint(cells[number])
    results = compare_setting_lines(bad, BASE)
    for result, expected in zip(results, compare_setting_lines(without, BASE), strict=True):
        assert result.verdict == expected.verdict == "does not move"
        for level, of_expected in zip(result.levels, expected.levels, strict=True):
            assert level.gap == pytest.approx(of_expected.gap, abs=1e-4)
    name = "the base" if number == 0 else "data=code"
    (data,) = [result for result in results if result.factor == "data"]
    assert f"at checkpoint {PLACE + 1} of {name} (x " in data.note
    size, side = data.note.split("all runs lie ")[1].split()[:2]
    assert (float(size), side) == (pytest.approx(abs(by), abs=0.05), "above" if by > 0 else "below")
    assert "set aside" in data.note
    assert data.far_runs == ()
    if abs(by) == 1:
        assert data.levels[0].note.startswith("with all points: ")


def test_a_checkpoint_that_is_bad_in_one_run_is_that_run_s_fault():
    cells = study(3, base_runs=5, num_runs=5)
    cells[1] = with_bad_checkpoint(cells[1], 1.0, cells[1].run_ids[:1])
    (data,) = [item for item in compare_setting_lines(cells, BASE) if item.factor == "data"]
    assert "at checkpoint" not in data.note
    assert data.far_runs == cells[1].run_ids[:1]


@pytest.mark.parametrize("place", [0, NUM_CHECKPOINTS - 1])
def test_an_end_of_training_is_no_bad_checkpoint(place):
    """A schedule may end with a fall of the loss, and a run may begin off its later line."""
    cells = study(3, base_runs=5, num_runs=5)
    cells[1] = with_bad_checkpoint(cells[1], 0.3, place=place)
    assert not any("at checkpoint" in item.note for item in compare_setting_lines(cells, BASE))


def test_clean_studies_name_no_checkpoint():
    """The limit is one study in a thousand, so one of 300 may be named by chance, and this seed has none."""
    generator = np.random.Generator(np.random.PCG64(1))
    runs, numbers = np.indices((3, NUM_CHECKPOINTS))
    for _ in range(300):
        curves = []
        for _ in range(7):
            x = np.geomspace(5.0, 2.5, NUM_CHECKPOINTS) + generator.normal(0, 0.02, (3, 1))
            y = curve(x) + generator.normal(0, RUN_NOISE, (3, 1)) + generator.normal(0, POINT_NOISE, x.shape)
            curves.append(CheckpointCurves("", x.ravel(), y.ravel(), runs.ravel(), numbers.ravel()))
        assert not any(far_checkpoints(curves, "y"))


def test_the_ratio_is_that_of_a_fit_without_the_checkpoint():
    """The distance from the parabola through the others, over its standard error, by the normal equations."""
    generator = np.random.Generator(np.random.PCG64(4))
    x = np.geomspace(5, 2.5, 10)
    y = 1 + 0.5 * x + 0.1 * x**2 + 0.001 * generator.normal(size=10)
    y[6] += 0.2
    (far,) = far_checkpoints([CheckpointCurves("", x, y, np.zeros(10), np.arange(10))], "y")
    basis = x[:, None] ** np.arange(3)
    others = np.delete(np.arange(10), 6)
    inverse = np.linalg.inv(basis[others].T @ basis[others])
    parabola = inverse @ basis[others].T @ y[others]
    residuals = y[others] - basis[others] @ parabola
    variance = residuals @ residuals / (9 - 3)
    distance = y[6] - basis[6] @ parabola
    assert far.checkpoint == 6
    assert far.ratio == pytest.approx(distance / np.sqrt(variance * (1 + basis[6] @ inverse @ basis[6])), rel=1e-6)


def test_few_or_doubled_checkpoints_are_not_judged():
    x = np.geomspace(5, 2.5, 12)
    y = x + np.eye(12)[4]
    for number in (6, 12):
        checkpoints = np.arange(number) if number == 6 else np.arange(12) // 2
        points = SimpleNamespace(x=x[:number], y=y[:number])
        (far,) = far_checkpoints([CheckpointCurves("", points.x, points.y, np.zeros(number), checkpoints)], "y")
        assert far is None


def glitch(table: pd.DataFrame, data: str, factor: float, step: int = PLACE) -> pd.DataFrame:
    """Return the table with a loss times a factor at one step of all runs of one recipe that is else like the base."""
    levels = COMPUTE_BASE | {"data": data}
    is_bad = (table.step == step) & np.logical_and.reduce([table[name] == level for name, level in levels.items()])
    return table.assign(loss=table.loss * np.where(is_bad, factor, 1.0))


@pytest.mark.parametrize(
    ("factor", "data", "kind"),
    [(factor, data, "measured") for factor in (0.5, 0.85, 20.0) for data in ("wiki", "code")]
    + [(0.85, "code", "power law")],
)
def test_a_bad_checkpoint_of_all_runs_makes_no_speedup(factor, data, kind):
    clean = planted_table(3, 1.0, Design(5, 5))
    options = fit.CurveOptions(curve=kind)
    result = fit.compare_compute(glitch(clean, data, factor), "loss", COMPUTE_BASE, curves=options).factor("data")
    expected = fit.compare_compute(clean, "loss", COMPUTE_BASE, curves=options).factor("data").levels[0]
    level = result.levels[0]
    assert level.verdict == expected.verdict == "no difference"
    assert level.speedup == pytest.approx(expected.speedup, rel=0.02)
    assert f"of {'the base' if data == 'wiki' else 'data=code'} (loss " in result.note
    stated = float(result.note.split(" times the loss of the curve")[0].split()[-1])
    assert stated == pytest.approx(factor, rel=0.05)


def test_a_curve_with_a_plateau_has_no_bad_checkpoint():
    design = Design(5, 3, curve=plateau_curve)
    results = [fit.compare_compute(planted_table(seed, 1.3, design), "loss", COMPUTE_BASE) for seed in range(2)]
    assert not any("set aside" in item.note for result in results for item in result.factors)


def test_the_command_names_the_step(tmp_path, capsys):
    generator = np.random.Generator(np.random.PCG64(0))
    rows = []
    for data in ("web", "code"):
        for seed in range(4):
            wiki = np.linspace(4.5, 3.0, 10) + generator.normal(0, 0.005, 10)
            task = 1.1 * wiki + generator.normal(0, 0.01) + generator.normal(0, 0.003, 10)
            task += 1.5 * (data == "code") * (np.arange(10) == PLACE)
            names = {"run_id": f"{data}{seed}", "data": data}
            rows += [names | {"step": 100 * k, "wiki": wiki[k], "task": task[k]} for k in range(10)]
    path = tmp_path / "t.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    main(["table", "compare", str(path), "--x", "wiki", "--y", "task", "--factors", "data", "--base", "data=web"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"at step {100 * PLACE} of data=code (x 3." in text
    assert float(text.split("all runs lie ")[1].split()[0]) == pytest.approx(1.5, abs=0.01)
    assert "with all points: moves, gap +0.1" in text
