"""Laws are fitted to tables of every kind. Groups that fail are named, and the other groups are fitted."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.laws.architecture import PRECISION
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA
from lossline_jax.fit.predict.table_series import Columns, series_of_table
from lossline_jax.fit.resampling import bootstrap
from lossline_jax.fit.solve import fit_law, fit_law_many
from lossline_jax.fit.study.law_request import LawOptions
from lossline_jax.fit.study.table_laws import fit_laws
from lossline_jax.fit.study.table_lines import Across, fit_lines
from lossline_jax.fit.tables.other_unit import runs_of_another_size
from lossline_jax.fit.tables.wide import wide_table
from lossline_jax.summary.laws import law_fits_text

PLANTED = {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}
LOSS_OF_SIZE = (("loss",), ("params",), "tokens")
INPUTS = {"N": "params", "D": "tokens"}
POINTS_ONLY = LawOptions(level=None)  # no intervals


def table(groups=("a", "b")):
    size, tokens = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e11, 5)))
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 1e-3, size.size)
    frames = []
    for k, name in enumerate(groups):
        loss = CHINCHILLA(PLANTED | {"E": 1.8 + 0.1 * k}, {"N": size, "D": tokens}) * np.exp(noise)
        frames.append(pd.DataFrame({"data": name, "params": size, "tokens": tokens, "loss": loss}))
    return pd.concat(frames, ignore_index=True)


def long_table():
    """Return the table in lossline's own columns, with a row for each checkpoint and evaluation set."""
    wide = table()
    rows = []
    for name, factor in (("wiki", 1.0), ("code", 1.1)):
        rows.append(
            pd.DataFrame(
                {
                    "run_id": [f"run{k}" for k in range(len(wide))],
                    "step": 10,
                    "data": wide["data"],
                    "params_total": wide["params"],
                    "params_non_embedding": 0.8 * wide["params"],
                    "tokens_seen": wide["tokens"],
                    "eval_set": name,
                    "nats_per_token": factor * wide["loss"],
                    "bits_per_byte": 0.3 * factor * wide["loss"],
                    "loss_definition": "mean over tokens",
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_a_number_is_the_input_of_every_row():
    """The fit with numbers equals the fit with columns of these numbers, and finds the planted constants."""
    planted = PLANTED | {"gamma_w": 2.0, "gamma_a": 1.0, "gamma_kv": 1.0}
    frame = table(("a",)).drop(columns="loss").merge(pd.DataFrame({"bits": [2, 3, 4, 8, 32]}), how="cross")
    inputs = {"N": "params", "D": "tokens", "P_w": "bits"}
    frame["loss"] = PRECISION(
        planted, {name: frame[column] for name, column in inputs.items()} | {"P_a": 8, "P_kv": 16}
    )
    options = LawOptions(fixed={"gamma_a": 1.0, "gamma_kv": 1.0}, level=None)
    fits = fit_laws(frame, "precision", inputs | {"P_a": "8", "P_kv": "16"}, ["loss"], options=options)
    assert fits.fits[0].fit.parameters == pytest.approx(planted, rel=1e-4)
    columns = frame.assign(eight=8, sixteen=16)
    given = fit_laws(columns, "precision", inputs | {"P_a": "eight", "P_kv": "sixteen"}, ["loss"], options=options)
    assert given.fits[0].fit.parameters == fits.fits[0].fit.parameters
    alike = fit_laws(frame, "precision", inputs | {"P_a": "8", "P_kv": "8"}, ["loss"], options=options)
    assert alike.fits[0].fit.has_curve
    for number in ("-16", "0", "1e300"):
        with pytest.raises(LosslineError, match=rf"inputs: P_a={number} is outside \(0, inf\) \(training bits"):
            fit_laws(frame, "precision", inputs | {"P_a": number, "P_kv": "16"}, ["loss"], options=options)
    named = frame.assign(**{"16": 4})
    with pytest.raises(LosslineError, match="inputs: P_a=16: a column of the table has this number as its name"):
        fit_laws(named, "precision", inputs | {"P_a": "16", "P_kv": "8"}, ["loss"], options=options)
    for word in ("nan", "inf", "1_6", "lots"):
        with pytest.raises(LosslineError, match=f"inputs: the table has no column '{word}'"):
            fit_laws(frame, "precision", inputs | {"P_a": word, "P_kv": "16"}, ["loss"], options=options)


def test_an_input_without_effect_leaves_its_parameter_unknown():
    """With more unique tokens than tokens, each token is read once, and R_D* has no effect."""
    frame = table(("a",)).assign(unique=1e12)
    inputs = {"N": "params", "D": "tokens", "U_D": "unique"}
    fit = fit_laws(frame, "repetition", inputs, ["loss"]).fits[0].fit
    assert fit.status == "not identified"
    assert "R_D_star" in fit.not_identified


@pytest.mark.parametrize(("column", "factor"), [("params", 1e6), ("tokens", 1e-6)])
@pytest.mark.parametrize("shared", [(), ("alpha",)])
def test_a_run_of_another_size_is_named(column, factor, shared):
    frame = table().assign(run_id=[f"r{k}" for k in range(50)])
    frame.loc[12, column] *= factor
    value, others = frame[column][12], frame[column].drop(index=12)
    nearest = others[frame.data == "a"].max() if factor > 1 else others[frame.data == "a"].min()
    words = (
        f"run r12: {column} is {value:.3g}, {value / nearest:.2g} times the {'largest' if factor > 1 else 'smallest'}"
    )
    first, second = fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=LawOptions(shared=shared)).fits
    assert f"{words} of all others; check its unit" in first.fit.note
    assert "check its unit" not in second.fit.note


def test_a_wide_range_of_sizes_is_no_other_unit():
    """The unit is not in doubt where a run has both sizes, nor where many runs have the other size."""
    sizes = np.geomspace(1e6, 1e9, 12)
    names = [f"r{k}" for k in range(12)]
    assert runs_of_another_size(sizes, names, "params") == ""
    assert runs_of_another_size(np.where(sizes > 1e8, 1e4 * sizes, sizes), names, "params") == ""
    first_is_tiny = np.tile([1.0, 1e5, 2e5, 3e5, 4e5], 3)
    assert runs_of_another_size(first_is_tiny, np.repeat(["a", "b", "c"], 5).tolist(), "tokens") == ""
    one = np.append(sizes, 2e12)
    assert runs_of_another_size(one, [*names, "x"], "params").startswith("x: params is 2e+12, 2e+03 times the largest")


def test_each_group_has_its_law():
    law_fits = fit_laws(table(), "chinchilla", INPUTS, ["loss"], by=["data"])
    assert [group.label for group in law_fits.fits] == ["data=a", "data=b"]
    for k, group in enumerate(law_fits.fits):
        assert group.fit.status == "converged"
        assert group.fit.parameters["E"] == pytest.approx(1.8 + 0.1 * k, abs=0.02)
        assert group.fit.conventions == {
            "N": "parameters: column params",
            "D": "training tokens: column tokens",
            "L": "loss",
            "intervals": "90%, profile likelihood of independent rows",
        }
    assert law_fits.failures == ()


def test_polars_and_parquet_give_what_pandas_gives(tmp_path):
    polars = pytest.importorskip("polars")
    expected = fit_laws(table(), "chinchilla", INPUTS, ["loss"], options=POINTS_ONLY)
    assert fit_laws(polars.from_pandas(table()), "chinchilla", INPUTS, ["loss"], options=POINTS_ONLY) == expected
    table().to_parquet(tmp_path / "t.parquet")
    read = pd.read_parquet(tmp_path / "t.parquet")
    assert fit_laws(read, "chinchilla", INPUTS, ["loss"], options=POINTS_ONLY) == expected


def test_a_long_table_is_read_by_evaluation_set_and_unit():
    inputs = {"N": "params_total", "D": "tokens_seen"}
    nats, bits = (
        fit_laws(long_table(), "chinchilla", inputs, ["wiki"], by=["data"], unit=unit, options=POINTS_ONLY)
        for unit in (None, "bits_per_byte")
    )
    assert nats.fits[0].fit.parameters["E"] == pytest.approx(1.8, abs=0.02)
    assert bits.fits[0].fit.parameters["E"] == pytest.approx(0.54, abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": -1.0}, "row 1: loss is -1.0; losses are positive numbers"),
        ({"loss": 0.0}, "row 1: loss is 0.0; losses are positive numbers"),
        ({"loss": "n/a"}, "row 1: loss is n/a; losses are positive numbers"),
        ({"loss": np.inf}, "row 1: loss is inf; losses are positive numbers"),
    ],
)
def test_a_bad_loss_fails_its_group_and_no_other(change, message):
    frame = table().astype({"loss": object})
    for column, value in change.items():
        frame.loc[0, column] = value
    law_fits = fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"], options=POINTS_ONLY)
    assert len(law_fits.failures) == 1
    assert law_fits.failures[0].startswith("data=a, loss: ")
    assert message in law_fits.failures[0]
    assert law_fits.fits[-1].fit.status == "converged"


def test_short_constant_repeated_and_missing_rows_are_said():
    frame = pd.concat([table(), table(["few"])[:3], table(["one size"]).assign(params=1e8)], ignore_index=True)
    frame = pd.concat([frame, frame[frame["data"] == "b"][:2]], ignore_index=True)
    frame.loc[4, "loss"] = np.nan
    fits = {group.label: group.fit for group in fit_laws(frame, "chinchilla", INPUTS, ["loss"], by=["data"]).fits}
    assert fits["data=few"].status == "too few points"
    assert fits["data=one size"].status != "converged"
    assert "N takes one value" in fits["data=one size"].note
    assert "2 rows occur more than once" in fits["data=b"].note
    assert fits["data=a"].num_dropped == 1
    assert "1 rows dropped" in fits["data=a"].note


def test_intervals_by_run_are_wider_where_runs_differ():
    frame = table(["a"])
    run = np.arange(len(frame)) // 5
    shift = np.random.Generator(np.random.PCG64(3)).normal(0, 0.02, run.max() + 1)
    frame = frame.assign(run=run, loss=frame["loss"] * np.exp(shift[run]))
    options = LawOptions(objective="log least squares")
    by_point, by_run = (
        fit_laws(frame, "chinchilla", INPUTS, ["loss"], cluster=cluster, options=options).fits[0].fit
        for cluster in (None, "run")
    )
    assert by_run.parameters == by_point.parameters
    assert np.ptp(by_run.intervals["beta"]) != np.ptp(by_point.intervals["beta"])
    assert "bootstrap of 5 runs" in by_run.note
    single_run = fit_laws(frame.assign(run="only"), "chinchilla", INPUTS, ["loss"], cluster="run").fits[0].fit
    assert single_run.intervals == {}
    assert "one run only" in single_run.note


def test_runs_are_found_by_themselves_and_their_checkpoints_are_no_independent_rows():
    frame = table(["a"])
    shift = np.random.Generator(np.random.PCG64(3)).normal(0, 0.02, 5)
    run = np.arange(len(frame)) // 5
    frame = frame.assign(run=run, loss=frame["loss"] * np.exp(shift[run]))
    named = fit_laws(frame, "chinchilla", INPUTS, ["loss"], cluster="run")
    default = fit_laws(frame.rename(columns={"run": "run_id"}), "chinchilla", INPUTS, ["loss"])
    assert default.fits[0].fit.intervals == named.fits[0].fit.intervals
    assert (default.runs, named.runs) == ("run_id", "run")
    assert default.fits[0].fit.conventions["intervals"] == "90%, bootstrap of 5 whole runs"
    assert "runs are those of column run_id" in law_fits_text(default)
    # with one row for each run, rows are independent, so profile intervals are right
    single = fit_laws(table(["a"]).assign(run_id=range(25)), "chinchilla", INPUTS, ["loss"])
    plain = fit_laws(table(["a"]), "chinchilla", INPUTS, ["loss"])
    assert single.fits[0].fit.intervals == plain.fits[0].fit.intervals
    assert plain.runs is None
    assert "rows count as independent runs" in law_fits_text(plain)


def test_intervals_of_a_line_resample_the_runs_that_the_table_names():
    generator = np.random.Generator(np.random.PCG64(0))
    x = np.tile(np.linspace(2.5, 4.0, 10), 6)
    run = np.repeat(np.arange(6), 10)
    frame = pd.DataFrame({"x": x, "y": 0.9 * (x - 1.5) ** 1.3 + 1.1 + generator.normal(0, 0.02, 6)[run], "model": run})
    (alone,) = fit_lines(frame, "x", "y").lines
    (by_run,) = fit_lines(frame, "x", "y", cluster="model").lines
    (default,) = fit_lines(frame.rename(columns={"model": "run_id"}), "x", "y").lines
    assert default.fit.intervals == by_run.fit.intervals != alone.fit.intervals
    assert by_run.fit.conventions["intervals"] == "90%, bootstrap of 6 whole runs"
    (single_run,) = fit_lines(frame[frame["model"] == 0], "x", "y", cluster="model").lines
    assert single_run.fit.intervals == {}
    assert single_run.fit.conventions["intervals"] == "none: one run only"
    twice = pd.concat([frame.assign(data=name) for name in "ab"], ignore_index=True)
    twice["y"] += 0.01 * (twice["data"] == "b")
    for line in fit_lines(twice, "x", "y", cluster="model", across=Across("data", ("model", "x"))).lines:
        assert line.run_ids == tuple("012345")


def test_profile_intervals_that_take_checkpoints_for_independent_say_so():
    frame = table(["a"])
    inputs = {"N": frame["params"], "D": frame["tokens"]}
    fit = fit_law("chinchilla", frame["loss"], clusters=np.arange(25) // 5, **inputs)
    assert "too narrow" in fit.conventions["intervals"]
    for clusters, level in ((np.arange(25), 0.9), (None, 0.9), (np.arange(25) // 5, None)):
        assert fit_law("chinchilla", frame["loss"], clusters=clusters, level=level, **inputs).conventions == {}


def test_weights_count_in_the_fit_its_errors_and_its_resamples():
    frame = table(["a"])
    inputs, loss = {"N": frame["params"].to_numpy(), "D": frame["tokens"].to_numpy()}, frame["loss"].to_numpy().copy()
    loss[::5] *= 1.5
    weights = np.where(np.arange(25) % 5 == 0, 0.0, 1.0)
    keep = weights > 0
    few = DataSet({name: values[keep] for name, values in inputs.items()}, loss[keep])
    whole, part = fit_law_many(CHINCHILLA, [DataSet(inputs, loss, weights=weights), few])
    assert (whole.rmse, whole.r_squared) == pytest.approx((part.rmse, part.r_squared), rel=1e-6)
    samples = bootstrap(whole, inputs, loss, weights=weights, num_resamples=50).samples["E"]
    assert np.quantile(samples, [0.05, 0.95]) == pytest.approx(part.parameters["E"], abs=0.1)


def test_series_of_a_table_know_their_group_and_what_was_left_out():
    frame = table()
    frame.loc[3, "loss"] = np.nan
    frame.loc[30, "loss"] = -2.0
    table_series = series_of_table(frame, Columns(*LOSS_OF_SIZE, by=("data",)))
    assert [s.name for s in table_series.series] == ["data=a: loss"]
    assert table_series.series[0].y.size == 24
    assert table_series.series[0].rows.budget == pytest.approx(
        6 * table_series.series[0].rows.sizes["params"] * table_series.series[0].rows.tokens
    )
    assert any("1 rows without a loss" in note for note in table_series.notes)
    assert any(note.startswith("data=b: loss: left out: row 31: loss is -2") for note in table_series.notes)


def test_a_checkpoint_keeps_its_size_whatever_set_is_named_first():
    frame = long_table()
    frame = frame[~((frame["eval_set"] == "wiki") & frame["run_id"].isin([f"run{k}" for k in range(10)]))]
    columns = [Columns(losses, ("params_total",), by=("data",)) for losses in (("wiki", "code"), ("code", "wiki"))]
    sizes = [{s.name: s.y.size for s in series_of_table(frame, choice).series} for choice in columns]
    assert sizes[0] == sizes[1]
    assert sizes[0]["data=a: code"] == 25
    tagged = frame.assign(tag=frame["data"].str.upper())
    assert series_of_table(tagged, Columns(("code",), ("params_total",), by=("tag",))).series[0].name == "tag=A: code"


def test_series_across_a_column_are_paired_both_ways():
    table_series = series_of_table(table(), Columns(*LOSS_OF_SIZE, x="loss", across="data"))
    assert [s.name for s in table_series.series] == ["data a -> b: loss -> loss", "data b -> a: loss -> loss"]
    assert table_series.series[0].rows.x == pytest.approx(table_series.series[1].y)


def test_series_of_a_long_table():
    columns = Columns(("wiki", "code"), ("params_total", "params_non_embedding"), by=("data",))
    table_series = series_of_table(long_table(), columns)
    assert [s.name for s in table_series.series] == ["data=a: wiki", "data=a: code", "data=b: wiki", "data=b: code"]
    assert list(table_series.series[0].rows.sizes) == ["params_total", "params_non_embedding"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_laws(table(), "chinchila", INPUTS, ["loss"]), "did you mean 'chinchilla'"),
        (lambda: fit_laws(table(), "chinchilla", {"M": "params"}, ["loss"]), "no input 'M'"),
        (lambda: fit_laws(table(), "chinchilla", INPUTS, ["los"]), "no column 'los'.*did you mean 'loss'"),
        (lambda: fit_laws(table(), "chinchilla", {"N": "size", "D": "tokens"}, ["loss"]), "no column 'size'"),
        (
            lambda: fit_laws(table(), "chinchilla", INPUTS, ["loss"], options=LawOptions(objective="huber")),
            "not one of",
        ),
        (lambda: fit_laws(table()[:2], "chinchilla", INPUTS, ["loss"]), "2 points for 5 free"),
        (lambda: fit_laws([1, 2], "chinchilla", INPUTS, ["loss"]), "pandas or polars"),
        (lambda: wide_table(table().assign(unit=["nats"] * 49 + ["bits"]), ["loss"]), "unit 'nats' and 'bits'"),
        (lambda: wide_table(long_table(), ["wikki"]), "no evaluation set 'wikki'.*did you mean 'wiki'"),
        (lambda: wide_table(pd.concat([long_table()] * 2), ["wiki"]), "more than once"),
        (
            lambda: series_of_table(table().assign(params=0.0), Columns(*LOSS_OF_SIZE)),
            "row 1: params is 0",
        ),
        (
            lambda: series_of_table(table(), Columns(*LOSS_OF_SIZE, across="data")),
            "name with x the loss of the first model",
        ),
        (
            lambda: series_of_table(table(["a"]), Columns(*LOSS_OF_SIZE, x="loss", across="data")),
            "no series",
        ),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
