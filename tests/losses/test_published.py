"""Published tables are converted to our schema. A number keeps its meaning, and its definition is stated in words."""

import numpy as np
import pandas as pd
import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.fit.study.table_lines import LineOptions, fit_lines
from lossline_jax.losses.loss_row import COLUMNS
from lossline_jax.losses.published.read import read_published
from lossline_jax.losses.published.rows import PUBLISHED_COLUMNS
from lossline_jax.losses.table import read_losses
from tests.support.shared_data import shared_path

LOSS_COLUMNS = [name for name in COLUMNS if name.startswith(("nats_", "bits_"))]

# Rows as the study's own script writes them, with made-up numbers.
LLAMA = {
    "Name": "llama_417M_d_1024_l_12_fineweb_edu_10BT",
    "Architecture": "Llama",
    "Size": 416_834_560,
    "Dimensions": 1024,
    "# Layers": 12,
    "Pretraining Data": "FineWeb-Edu",
    "Steps": 1000,
    "Tokenizer": "tiktoken",
    "Layer Norm": "rms_norm",
    "Context Length": 2048,
    "Learning Rate": 0.003,
    "Weight Decay": 0.033,
    "Optimizer": "AdamW",
    "Scheduler": "Cosine",
    "C4 Validation Loss": 4.5,
    "Slimpajama Validation Loss": 4.75,
    "Test Loss": 4.25,
    "Train Loss": 4.3,
    "Tokens": 524_288_000.0,
    "FLOPs": 1e15,
    "HellaSwag Accuracy": 0.31,
    "HellaSwag Loss": 4.125,
    "MMLU Loss": 3.5,
    "Hugging Face": False,
    "Intervention": "('Size',)",
    "Overtraining": False,
}
MAMBA = LLAMA | {"Name": "mamba_420M_d_1024_l_24_c4_10BT", "Architecture": "Mamba", "Optimizer": "Adam", "Bias": True}
PUBLIC = {
    "Name": "EleutherAI/pythia-160m",
    "Architecture": "GPT",
    "Size": 162_322_944.0,
    "Pretraining Data": "The Pile",
    "Steps": 512.0,
    "Tokenizer": "gpt-neox",
    "C4 Validation Loss": 5.5,
    "Slimpajama Validation Loss": 5.75,
    "Tokens": 1_073_741_824.0,
    "HellaSwag Accuracy": 0.25,
    "HellaSwag Loss": 3.25,
    "Hugging Face": True,
}


def read_rows_of(tmp_path, *rows, columns=()):
    path = tmp_path / "published.csv"
    frame = pd.DataFrame(rows)
    frame.drop(columns=list(columns)).to_csv(path, index=False)
    return read_published(path)


def the_row(frame, **where):
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, where
    return frame.iloc[0].dropna().to_dict()


def test_one_number_has_one_meaning(tmp_path):
    """The authors' own models and the public models share columns, but their losses are not comparable."""
    frame = read_rows_of(tmp_path, LLAMA, MAMBA, PUBLIC)
    assert list(frame.columns) == [*COLUMNS, *PUBLISHED_COLUMNS]
    filled = {
        (study, kind): {name for name in LOSS_COLUMNS if rows[name].notna().any()}
        for (study, kind), rows in frame.groupby(["study", "eval_kind"])
    }
    assert filled == {
        ("llms-on-the-line", "validation"): {"nats_per_token_document_mean"},
        ("llms-on-the-line", "task"): {"nats_per_token_all_options"},
        ("llms-on-the-line-public", "validation"): {"nats_per_token"},
        ("llms-on-the-line-public", "task"): set(),
    }
    assert sorted(frame["published_loss"]) == sorted([4.5, 4.75, 4.125, 3.5] * 2 + [5.5, 5.75, 3.25])
    for definition, where in {
        "each cut after 2048 tokens": {"architecture": "llama", "eval_set": "c4"},
        "each cut after 16k tokens": {"architecture": "mamba", "eval_set": "c4"},
        "windows of 50 tokens": {"architecture": "gpt", "eval_set": "c4"},
        "windows of 16 tokens": {"architecture": "gpt", "eval_set": "slimpajama"},
        "all options, right and wrong": {"architecture": "llama", "eval_set": "hellaswag"},
        "divided by its tokens less one": {"architecture": "gpt", "eval_set": "hellaswag"},
        "subjects weighted": {"architecture": "mamba", "eval_set": "mmlu"},
    }.items():
        assert definition in the_row(frame, **where)["loss_definition"]


def test_a_row_of_the_study_says_what_its_table_says(tmp_path):
    row = the_row(read_rows_of(tmp_path, LLAMA, PUBLIC), study="llms-on-the-line", eval_set="hellaswag")
    del row["loss_definition"]
    assert row == {
        "study": "llms-on-the-line",
        "run_id": "llama_417M_d_1024_l_12_fineweb_edu_10BT",
        "data": "FineWeb-Edu",
        "tokenizer": "tiktoken",
        "architecture": "llama",
        "size": "d1024-L12",
        "context_length": 2048,
        "optimiser": "adamw-cosine-lr0.003-wd0.033",
        "params_total": 416_834_560,
        "step": 1000,
        "tokens_seen": 524_288_000,
        "eval_set": "hellaswag",
        "eval_kind": "task",
        "nats_per_token_all_options": 4.125,
        "accuracy": 0.31,
        "published_loss": 4.125,
        "published_column": "HellaSwag Loss",
        "variant": "Layer Norm=rms_norm",
    }


def test_settings_of_the_authors_are_part_of_the_factors(tmp_path):
    row = the_row(read_rows_of(tmp_path, MAMBA, PUBLIC), study="llms-on-the-line", eval_set="c4")
    assert row["optimiser"] == "adam_l2-cosine-lr0.003-wd0.033"
    assert row["variant"] == "Layer Norm=rms_norm; Bias=True"


def test_checkpoints_without_a_step_are_kept_apart(tmp_path):
    """The authors could not parse these revisions, and gave all of them the tokens of the last checkpoint."""
    nameless_step = PUBLIC | {"Steps": None, "C4 Validation Loss": 5.25}
    frame = read_rows_of(tmp_path, PUBLIC, nameless_step, nameless_step | {"C4 Validation Loss": 5.0}, LLAMA, LLAMA)
    public = frame[(frame["study"] == "llms-on-the-line-public") & (frame["eval_set"] == "c4")]
    assert public["run_id"].tolist() == [PUBLIC["Name"], f"{PUBLIC['Name']} (row 2)", f"{PUBLIC['Name']} (row 3)"]
    assert public["tokens_seen"].notna().tolist() == [True, False, False]
    assert len(frame[frame["study"] == "llms-on-the-line"]) == 4, "one row twice is one checkpoint"


def test_a_set_that_was_not_scored_has_no_row(tmp_path):
    """The authors' program writes inf where it scored nothing."""
    empty = PUBLIC | {"C4 Validation Loss": float("inf"), "HellaSwag Loss": None}
    frame = read_rows_of(tmp_path, LLAMA, empty)
    rows = frame[frame["study"] == "llms-on-the-line-public"]
    assert rows["eval_set"].tolist() == ["slimpajama", "hellaswag"]
    accuracy_only = the_row(rows, eval_set="hellaswag")
    assert accuracy_only["accuracy"] == 0.25
    assert "loss_definition" not in accuracy_only


def test_without_the_flag_the_training_loss_tells_whose_a_row_is(tmp_path):
    with_flag = read_rows_of(tmp_path, LLAMA, MAMBA, PUBLIC)
    without = read_rows_of(tmp_path, LLAMA, MAMBA, PUBLIC, columns=["Hugging Face"])
    pd.testing.assert_frame_equal(with_flag, without)
    with pytest.raises(LosslineError, match="it has neither a column 'Hugging Face' nor 'Train Loss'"):
        read_rows_of(tmp_path, LLAMA, PUBLIC, columns=["Hugging Face", "Train Loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"HellaSwag Loss": "failed"}, r"published\.csv: line 3: HellaSwag Loss is 'failed', which is not a number"),
        ({"Hugging Face": "maybe"}, r"line 3: 'Hugging Face' is 'maybe', not True or False"),
        ({"Name": None}, r"line 3: no Name"),
        ({"FineWeb-Edu Validation Loss": 1.0, "fineweb_edu_100bt Validation Loss": 2.0}, "two columns .*'fineweb_edu'"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, change, message):
    with pytest.raises(LosslineError, match=message) as error:
        read_rows_of(tmp_path, LLAMA, LLAMA | {"Steps": 2000} | change)
    assert "\n" not in str(error.value)


def test_a_table_of_no_known_schema_is_refused(tmp_path):
    path = tmp_path / "own.csv"
    pd.DataFrame({"run_id": ["a"], "eval_set": ["c4"], "nats_per_token": [3.0]}).to_csv(path, index=False)
    with pytest.raises(LosslineError, match=r"own\.csv: not a published table that is known here"):
        read_published(path)
    with pytest.raises(LosslineError, match="not a table of loss-to-loss: it has no column 'id'"):
        read_published(path, "loss-to-loss")
    with pytest.raises(LosslineError, match="no published schema 'chinchilla'"):
        read_published(path, "chinchilla")


@pytest.fixture(scope="module")
def sweep_path():
    return shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv")


def test_every_loss_of_the_sweep_is_there_once(sweep_path):
    published, rows = pd.read_csv(sweep_path), read_published(sweep_path)
    columns = [c for c in published if c.endswith("_val/CrossEntropyLoss") or c.startswith("eval/downstream_ce_loss/")]
    converted = rows.pivot(index="run_id", columns="published_column", values="published_loss")
    expected = published.set_index("id")[columns]
    np.testing.assert_array_equal(converted.loc[expected.index, columns].to_numpy(float), expected.to_numpy(float))
    own_loss = rows[rows["nats_per_token"].notna()]
    assert set(own_loss["eval_kind"]) == {"validation"}
    assert (own_loss["nats_per_token"] == own_loss["published_loss"]).all()
    # The published N and D make up the published compute, C = 6 N D.
    facts = rows.drop_duplicates("run_id").set_index("run_id").loc[published["id"]]
    compute = 6.0 * facts["params_total"].astype(float) * facts["tokens_seen"].astype(float)
    assert compute.to_numpy() == pytest.approx(published["iso_flop"].to_numpy(), rel=1e-8)


@pytest.mark.parametrize(
    ("y", "column", "unit"),
    [
        ("c4", "eval/c4_val/CrossEntropyLoss", "nats_per_token"),
        ("hellaswag", "eval/downstream_ce_loss/hellaswag_test_ce_loss", "published_loss"),
    ],
)
def test_the_sweep_gives_the_lines_of_its_own_columns(sweep_path, tmp_path, y, column, unit):
    read_published(sweep_path).to_csv(tmp_path / "losses.csv", index=False)
    converted = fit_lines(
        read_losses(tmp_path / "losses.csv"),
        "fineweb_edu_100b",
        y,
        "data",
        unit=unit,
        options=LineOptions(num_resamples=2),
    )
    x_column = "eval/fineweb_edu_100b_val/CrossEntropyLoss"
    original = fit_lines(read_losses(sweep_path), x_column, column, "data", options=LineOptions(num_resamples=2))
    assert len(converted.lines) == 6
    for line, original_line in zip(converted.lines, original.lines, strict=True):
        assert line.label == original_line.label
        assert line.fit.num_points == original_line.fit.num_points > 80
        assert line.fit.parameters == pytest.approx(original_line.fit.parameters, rel=1e-6)
