"""Changed content is refused with its file and line. Content of earlier versions is still read."""

import json

import pandas as pd
import pyarrow as pa
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.errors import LosslineError
from lossline_jax.losses.parquet import check_parquet, sealed_parquet
from lossline_jax.losses.table import append_rows, read_loss_rows, read_losses, write_table
from lossline_jax.storage.checksums import NotAsWritten, seal, seal_line, unseal, unseal_line
from lossline_jax.storage.files import export_json, read_json, write_json
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.step_log import StepLog
from lossline_jax.storage.step_log import read_step_log as read_log
from tests.losses.test_table import row

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text().filter(lambda name: name != "checksum"), VALUES, min_size=1, max_size=4)


@given(OBJECTS)
def test_sealed_content_comes_back(content):
    assert unseal(json.loads(json.dumps(seal(content)))) == content
    assert unseal_line(seal_line(content)) == content
    assert unseal(content) == unseal_line(json.dumps(content)) == content  # earlier versions wrote no checksum


@given(OBJECTS, st.data())
def test_no_character_of_a_line_can_change(content, data):
    line = seal_line(content)
    place = data.draw(st.integers(0, len(line) - 1))
    new_character = chr(ord(line[place]) ^ 1 << data.draw(st.integers(0, 6)))
    spoilt = line[:place] + new_character + line[place + 1 :]
    try:
        read = unseal_line(spoilt)
    except ValueError:
        return
    assert {name: read[name] for name in content if name in read} == content  # the change is in the word "checksum"
    assert len(read) == len(content) + 1


@given(OBJECTS, VALUES)
def test_no_value_of_a_file_can_change(content, new_value):
    sealed = seal(content)
    name = next(iter(content))
    if json.dumps(new_value) != json.dumps(content[name]):
        with pytest.raises(NotAsWritten):
            unseal({**sealed, name: new_value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "not valid JSON .an object with fields was expected, not list"),
        ('{"suites": 3}', "damaged .'suites' is 3"),
        ("{}", "damaged .it has no 'suites'"),
    ],
)
def test_a_file_that_is_not_of_the_package_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "prepared.json").write_text(text)
    with pytest.raises(LosslineError, match=rf"prepared\.json: {message}.*; restore it") as caught:
        read_json(epath.Path(tmp_path) / "prepared.json", {"suites": dict})
    assert "\n" not in str(caught.value)


def test_a_file_that_a_user_asked_for_has_no_checksum(tmp_path):
    path = epath.Path(tmp_path) / "a.json"
    export_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, {"a": 1})
    assert set(json.loads(path.read_text())) == {"a", "checksum"}


def test_a_row_with_another_digit_is_refused_by_line(tmp_path):
    path = epath.Path(tmp_path) / "rows.jsonl"
    append_rows(path, [row(step=1), row(step=2)])
    sound = path.read_text()
    assert [loss_row.step for loss_row in read_loss_rows(path)] == [1, 2]
    path.write_text(sound.replace('"step": 2', '"step": 3'))
    for read in (read_loss_rows, read_losses):
        with pytest.raises(LosslineError, match=r"rows\.jsonl.*2.*checksum"):
            read(path)
    path.write_text(sound)
    assert "checksum" not in read_losses(path).columns


def test_any_flipped_bit_of_the_losses_table_is_refused_or_without_effect(tmp_path):
    csv, parquet = epath.Path(tmp_path) / "losses.csv", epath.Path(tmp_path) / "losses.parquet"
    write_table([row(step=step, nats_per_token=1.0 + step / 7) for step in range(8)], csv, parquet)
    sound, content = read_losses(parquet), bytearray(parquet.read_bytes())
    for place in range(0, len(content), 53):
        spoilt = content.copy()
        spoilt[place] ^= 4
        parquet.write_bytes(spoilt)
        try:
            pd.testing.assert_frame_equal(read_losses(parquet), sound)
        except LosslineError:
            continue


def test_a_parquet_file_of_another_program_is_read(tmp_path):
    check_parquet(sealed_parquet(pa.table({"a": [1, None], "b": ["x", None], "c": [None, 0.5]})))
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    assert read_losses(epath.Path(tmp_path) / "a.parquet").a.tolist() == [1]


def test_a_log_leaves_out_what_a_kill_cut_short_and_refuses_other_damage(tmp_path):
    run = RunDir(epath.Path(tmp_path))
    log = StepLog(run, after_step=0)
    for step in (1, 2, 3):
        log.append({"step": step, "loss_nats_per_token": 3.5, "tokens_per_second": 1.0, "time": 0.0})
    sound = run.steps_file.read_text()
    run.steps_file.write_text(sound[:-30])
    assert [log_row["step"] for log_row in read_log(run)] == [1, 2]
    run.steps_file.write_text(sound.replace("3.5", "3.6", 1))
    with pytest.raises(LosslineError, match=r"steps\.jsonl:1: damaged"):
        read_log(run)
