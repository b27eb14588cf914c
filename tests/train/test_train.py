"""The training step equals plain gradients on every mesh, and a run logs, saves, stops and resumes."""

import dataclasses
import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import GPT2Config, LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed import devices
from lossline_jax.distributed.batch_rows import place_batch
from lossline_jax.distributed.chips import chip_named
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.preemption import StopRequest
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.models.model import build_model
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import checkpoint_steps
from lossline_jax.train.checkpoint import Checkpointer
from lossline_jax.train.loop import train_run
from lossline_jax.train.monitor import progress_bar
from lossline_jax.train.monitor.monitor import LOGGED
from lossline_jax.train.state import init_state
from lossline_jax.train.step import train_program
from tests.support.tiny_training import RUN, VOCAB, Bigram, InterruptingSource, Source, bigram_job, train_bigram

ONE = ExecutionConfig(data_parallel=1)
MODELS = {
    "bigram": Bigram(),
    "llama": build_model(LlamaConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32), VOCAB),
    "mamba2": build_model(
        Mamba2Config(d_model=16, num_layers=2, num_heads=2, d_state=8, d_inner=32, chunk_size=4), VOCAB
    ),
    "mamba": build_model(MambaConfig(d_model=16, num_layers=2, d_state=4, chunk_size=4), VOCAB),
    "gpt2": build_model(GPT2Config(d_model=16, num_layers=2, num_heads=2, max_positions=8), VOCAB),
}


def build_step(model, execution, run=RUN):
    mesh = make_mesh(execution)
    program = train_program(run, model, execution, mesh)
    return mesh, program.step, init_state(model, program.rule, run.seed, program.abstract)


def step_batch(index, separate=False):
    batch = Source().batch(index)
    segments_BT = np.cumsum(batch.tokens_BT % 4 == 0, axis=1, dtype=np.int32) if separate else None
    return Batch(batch.tokens_BT, batch.targets_BT, batch.weights_BT, segments_BT)


def run_steps(model, execution, run=RUN, num_steps=3, separate=False):
    """Return losses and gradient norms of the first steps, the final state, and the jitted step."""
    mesh, step, state = build_step(model, execution, run)
    rows = []
    with jax.set_mesh(mesh):
        for index in range(num_steps):
            state, metrics = step(state, place_batch(step_batch(index, separate), mesh))
            rows.append((float(metrics.loss_nats_per_token), float(metrics.grad_norm)))
    return np.array(rows), state, step


@pytest.mark.slow
def test_first_step_equals_the_plain_gradient_of_the_token_mean():
    model = Bigram()
    batch = step_batch(0)

    def mean(params):
        nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT)
        return jnp.sum(nll_BT * batch.weights_BT) / jnp.sum(batch.weights_BT)

    loss, grads = jax.value_and_grad(mean)(model.init(jax.random.key(RUN.seed)))
    rows, state, _ = run_steps(model, ExecutionConfig(data_parallel=4, microbatch_size=1), num_steps=1)
    np.testing.assert_allclose(rows[0], [loss, optax.tree.norm(grads)], rtol=1e-6)
    assert int(state.step) == 1


EIGHT = ExecutionConfig(data_parallel=8)
FOUR_BY_TWO = ExecutionConfig(data_parallel=4, model_parallel=2)
FOUR_BY_TWO_FSDP = ExecutionConfig(data_parallel=4, model_parallel=2, fsdp=True)


@pytest.fixture(autouse=True, scope="module")
def _quick_compile():
    """Compile with fewer optimisations, because compilation takes most of the time of these tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(
    ("name", "executions"),
    [
        ("bigram", [EIGHT, FOUR_BY_TWO, FOUR_BY_TWO_FSDP]),
        ("llama", [EIGHT, FOUR_BY_TWO_FSDP]),
        pytest.param("mamba2", [FOUR_BY_TWO], marks=pytest.mark.slow),
        pytest.param("mamba", [EIGHT], marks=pytest.mark.slow),
        pytest.param("gpt2", [FOUR_BY_TWO_FSDP], marks=pytest.mark.slow),
    ],
)
def test_one_device_eight_devices_and_a_model_axis_agree(name, executions):
    """Losses and gradient norms of three steps are compared, so parameters and moments agree too."""
    calm = dataclasses.replace(RUN, optim=OptimConfig(learning_rate=1e-3))  # Adam scales rounding errors by its rate
    separate = name in ("mamba2", "gpt2")  # packed documents are kept apart
    expected, _, _ = run_steps(MODELS[name], ONE, calm, separate=separate)
    for execution in executions:
        rows, _, step = run_steps(MODELS[name], execution, calm, separate=separate)
        np.testing.assert_allclose(rows[:, 0], expected[:, 0], rtol=1e-6)
        np.testing.assert_allclose(rows[:, 1], expected[:, 1], rtol=1e-5)
        assert step._cache_size() == 1


@pytest.mark.parametrize(("microbatch_size", "fsdp"), [(1, False), (4, True), (8, False)])
def test_microbatches_change_nothing(microbatch_size, fsdp):
    expected, _, _ = run_steps(Bigram(), ONE)
    execution = ExecutionConfig(data_parallel=2, microbatch_size=microbatch_size, fsdp=fsdp)
    rows, _, _ = run_steps(Bigram(), execution)
    np.testing.assert_allclose(rows, expected, rtol=2e-6)


def test_state_is_born_sharded_and_the_same_on_every_mesh():
    _, _, whole = build_step(Bigram(), ONE)
    _, _, split = build_step(Bigram(), ExecutionConfig(data_parallel=4, model_parallel=2, fsdp=True))
    jax.tree.map(np.testing.assert_array_equal, whole, split)
    moments = split.opt_state[1].mu
    for tree in (split.params, moments):
        assert tree["embed"].addressable_shards[0].data.shape == (VOCAB // 2, 4)
        assert tree["a_log"].addressable_shards[0].data.shape == (4,)


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(LosslineError, match="batch_size: 16 sequences cannot be split over 3"):
        build_step(Bigram(), ExecutionConfig(data_parallel=3))
    with pytest.raises(LosslineError, match=r"microbatch_size: 3 does not divide the 8 sequences"):
        build_step(Bigram(), ExecutionConfig(data_parallel=2, microbatch_size=3))
    with pytest.raises(LosslineError, match=r"parameter .*embed"):
        build_step(Bigram(width=15), ExecutionConfig(data_parallel=2, fsdp=True))


def train(folder, *, execution=None, **options):
    return train_bigram(folder, execution or ExecutionConfig(data_parallel=2, log_every=5), **options)


def read_logged_rows(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_a_run_leaves_rows_checkpoints_and_totals(tmp_path):
    norms = {}

    def evaluate(step, params):
        norms[step] = float(optax.tree.norm(params))

    result = train(tmp_path, on_checkpoint=evaluate)
    assert sorted(norms) == checkpoint_steps(RunDir(epath.Path(tmp_path))) == [4, 8, 12]
    assert len(set(norms.values())) == 3  # each step has its own parameters
    rows = read_logged_rows(tmp_path)
    assert [row["step"] for row in rows] == [1, 5, 10, 12]
    assert [row["tokens_seen"] for row in rows] == [128, 640, 1280, 1536]
    assert set(rows[0]) == {
        *("step", "tokens_seen", "loss_nats_per_token", "learning_rate", "grad_norm"),
        *("step_seconds", "input_wait_seconds", "tokens_per_second", "mfu", "memory_bytes", "time", "checksum"),
    }
    for row in rows:
        assert row["mfu"] is None  # the peak of a CPU is unknown
        assert row["input_wait_seconds"] > 0
        assert row["step_seconds"] > 0
        assert 5e7 < row["memory_bytes"] < 1e11  # of a process that has imported jax
    expected, _, _ = run_steps(Bigram(), ExecutionConfig(data_parallel=2), num_steps=12)
    losses = [row["loss_nats_per_token"] for row in rows]
    np.testing.assert_array_equal(losses, expected[[0, 4, 9, 11], 0])
    assert losses[-1] < losses[0] - 0.3
    assert (result.step, result.tokens) == (12, 1536)
    assert 0 < result.compile_seconds < result.wall_seconds
    assert sum(v for k, v in result.seconds.items() if k != "wall") == pytest.approx(result.wall_seconds, abs=0.01)
    assert (result.num_devices, result.device_kind, result.num_processes, result.mfu) == (2, "cpu", 1, None)
    assert json.loads((tmp_path / "done.json").read_text())["tokens"] == 1536


def test_names_of_the_log_are_kept_from_own_sums(tmp_path):
    train(tmp_path)
    assert set(read_logged_rows(tmp_path)[0]) == LOGGED


def test_the_wait_for_input_is_measured_apart_and_lowers_the_speed(tmp_path):
    class Slow(Source):
        def batch(self, step, *where):
            time.sleep(0.05)
            return super().batch(step, *where)

    result = train(tmp_path, source=Slow())
    waits = [row["input_wait_seconds"] for row in read_logged_rows(tmp_path)]
    assert all(0.05 <= wait < 0.5 for wait in waits)
    assert result.seconds["input"] >= 12 * 0.05
    assert result.tokens_per_second <= 1536 / (12 * 0.05)


def test_mfu_is_the_flops_of_the_model_over_the_peak_of_all_devices(tmp_path, monkeypatch):
    slow_chip = dataclasses.replace(chip_named("v4"), peak_flops_per_second=1e9)
    monkeypatch.setattr(devices, "chip_of", lambda kind: {"cpu": slow_chip}[kind])
    result = train(tmp_path)
    # Llama of width 16 over 8 positions, by hand: q, k, v, o; three MLP matrices; scores and values; unembedding
    width, d_ff, keys = 16, RUN.model.mlp_width, 4.5
    forward = 2 * (4 * width**2 + 3 * width * d_ff) + 4 * width * keys + 2 * width * VOCAB
    for row in read_logged_rows(tmp_path):
        flops_per_second = 3 * forward * 128 / row["step_seconds"]
        assert row["mfu"] == pytest.approx(flops_per_second / 2e9, rel=1e-3)
    assert result.mfu == pytest.approx(3 * forward * result.tokens_per_second / 2e9, rel=1e-3)


def test_a_run_of_a_version_that_measured_fewer_parts_of_the_time_resumes(tmp_path):
    with pytest.raises(RunFailed):
        train(tmp_path, source=Source(nan_at=5))
    meta = next((tmp_path / "checkpoints").glob("*4/meta.json"))
    content = json.loads(meta.read_text())
    del content["meta"]["seconds"]["input"], content["checksum"]  # the earlier version did not write these
    content["meta"]["seconds"]["wall"] += 100
    meta.write_text(json.dumps(content))
    seconds = train(tmp_path).seconds
    assert seconds["wall"] > 100 > seconds["input"] > 0


def test_a_run_that_ended_before_its_hardware_was_kept_is_still_finished(tmp_path):
    train(tmp_path)
    content = json.loads((tmp_path / "done.json").read_text())
    for key in ("num_devices", "device_kind", "num_processes", "mfu", "checksum"):
        del content[key]
    (tmp_path / "done.json").write_text(json.dumps(content))
    assert train(tmp_path).num_devices is None


def test_a_finished_run_returns_at_once(tmp_path):
    first = train(tmp_path)
    assert train(tmp_path, source=Source(nan_at=0), on_checkpoint=lambda *_: pytest.fail("trained")) == first


def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(tmp_path):
    """Batch 7 is step 8, which saves a checkpoint and is not logged with log_every=5."""
    with pytest.raises(RunFailed, match=r"loss is nan at step 8 of 12 .*lower optim\.learning_rate"):
        train(tmp_path, source=Source(nan_at=7))
    assert checkpoint_steps(RunDir(epath.Path(tmp_path))) == [4]
    failure = json.loads((tmp_path / "failed.json").read_text())
    assert failure["step"] == 8
    assert "nan" in failure["reason"]
    assert not (tmp_path / "done.json").exists()
    train(tmp_path)  # without the error it resumes from step 4
    assert not (tmp_path / "failed.json").exists()
    assert [row["step"] for row in read_logged_rows(tmp_path)] == [1, 5, 10, 12]


def test_sigterm_saves_and_exits_42_and_the_run_goes_on(tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(straight)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_info:
        train(stopped, source=InterruptingSource())
    assert exit_info.value.code == 42
    assert signal.getsignal(signal.SIGTERM) is handler
    assert checkpoint_steps(RunDir(epath.Path(stopped))) == [4, 6]
    train(stopped)
    assert checkpoint_steps(RunDir(epath.Path(stopped))) == [4, 8, 12]  # step 6 was saved only for the restart
    losses = [[row["loss_nats_per_token"] for row in read_logged_rows(folder)] for folder in (straight, stopped)]
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in the step", "in the save"])
@pytest.mark.parametrize("due", [4, 12])
def test_sigterm_at_a_due_step_leaves_before_scoring_and_the_step_is_scored_later(tmp_path, monkeypatch, when, due):
    """The resumed run scores exactly the same parameters as an uninterrupted run."""
    scored_params, batch, save = {"quiet": {}, "stopped": {}}, Source.batch, Checkpointer.save

    def recorder(name):
        return lambda step, params: scored_params[name].setdefault(step, jax.tree.map(np.asarray, params)) and None

    def interrupted_batch(self, step, *where):
        if step == due - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, step, *where)

    def interrupted_save(self, step, *args):
        save(self, step, *args)
        if step == due:
            os.kill(os.getpid(), signal.SIGTERM)

    train(tmp_path / "quiet", on_checkpoint=recorder("quiet"))
    with monkeypatch.context() as patch:
        patch.setattr(Source, "batch", interrupted_batch if when == "in the step" else batch)
        patch.setattr(Checkpointer, "save", interrupted_save if when == "in the save" else save)
        with pytest.raises(SystemExit) as exit_info:
            train(tmp_path / "stopped", on_checkpoint=recorder("stopped"))
    assert exit_info.value.code == 42
    assert sorted(scored_params["stopped"]) == [step for step in (4, 8, 12) if step < due]
    assert due in checkpoint_steps(RunDir(epath.Path(tmp_path / "stopped")))
    train(tmp_path / "stopped", on_checkpoint=recorder("stopped"))
    assert sorted(scored_params["stopped"]) == [4, 8, 12]
    for step, params in scored_params["quiet"].items():
        jax.tree.map(np.testing.assert_array_equal, scored_params["stopped"][step], params)


@pytest.mark.parametrize("due", [4, 12])
def test_sigterm_breaks_off_the_scoring_of_a_saved_step_and_the_step_is_scored_later(tmp_path, due):
    scored_steps = []

    def interrupt_scoring(step, params):
        if step == due:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the scoring went on")
        scored_steps.append(step)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_info:
        train(tmp_path, on_checkpoint=interrupt_scoring)
    assert exit_info.value.code == 42
    assert signal.getsignal(signal.SIGTERM) is handler
    assert due in checkpoint_steps(RunDir(epath.Path(tmp_path)))
    train(tmp_path, on_checkpoint=lambda step, params: scored_steps.append(step))
    assert scored_steps == [4, 8, 12]


def test_sigterm_before_a_block_that_may_be_broken_off_keeps_out_of_it():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)  # only noted, because a write may be in progress outside such a block
        with pytest.raises(SystemExit, match="42"), stop.leaving_at_once():
            pytest.fail("entered")
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()


def test_progress_is_a_plain_line_each_tenth_where_there_is_no_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(progress_bar, "SHORTEST_PAUSE", 0.0)
    execution = ExecutionConfig(data_parallel=2)
    train_run(bigram_job(tmp_path, execution, Source()))
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 10
    assert all(line.startswith(RUN.run_id) and "tok/s" in line and "to go" in line for line in lines)
    assert "step 12/12" in lines[-1]
