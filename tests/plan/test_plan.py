"""A plan says what the disk, the text and the chips will see."""

import dataclasses
import re

import pytest
from etils import epath

from lossline_jax.config.data import ByteTokenizer, DataConfig, FilesCorpus
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.accounting import count_parameters
from lossline_jax.plan.measured import measured_speeds
from lossline_jax.plan.plan import plan_mesh, plan_study
from lossline_jax.plan.storage_and_epochs import checkpoint_bytes
from lossline_jax.storage.paths import RunDir, StudyDir
from lossline_jax.storage.run_records import RunResult, checkpoint_steps, read_checkpoint, write_result
from lossline_jax.summary import as_text
from tests.support import tiny_study
from tests.support.tiny_training import RUN, Bigram, train_bigram


@pytest.mark.parametrize("keep_moments", [1, 2, None])
def test_the_planned_disk_is_what_the_checkpoints_take(tmp_path, keep_moments):
    """The arrays of a run, whose sizes orbax knows: parameters of all checkpoints, and moments of some."""
    execution = ExecutionConfig(data_parallel=2, keep_moments=keep_moments)
    train_bigram(tmp_path, execution)
    directory = RunDir(epath.Path(tmp_path))
    num_parameters = 2 * 32 * 16 + 16  # of `Bigram`
    records = [read_checkpoint(directory, step).files for step in checkpoint_steps(directory)]
    kept = [sum(name.startswith(f"{item}/") for name in files) > 0 for files in records for item in ("params", "opt")]
    assert kept[::2] == [True] * 3
    expected = 4 * num_parameters * sum(kept[::2]) + 8 * num_parameters * sum(kept[1::2])
    assert checkpoint_bytes(RUN, num_parameters, execution) == expected
    assert Bigram().vocab_size == 32


def own_text(tmp_path, tokens: int) -> StudyConfig:
    (tmp_path / "a.txt").write_text("x" * 1000)
    study = tiny_study.study(tokens=tokens)
    run = dataclasses.replace(study.base, data=DataConfig((("mine", 1.0),)), tokenizer=ByteTokenizer())
    return dataclasses.replace(study, runs=(run,), corpora=(FilesCorpus("mine", (str(tmp_path / "*.txt"),)),))


@pytest.mark.parametrize(("tokens", "warned"), [(4000, False), (330_000, True)])
def test_many_epochs_are_warned_of_before_anything_is_prepared(tmp_path, tokens, warned):
    plan = plan_study(own_text(tmp_path, tokens))
    assert plan.runs[0].fewest_epochs == pytest.approx(tokens / 1000)
    assert ("up to 330 times" in as_text(plan)) == warned
    assert ("warning" in as_text(plan)) == warned


def test_a_cap_on_unique_tokens_counts_as_the_text():
    study = tiny_study.study(tokens=8000)
    run = dataclasses.replace(study.base, data=DataConfig((("wiki", 3.0), ("wiki_fr", 1.0)), unique_tokens=1000))
    assert plan_study(dataclasses.replace(study, runs=(run,))).runs[0].fewest_epochs == pytest.approx(8)


def test_the_price_is_that_of_the_user_and_equal_shapes_share_a_line():
    study = tiny_study.study()
    twice = dataclasses.replace(study, runs=(*study.runs, dataclasses.replace(study.base, seed=1)))
    free, dear = (plan_mesh(twice, "v5e", 4, price=price) for price in (0.0, 2.5))
    assert all(run.dollars == 0 for run in free.runs)
    assert dear.runs[0].dollars == pytest.approx(dear.runs[0].hours * 4 * 2.5)
    text = as_text(dear)
    assert "$2.50 a chip-hour" in text
    assert re.search(r"^ *0-1,3 ", text, re.MULTILINE)
    for price in (-1.0, float("nan"), float("inf")):
        with pytest.raises(LosslineError, match="--price"):
            plan_mesh(study, "v5e", 4, price=price)


def test_hours_left_follow_the_speed_of_the_finished_runs(tmp_path):
    study, folder = tiny_study.study(), StudyDir(epath.Path(tmp_path))
    plan = plan_study(study)
    assert measured_speeds(plan, folder) == []
    run = study.runs[0]
    result = RunResult("f", run.num_steps, plan.runs[0].tokens, plan.runs[0].tokens / 3600, 1.0, 1.0, {}, 2, "cpu")
    write_result(folder.run(run.run_id), result)  # it took one hour
    (speed,) = measured_speeds(plan, folder)
    flops = [planned.flops for planned in plan.runs]
    assert speed.hours_left == pytest.approx(sum(flops[1:]) / flops[0])
    assert (speed.devices, speed.num_done, speed.num_left) == ("2 x cpu", 1, 2)
    assert count_parameters(run.model, 400).total > 0
