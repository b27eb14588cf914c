"""The model, data and layout of a run are made once. A run that cannot start is refused before any training."""

import dataclasses
import shutil

import pytest
from etils import epath

from lossline_jax.config.execution import ALONE, ExecutionConfig
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline import run_context
from lossline_jax.pipeline.losses_table import sets_left_out, write_losses
from lossline_jax.pipeline.runner import StudyRunner
from lossline_jax.pipeline.study import run as run_study
from lossline_jax.pipeline.study_files import open_study
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import StudyDir
from tests.support import tiny_study
from tests.support.paths import TESTS


@pytest.fixture
def old_study(tmp_path):
    """Make a copy of the old study, whose three runs are trained, for one device."""
    root = shutil.copytree(TESTS / "golden" / "old_study", tmp_path / "old_study")
    study, folder = open_study(str(root))
    # The devices of the process stay those of conftest.py, and the mesh has one of them.
    execution = dataclasses.replace(study.execution, data_parallel=1, cpu_devices=None)
    return dataclasses.replace(study, execution=execution), folder


def test_the_context_of_a_run_is_built_once(old_study, monkeypatch):
    study, folder = old_study
    built = []
    build_model = run_context.build_model
    monkeypatch.setattr(run_context, "build_model", lambda *args, **kw: built.append(args) or build_model(*args, **kw))
    runner = StudyRunner.open(study, folder, study.runs)
    for run in study.runs:
        runner.train(run)  # the run is done, so nothing is trained
        runner.evaluate(run)
        context = runner.context(run)
        assert (context.run, context.directory) == (run, folder.run(run.run_id))
        assert context.model.config == run.model
        assert context.model.vocab_size == context.tokenizer.vocab_size
        assert context.suite is runner.opened.prepared.suite(run)
        assert context.has_begun()
        assert context.will_add_no_checkpoints()
    assert len(built) == len(study.runs)
    assert runner.scorers.num_added == 0  # every row existed already
    assert write_losses(runner.opened, runner.imported).startswith("losses table: ")
    assert sets_left_out(runner.opened, runner.imported) == {}


def test_a_run_that_cannot_be_begun_is_refused_by_name_before_any_is_trained(old_study):
    study, folder = old_study
    impossible = dataclasses.replace(study, execution=dataclasses.replace(study.execution, microbatch_size=3))
    with pytest.raises(LosslineError, match=rf"^run {study.base.run_id}: execution\.microbatch_size"):
        StudyRunner.open(impossible, folder, study.runs)


def test_another_configuration_under_a_run_is_refused_before_it_is_scored(old_study):
    study, folder = old_study
    runner = StudyRunner.open(study, folder, study.runs)
    claim = folder.run(study.base.run_id).claim_file
    write_json(claim, {**read_json(claim), "data_fingerprint": "another"})
    with pytest.raises(LosslineError, match=r"claim\.json: the corpus, its split or the tokenizer was changed"):
        runner.evaluate(study.base)


def test_a_trace_is_of_the_first_run_that_is_not_done(old_study, monkeypatch):
    study, folder = old_study
    folder.run(study.runs[1].run_id).done_file.unlink()
    traced = {}
    monkeypatch.setattr(
        "lossline_jax.pipeline.runner.train_run",
        lambda job, on_checkpoint, profile_steps: traced.update({job.run.run_id: profile_steps}),
    )
    runner = StudyRunner.open(study, folder, study.runs, profile=3)
    for run in study.runs:
        runner.train(run)
    assert list(traced.values()) == [0, 3, 0]
    with pytest.raises(LosslineError, match="--profile: 0 is not a valid number of steps"):
        StudyRunner.open(study, folder, study.runs, profile=0)


def test_windows_is_told_that_training_is_untried(capsys, monkeypatch):
    monkeypatch.setattr(run_context.sys, "platform", "win32")
    run_context.start_devices(ExecutionConfig(), ALONE)
    assert capsys.readouterr().err == (
        "lossline: training and scoring have not been tried on Windows; if they fail, use WSL\n"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_parallel": 3}, r"^run \S+: batch_size: 8 sequences cannot be split over 3 data-parallel devices"),
        ({"data_parallel": 2, "microbatch_size": 3}, r"^run \S+: execution\.microbatch_size: 3 does not divide the 4"),
        ({"data_parallel": 1000}, "a mesh of data_parallel=1000 by model_parallel=1 does not fit"),
    ],
)
def test_devices_that_do_not_divide_the_batch_leave_nothing_behind(tmp_path, changes, message):
    study = dataclasses.replace(tiny_study.study(), execution=ExecutionConfig(**changes))
    with pytest.raises(LosslineError, match=message):
        run_study(study, StudyDir(epath.Path(tmp_path) / "tiny"))
    assert list(tmp_path.iterdir()) == []
