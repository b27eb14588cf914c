"""Scores become rows of the losses table, and the missing rows are found."""

import dataclasses
import math

import numpy as np
import pytest
from etils import epath

from lossline_jax.config.data import ByteTokenizer, DataConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.evaluate.loss_rows import checkpoint_facts, loss_rows, non_finite_sets
from lossline_jax.evaluate.suite import PreparedSet, PreparedSuite
from lossline_jax.losses.current_rows import current_rows, missing_checkpoints
from lossline_jax.losses.loss_row import SetScore
from lossline_jax.losses.row_count import count_rows, read_suite_sets
from lossline_jax.losses.table import append_rows, read_loss_rows
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.storage.files import write_json
from lossline_jax.storage.paths import StudyDir

RUN = RunConfig(
    model=LlamaConfig(d_model=64, num_layers=2),
    data=DataConfig((("wiki", 1.0),)),
    tokenizer=ByteTokenizer(),
    context_length=32,
    batch_size=4,
    tokens=4096,
)
SUITE = PreparedSuite(
    fingerprint="f",
    context_length=32,
    sets=(
        PreparedSet("wiki", "validation", "aaaa", 5, 0, "token-weighted"),
        PreparedSet("quiz", "task", "bbbb", 7, 1, "correct option"),
    ),
    requests=None,
    blocks=(),
    problems={},
)
UNSET = dict.fromkeys(field.name for field in dataclasses.fields(SetScore))
SCORE = SetScore(
    **UNSET
    | {"nats_per_token": 2.5, "bits_per_byte": 1.2, "nats_sum": 250.0, "num_tokens": 100, "num_bytes": 300, "n": 5}
)
SCORES = {
    "wiki": SCORE,
    "quiz": dataclasses.replace(SCORE, accuracy=0.5, accuracy_per_byte=0.25, accuracy_standard_error=0.1, n=7),
}


def rows_of(step, scores=SCORES, suite=SUITE):
    return loss_rows(checkpoint_facts("study", RUN, RUN.model, 258, step=step), suite, scores)


def test_a_row_says_who_where_and_how_much(tmp_path):
    rows = rows_of(10)
    assert [(r.eval_set, r.eval_kind, r.eval_fingerprint) for r in rows] == [
        ("wiki", "validation", "aaaa"),
        ("quiz", "task", "bbbb"),
    ]
    row = rows[1]
    assert (row.study, row.run_id, row.step) == ("study", RUN.run_id, 10)
    assert row.tokens_seen == 10 * 4 * 32
    counts = count_parameters(RUN.model, 258)
    assert row.train_flops == train_flops_per_token(RUN.model, 258, 32) * row.tokens_seen
    assert (row.params_total, row.params_embedding) == (counts.total, 2 * 258 * 64)
    assert row.params_non_embedding == row.params_total - row.params_embedding
    assert (row.architecture, row.size, row.data) == ("llama", "d64-L2", "wiki")
    assert (row.nats_per_token, row.accuracy, row.accuracy_per_byte, row.n) == (2.5, 0.5, 0.25, 7)
    assert (row.weight_bits, row.unique_tokens) == (32, None)
    append_rows(tmp_path / "rows.jsonl", rows)
    assert read_loss_rows(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("changes", "bits"),
    [({}, 32), ({"compute_dtype": "bfloat16"}, 16), ({"compute_dtype": "bfloat16", "weight_bits": 4}, 4)],
)
def test_a_row_has_the_bits_of_the_weights(changes, bits):
    model = dataclasses.replace(RUN.model, **changes)
    facts = checkpoint_facts("study", RUN, model, 258, step=10, unique_tokens=640)
    assert (facts.weight_bits, facts.unique_tokens) == (bits, 640)


def test_evaluation_resumes_where_rows_are_missing():
    steps = (10, 20, 30)
    rows = rows_of(10) + rows_of(20, {"wiki": SCORE})
    assert missing_checkpoints([], RUN.run_id, steps, SUITE) == dict.fromkeys(steps, ("wiki", "quiz"))
    lacking = missing_checkpoints(rows, RUN.run_id, steps, SUITE)
    assert lacking == {20: ("quiz",), 30: ("wiki", "quiz")}
    for step, names in lacking.items():
        rows += rows_of(step, {name: SCORES[name] for name in names})
    assert missing_checkpoints(rows, RUN.run_id, steps, SUITE) == {}
    assert len({(r.step, r.eval_set) for r in rows}) == len(rows) == 6
    assert missing_checkpoints(rows, "another run", (10,), SUITE) == {10: ("wiki", "quiz")}


def test_rows_of_a_changed_set_do_not_count():
    rows = rows_of(10)
    changed = dataclasses.replace(SUITE, sets=(SUITE.sets[0], dataclasses.replace(SUITE.sets[1], fingerprint="c")))
    assert missing_checkpoints(rows, RUN.run_id, (10,), changed) == {10: ("quiz",)}
    assert current_rows(rows, changed) == rows[:1]


def test_a_row_that_is_there_twice_counts_once_and_in_the_words_of_now():
    renamed = dataclasses.replace(SUITE.sets[0], definition="in other words")
    suite = dataclasses.replace(SUITE, sets=(renamed, SUITE.sets[1]))
    rows = current_rows(rows_of(10) + rows_of(10) + rows_of(20), suite)
    assert [(row.step, row.eval_set) for row in rows] == [(10, "wiki"), (10, "quiz"), (20, "wiki"), (20, "quiz")]
    assert rows[0].loss_definition == "in other words"


@pytest.mark.parametrize("field", ["nats_per_token", "accuracy", "nats_per_token_all_options"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_reported_with_its_set(field, value):
    bad = SCORES | {"quiz": dataclasses.replace(SCORES["quiz"], **{field: np.float64(value)})}
    assert non_finite_sets(SCORES) == ()
    assert non_finite_sets(bad) == ("quiz",)


def test_rows_are_counted_against_what_ought_to_be_there(tmp_path):
    folder, steps, names = StudyDir(epath.Path(tmp_path)), (10, 20), ("wiki", "quiz", "unusable")
    manifest = {
        "sets": [
            {"name": prepared_set.name, "fingerprint": prepared_set.fingerprint, "definition": prepared_set.definition}
            for prepared_set in SUITE.sets
        ]
    }
    write_json(folder.suites / "f" / "manifest.json", {**manifest, "problems": {"unusable": "quiz.jsonl:3: no"}})
    sets = read_suite_sets(folder, "f")
    old = [dataclasses.replace(row, eval_fingerprint="older") for row in rows_of(20)]
    append_rows(folder.loss_rows(RUN.run_id), rows_of(10) + rows_of(20, {"wiki": SCORE}) + rows_of(10)[:1] + old)
    count = count_rows(folder, RUN.run_id, steps, set_names=names, sets=sets)
    assert (count.text, count.duplicates, count.lacking) == ("3/6", 1, ("quiz",))
    assert count.note_with_faults("7s", run_is_done=True) == "7s; no row yet of quiz; 1 rows are double"
    write_json(folder.unscored_file(RUN.run_id), {"reason": "step 20 is damaged"})
    reason = count_rows(folder, RUN.run_id, steps, set_names=names, sets=sets).note_with_faults("7s", run_is_done=True)
    assert reason == "7s; step 20 is damaged; 1 rows are double"
    assert count_rows(folder, RUN.run_id, steps, set_names=names, sets=read_suite_sets(folder, None)).scored == 0
