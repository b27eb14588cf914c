"""The groups of figures follow from the factor columns, and fits of their lines recover the planted gaps."""

import itertools
import json

import numpy as np
import pytest

from lossline_jax.fit.study import panels as kind
from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.fit.study.isoflop import fit_isoflops
from lossline_jax.fit.study.panel_lines import comparing_unit, fit_panel_lines
from lossline_jax.fit.study.panels import own_set, panel_line_specs
from lossline_jax.fit.study.results import StudyFits
from tests.support import planted_figures as planted

UNITS = ("nats_per_token", "bits_per_byte")


def ids(*changes):
    return {planted.run_id(change, seed) for change in changes for seed in range(2)}


@pytest.fixture(scope="module")
def frame():
    return planted.table()


@pytest.fixture(scope="module")
def groups(frame):
    return panel_line_specs(frame, planted.X, planted.Y, planted.run_id({}))


@pytest.fixture(scope="module")
def lines(frame):
    return fit_panel_lines(frame, planted.X, planted.Y, UNITS, base=planted.BASE, num_resamples=20)


def runs_by_panel(groups, figure):
    return {(*group.panel.values(), group.level): set(group.run_ids) for group in groups if group.figure == figure}


def crossed_levels(data, tokenizer, architecture):
    size = "small" if architecture == "llama" else "small-mamba"
    return {"data": data, "tokenizer": tokenizer, "architecture": architecture, "size": size}


def test_matched_panels_are_the_crossed_cells_and_no_others(groups):
    """Sizes of two architectures count as equal within 10%.

    Runs with another size, context or optimiser match no other run and are in no panel. The same holds for the run that
    differs in three factors.
    """
    names = {"data": ("wiki", "code"), "tokenizer": ("bpe", "bytes"), "architecture": ("llama", "mamba")}
    for factor in names:
        other_factors = [name for name in names if name != factor]
        expected = {
            (*panel, level): ids(crossed_levels(**dict(zip(other_factors, panel, strict=True)), **{factor: level}))
            for panel in itertools.product(*(names[name] for name in other_factors))
            for level in names[factor]
        }
        assert runs_by_panel(groups, f"matched {factor}") == expected


def test_pools_hold_runs_that_differ_in_one_factor_alone(groups):
    cell = ("wiki", "bpe", "llama", "")
    assert runs_by_panel(groups, "pool size") == {cell: ids({}, {"size": "large"})}
    assert runs_by_panel(groups, "pool context_length") == {cell: ids({}, {"context_length": 128})}
    assert runs_by_panel(groups, "pool optimiser") == {cell: ids({}, {"optimiser": "sgd"})}


def test_own_validation_holds_all_runs_of_a_cell(groups):
    of_base = {
        key: runs
        for key, runs in runs_by_panel(groups, kind.OWN_VALIDATION).items()
        if key[:3] == ("wiki", "bpe", "llama")
    }
    all_runs = ids({}, {"size": "large"}, {"context_length": 128}, {"optimiser": "sgd"})
    assert of_base == {("wiki", "bpe", "llama", name): all_runs for name in ("code", "letters")}
    xs = {group.panel["data"]: group.x for group in groups if group.figure == kind.OWN_TASK}
    assert xs == {"wiki": "wiki", "code": "code", "letters": "letters"}


def test_pairs_of_sets_hold_runs_that_differ_from_the_base_in_data(groups):
    levels = {"wiki": ids({}), "code": ids({"data": "code"})}
    train, test = runs_by_panel(groups, kind.TRAIN_TO_TRAIN), runs_by_panel(groups, kind.TEST_TO_TEST)
    assert train == {(name, level): runs for name in ("code", "letters") for level, runs in levels.items()}
    assert test == {("riddle", level): runs for level, runs in levels.items()}


def test_renamed_runs_and_sets_make_the_same_groups(frame, groups):
    names = {name: f"r{k}" for k, name in enumerate(frame["run_id"].unique())}
    renamed = frame.assign(run_id=frame["run_id"].map(names))
    renamed_groups = panel_line_specs(renamed, planted.X, planted.Y, renamed["run_id"].iloc[0])
    assert [(g.figure, g.panel, g.level, len(g.run_ids)) for g in renamed_groups] == [
        (g.figure, g.panel, g.level, len(g.run_ids)) for g in groups
    ]


def test_planted_gaps_are_those_between_fitted_lines(lines):
    for factor, level, gap in (("data", "code", planted.DATA_GAP), ("tokenizer", "bytes", planted.TOKENIZER_GAP)):
        panels = {}
        for line in lines:
            if line.figure == f"matched {factor}" and line.unit == "bits_per_byte":
                panels.setdefault(tuple(line.panel.values()), {})[line.level] = line.fit
        assert len(panels) == 4
        for fits in panels.values():
            moved = fits.pop(level)
            (base,) = fits.values()
            x = np.linspace(2.3, 3.2, 9)
            assert np.mean(moved.predict(x=x) - base.predict(x=x)) == pytest.approx(gap, abs=0.01)


def test_one_line_serves_a_pool_that_nothing_moves(lines):
    (size,) = [line for line in lines if line.figure == "pool size"]
    assert size.fit.rmse < 0.004  # close to the planted noise
    assert (size.level, size.fit.num_points, size.fit.num_runs) == ("", 32, 4)


def test_matched_grids_are_in_both_units_and_others_in_the_one_that_compares(frame, lines):
    assert {line.unit for line in lines if line.figure.startswith("matched")} == set(UNITS)
    assert {line.unit for line in lines if not line.figure.startswith("matched")} == {"bits_per_byte"}
    assert comparing_unit(frame[frame["tokenizer"] == "bpe"], UNITS) == "nats_per_token"
    assert comparing_unit(frame.assign(bits_per_byte=np.nan), UNITS) == "nats_per_token"


def test_bands_are_thin_and_hold_their_line(lines):
    for line in lines:
        assert len(line.band.x) == 30
        low, mid, high = (np.array(v) for v in (line.band.lower, line.band.estimate, line.band.upper))
        assert np.mean((low <= mid + 1e-3) & (mid <= high + 1e-3)) > 0.9


def test_few_points_and_unstated_factors_make_no_lines(frame):
    short = frame[(frame["step"] == 1) & (frame["seed"] == 0)]  # at most four points a line
    assert fit_panel_lines(short, planted.X, planted.Y, UNITS, base=planted.BASE) == ()
    unstated = frame.assign(data=frame["data"].where(frame["data"] != "code", "unknown"))
    groups = panel_line_specs(unstated, planted.X, planted.Y, planted.run_id({}))
    assert not runs_by_panel(groups, "matched data")
    assert len(runs_by_panel(groups, "matched tokenizer")) == 4


def test_a_table_without_factors_or_sets_has_no_figures():
    wide = planted.table().pivot_table(index="run_id", columns="eval_set", values="bits_per_byte").reset_index()
    assert fit_panel_lines(wide, planted.X, planted.Y, ("",), base={}) == ()


@pytest.mark.parametrize(
    ("data", "sets", "own"),
    [
        ("wiki", ["wiki", "wiki_fr"], "wiki"),
        ("fineweb-100b", ["fineweb_1T", "fineweb_100b"], "fineweb_100b"),
        ("smollm-corpus", ["c4", "smollm"], "smollm"),
        ("code70+wiki30", ["wiki", "letters"], None),
        ("slimpajama", ["slim", "slimp"], None),
    ],
)
def test_the_own_set_of_a_corpus(data, sets, own):
    assert own_set(data, sets) == own


def test_least_loss_of_planted_parabolas():
    items, _ = fit_isoflops(planted.isoflop_table(), planted.X, "bits_per_byte")
    assert [round(item.budget / 6e16) for item in items] == [1, 10, 100]
    for k, item in enumerate(items):
        assert item.params_min == pytest.approx((6e16 * 10**k / 6e2) ** 0.5, rel=1e-6)
        assert item.loss_min == pytest.approx(3.0 - 0.1 * k)
        assert item.coefficients[0] == pytest.approx(0.02)
        assert len(item.run_ids) == 5
        assert item.eval_set == "wiki"


def test_isoflops_need_sizes_at_several_budgets():
    table = planted.isoflop_table()
    assert fit_isoflops(table[table["train_flops"] < 1e17], planted.X, "bits_per_byte") == ((), ())
    assert fit_isoflops(planted.table(), planted.X, "bits_per_byte") == ((), ())
    upside_down, _ = fit_isoflops(planted.isoflop_table(curvature=-0.02), planted.X, "bits_per_byte")
    assert [item.params_min for item in upside_down] == [None] * 3


@pytest.mark.slow
def test_fits_carry_figures_through_json_and_are_the_same_again(frame):
    first, again = (
        fit_study(frame, planted.X, planted.Y, planted.BASE, statistics=Statistics(num_resamples=5)) for _ in range(2)
    )
    assert first.panel_lines
    text = json.dumps(first.to_json(), allow_nan=False)
    assert text == json.dumps(again.to_json())
    assert StudyFits.from_json(json.loads(text)) == first
