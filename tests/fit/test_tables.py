"""A table of any kind gives lines, comparisons, compute laws and named failures, which survive JSON."""

import json

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.study.fit_study import Statistics, fit_study
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.study.table_lines import fit_lines
from lossline_jax.summary.fits import fits_text

BASE = {
    "data": "wiki",
    "tokenizer": "bpe1024",
    "architecture": "llama",
    "size": "d64-L4",
    "context_length": 128,
    "optimiser": "adamw",
}
BYTES_PER_TOKEN = {"bpe1024": 4.0, "bytes": 1.0}


def wide(num_points=12):
    generator = np.random.Generator(np.random.PCG64(0))
    blocks = []
    for group, gap in (("a", 0.0), ("b", 0.5)):
        x = np.linspace(2.5, 5.0, num_points)
        y = 0.9 * (x - 1.5) ** 1.3 + 1.1 + gap + generator.normal(0, 0.01, num_points)
        blocks.append(pd.DataFrame({"group": group, "val": x, "task": y}))
    return pd.concat(blocks, ignore_index=True)


def long(interventions, steps=10, seeds=1):
    """Return a losses table: checkpoints of the base (each seed) and of one run for each intervention."""
    rows = []
    runs = [BASE | {"seed": seed} for seed in range(seeds)]
    runs += [BASE | {"seed": 0} | change for change in interventions]
    for number, factors in enumerate(runs):
        generator = np.random.Generator(np.random.PCG64(number))
        size = {"d64-L4": 4e5, "d32-L2": 1e5, "d64-L8": 4.1e5, "d16-L2": 4e4}[factors["size"]]
        tokens = np.linspace(1e5, 1e6, steps)
        x = 2.0 + 60 * size**-0.3 + 90 * tokens**-0.35
        y = 0.8 * (x - 1.0) ** 1.2 + 1.0 + generator.normal(0, 0.004, steps)
        y += 0.4 * (factors["data"] != "wiki")
        for step in range(steps):
            for name, loss in (("wiki", x), ("cloze", y)):
                rows.append(
                    factors
                    | {"run_id": f"run{number}", "step": step, "eval_set": name, "tokens_seen": tokens[step]}
                    | {"params_total": size, "params_non_embedding": size / 2, "nats_per_token": loss[step]}
                    | {"bits_per_byte": loss[step] / np.log(2) / BYTES_PER_TOKEN[factors["tokenizer"]]}
                )
    return pd.DataFrame(rows)


def test_wide_table_by_group():
    fits = fit_lines(wide(), "val", "task", ["group"])
    assert [line.label for line in fits.lines] == ["group=a", "group=b"]
    assert fits.comparisons == ()
    assert len(fits.lines[0].band.x) == 60


def test_wide_table_with_a_factor_is_compared():
    fits = fit_study(wide(), "val", "task", {"group": "a"}, factors=["group"])
    assert [line.label for line in fits.lines] == ["base", "group=b"]
    (comparison,) = fits.comparisons
    assert (comparison.factor, comparison.reference, comparison.verdict) == ("group", "a", "moves")
    assert comparison.levels[0].gap == pytest.approx(0.5, abs=0.02)
    assert comparison.unit == ""


def test_the_base_may_spell_a_number_in_another_way():
    numbered = wide().assign(group=np.repeat([7.0, 8.0], 12))
    assert fit_study(numbered, "val", "task", {"group": "8.0"}, factors=["group"]).comparisons[0].reference == "8"


def test_wide_table_without_groups_is_one_line():
    fits = fit_lines(wide()[:12], "val", "task")
    assert [(line.label, line.fit.num_points) for line in fits.lines] == [("all", 12)]
    assert fits.comparisons == ()


def test_long_table_is_paired_within_a_checkpoint():
    table = long([])
    shuffled = table.sample(frac=1, random_state=0)
    fits = fit_lines(shuffled, "wiki", "cloze", ["data"], unit="bits_per_byte")
    (line,) = fits.lines
    assert line.fit.num_points == 10
    assert line.fit.conventions["x"] == "bits/byte"
    assert line.run_ids == ("run0",)
    assert line.uncertainty_note.startswith("one run only")
    x = table[table["eval_set"] == "wiki"]["bits_per_byte"]
    assert line.fit.domain["x"] == pytest.approx((x.min(), x.max()))


def test_short_group_is_reported_and_the_rest_fitted():
    table = wide()
    fits = fit_study(table[:14], "val", "task", {"group": "a"}, factors=["group"])
    assert [line.fit.status == "too few points" for line in fits.lines] == [False, True]
    assert fits.failures == ("group=b: too few points: 2 points for 4 free parameters (unit of the table)",)
    assert fits.comparisons[0].verdict == "cannot tell"
    assert fits.comparisons[0].levels[0].note.startswith("only 2 points on the common support")


@pytest.mark.parametrize("bad", [0.0, -1.5, np.inf, "n/a"])
def test_bad_loss_fails_its_group_with_the_row_and_no_other(bad):
    table = wide().astype({"task": object})
    table.loc[16, "task"] = bad
    fits = fit_lines(table, "val", "task", ["group"])
    assert [line.label for line in fits.lines] == ["group=a"]
    assert fits.failures == (f"group=b: row 17: task is {bad}; losses are positive numbers",)


def test_bad_loss_in_the_only_group_is_an_error():
    table = wide()
    table.loc[3, "val"] = -1.0
    with pytest.raises(LosslineError, match=r"row 4: val is -1\.0"):
        fit_lines(table, "val", "task")


def test_missing_and_repeated_rows_are_counted_in_the_note():
    table = pd.concat([wide()[:12], wide()[:1]], ignore_index=True)
    table.loc[5, "task"] = np.nan
    (line,) = fit_lines(table, "val", "task").lines
    assert line.fit.num_dropped == 1
    assert "1 points occur more than once" in line.fit.note
    assert "1 points with a missing loss dropped" in line.fit.note


def with_cells(frame, column, source, run="run1", below_step=99):
    """Return the table with cells of the column `source` in `column`, in rows of one run."""
    chosen = (frame["run_id"] == run) & (frame["step"] < below_step)
    return frame.assign(**{column: frame[column].where(~chosen, frame[source])})


def with_fingerprints(frame, run):
    """Return the table with a fingerprint of texts for each tokenizer, and another one for `run`."""
    return frame.assign(eval_fingerprint=(frame["eval_set"] + frame["tokenizer"]).where(frame["run_id"] != run, "else"))


def test_texts_of_two_tokenizers_are_not_one_text():
    scored = with_fingerprints(long([{"tokenizer": "bytes"}], seeds=2), "none")
    assert scored["eval_fingerprint"].nunique() == 4
    assert fit_study(scored, "wiki", "cloze", statistics=Statistics(num_resamples=20)).comparisons


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fit_lines(wide(), "vall", "task"),
            "no column 'vall'; did you mean 'val'.*it has group, val, task",
        ),
        (lambda: fit_lines(wide(), "val", "task", ["grup"]), "did you mean 'group'"),
        (lambda: fit_study(wide(), "val", "task", {"group": "z"}, factors=["group"]), "no run has group 'z'"),
        (
            lambda: fit_study(wide(), "val", "task", {"size": "a"}, factors=["group"]),
            "'size' is not a factor of this table",
        ),
        (lambda: fit_study(wide(), "val", "task", factors=["grup"]), "did you mean 'group'"),
        (lambda: fit_lines(wide(), "val", "val"), "two different losses"),
        (lambda: fit_lines(wide()[:0], "val", "task"), "no rows"),
        (
            lambda: fit_lines(long([]), "wikki", "cloze"),
            "no evaluation set 'wikki' in the table; did you mean 'wiki'",
        ),
        (lambda: fit_lines(long([]), "wiki", "cloze", unit="nats"), "no column 'nats'"),
        (
            lambda: fit_study(with_cells(long([{"data": "code"}]), "nats_per_token", "bits_per_byte"), "wiki", "cloze"),
            "run 'run1': nats_per_token and bits_per_byte of wiki are equal in all its rows",
        ),
        (
            lambda: fit_lines(with_cells(long([]), "bits_per_byte", "nats_per_token", "run0"), "wiki", "cloze"),
            "run 'run0': nats_per_token and bits_per_byte of wiki are equal",
        ),
        (
            lambda: fit_study(
                with_cells(long([{"data": "code"}], seeds=2), "nats_per_token", "bits_per_byte", "run1", 3),
                "wiki",
                "cloze",
            ),
            "run run1, step 0: nats_per_token of wiki is 1 times bits_per_byte, and .* of tokenizer 'bpe1024'; one of",
        ),
        (
            lambda: fit_study(with_fingerprints(long([{"data": "code"}]), "run1"), "wiki", "cloze"),
            "wiki: run run0, step 0 and run run1, step 0 were scored on different texts .* with tokenizer 'bpe1024'",
        ),
        (lambda: fit_study(long([]), "wiki", "cloze", units=["nats_per_token"] * 2), "unit 'nats_per_token' is named"),
        (lambda: fit_lines(pd.concat([long([])] * 2), "wiki", "cloze"), "more than once"),
        (lambda: fit_study(wide(), "val", "task"), "none of the factor columns data, tokenizer"),
        (lambda: fit_study(long([]), "wiki", "cloze", BASE | {"data": "wikki"}), "did you mean 'wiki'"),
    ],
)
def test_mistakes_get_one_line(call, message):
    with pytest.raises(LosslineError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def study():
    interventions = [
        {"data": "code"},
        {"tokenizer": "bytes"},
        {"size": "d32-L2"},
        {"size": "d16-L2"},
        {"architecture": "mamba2", "size": "d64-L8"},
        {"data": "code", "optimiser": "adam"},
    ]
    return fit_study(long(interventions, seeds=2), "wiki", "cloze", BASE, statistics=Statistics(num_resamples=80))


@pytest.mark.slow
def test_study_draws_a_line_a_setting(study):
    labels = [line.label for line in study.lines_in("nats_per_token")]
    assert labels == [
        "base",
        "data=code",
        "tokenizer=bytes",
        "size=d32-L2",
        "size=d16-L2",
        "architecture=mamba2",
        "data=code, optimiser=adam",
    ]
    assert study.lines[0].run_ids == ("run0", "run1")


def test_study_finds_the_planted_move_in_nats(study):
    comparisons = {c.factor: c for c in study.comparisons_in("nats_per_token")}
    assert comparisons["data"].levels[0].gap == pytest.approx(0.4, abs=0.02)
    # the pair of optimisers is among the runs on code, not with the base
    assert [pair.matched_on for pair in comparisons["optimiser"].levels[0].pairs] == ["all"]
    assert all(abs(comparisons[name].levels[0].gap) < 0.02 for name in ("tokenizer", "architecture", "optimiser"))
    assert {c.noise_source for c in comparisons.values()} == {"seeds"}
    assert "the noise floor is rough: 1 repetitions" in comparisons["data"].note


def test_study_says_where_a_unit_leaves_no_common_support(study):
    in_bits = {c.factor: c for c in study.comparisons_in("bits_per_byte")}
    # a byte tokenizer gives four times as many bits/byte here
    assert "no common support" in in_bits["tokenizer"].levels[0].note


def test_runs_that_nothing_matches_are_named():
    table = long([{"data": "code", "size": "d16-L2"}, {"size": "d32-L2"}])
    failures = fit_study(table, "wiki", "cloze", BASE, units=["nats_per_token"]).failures
    (message,) = failures
    assert message.startswith("runs run1: differ from the base in data and size, and no other run is equal")


def test_missing_bits_per_byte_is_said_where_tokenizers_differ():
    table = long([{"tokenizer": "bytes"}]).drop(columns="bits_per_byte")
    fits = fit_study(table, "wiki", "cloze", BASE)
    (tokenizer,) = fits.comparisons
    assert fits.units == ("nats_per_token",)
    assert tokenizer.note.startswith("the table has no bits/byte")
    assert (tokenizer.verdict, tokenizer.levels[0].verdict) == ("cannot tell", "cannot tell")


def test_columns_of_words_that_no_factor_names_are_pointed_out():
    table = long([{"data": "code"}, {"size": "d32-L2"}]).rename(columns={"data": "corpus"})
    fits = fit_study(table, "wiki", "cloze", units=["nats_per_token"])
    assert fits.failures[0] == "runs that count as repetitions differ in corpus: are these factors too?"
    named = fit_study(table, "wiki", "cloze", factors=["corpus", "size"], units=["nats_per_token"])
    assert not any("repetitions" in failure for failure in named.failures)


def test_missing_losses_are_counted():
    table = long([{"data": "code"}])
    table.loc[table.index[:6], "nats_per_token"] = np.nan
    failures = fit_study(table, "wiki", "cloze", BASE, units=["nats_per_token"]).failures
    assert failures[0] == "3 of 20 checkpoints have a missing loss: left out (nats/token)"
    assert all(failure.startswith("compute at equal loss") for failure in failures[1:])


def test_a_setting_without_losses_in_a_unit_is_named_and_left_out():
    table = long([{"data": "code"}, {"size": "d32-L2"}])
    table.loc[table["data"] == "code", "bits_per_byte"] = np.nan
    fits = fit_study(table, "wiki", "cloze", BASE)
    assert "data=code: no losses in this unit (bits/byte)" in fits.failures
    data, size = fits.comparisons_in("bits_per_byte")
    assert (data.factor, data.verdict, size.factor) == ("data", "cannot tell", "size")
    assert data.levels[0].note == "its setting has no usable losses: data=code: no losses in this unit"
    assert [c.factor for c in fits.comparisons_in("nats_per_token")] == ["data", "size"]


def test_base_is_by_default_the_setting_with_most_neighbours():
    table = long([{"data": "code"}, {"size": "d32-L2"}, {"data": "code", "size": "d16-L2"}])
    shuffled = pd.concat([table[table["run_id"] == "run3"], table[table["run_id"] != "run3"]])
    fits = fit_study(shuffled, "wiki", "cloze", units=["nats_per_token"])
    assert next(line for line in fits.lines if line.label == "base").run_ids == ("run0",)


def test_study_fits_a_compute_law_where_sizes_vary(study):
    assert {(c.eval_set, c.unit) for c in study.compute_fits} == {
        (name, unit) for name in ("wiki", "cloze") for unit in ("nats_per_token", "bits_per_byte")
    }
    fit = study.compute_fits[0].fit
    assert fit.num_runs == 4
    assert fit.conventions["N"].startswith("total parameters")


def test_two_sizes_identify_no_compute_law():
    fits = fit_study(long([{"size": "d32-L2"}]), "wiki", "cloze", units=["nats_per_token"])
    assert {c.fit.status for c in fits.compute_fits} == {"not identified"}
    assert all(c.fit.note.startswith("N takes 2 values") for c in fits.compute_fits)


def test_study_survives_json(study):
    text = json.dumps(study.to_json(), allow_nan=False)
    assert StudyFits.from_json(json.loads(text)) == study


def test_terminal_table_shows_verdicts_first(study):
    lines = fits_text(study).splitlines()
    assert lines[0].startswith("Does it move the line?")
    row = next(line for line in lines if line.startswith(" ") and " code " in line)
    assert f" {study.comparisons[0].levels[0].gap:+.4f} " in row
    assert row.endswith(study.comparisons[0].levels[0].verdict)


def test_terminal_table_ends_with_what_was_not_compared():
    table = long([{"data": "code", "size": "d16-L2"}, {"size": "d32-L2"}])
    fits = fit_study(table, "wiki", "cloze", BASE, units=["nats_per_token"])
    assert "differ from the base in data and size" in fits_text(fits).splitlines()[-1]
