"""Checkpoints are restored bit for bit on any mesh. A damaged checkpoint or one of another run is refused by name."""

import dataclasses
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.errors import LosslineError, RunFailed
from lossline_jax.storage import moments
from lossline_jax.storage.moments import remove_moments
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import CheckpointMeta, checkpoint_steps, write_checkpoint
from lossline_jax.train.checkpoint import Checkpointer, load_checkpoint_params
from lossline_jax.train.gradient import LossSums
from lossline_jax.train.loop import train_run
from lossline_jax.train.optimisers.make import make_update_rule
from lossline_jax.train.state import TrainState, abstract_state, init_state, state_shardings
from tests.support.tiny_training import RUN, Bigram, Source, bigram_job, train_bigram

TWO = ExecutionConfig(data_parallel=2)
EIGHT = ExecutionConfig(data_parallel=4, model_parallel=2, fsdp=True)


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """Return a relative folder, as on a user's command line."""
    monkeypatch.chdir(tmp_path)
    return RunDir(epath.Path("run"))


def fresh(execution, model=None):
    """Return an abstract state on a mesh, and a state whose moments are not zero."""
    model = model or Bigram()
    rule = make_update_rule(OptimConfig(), optax.constant_schedule(0.1), model)
    abstract = abstract_state(model, rule, make_mesh(execution), execution.fsdp)
    state = init_state(model, rule, 0, abstract)

    def gradient_at(params):
        return LossSums(jnp.zeros(()), {}), params

    opt_state = jax.jit(lambda params, moments: rule.update(gradient_at, params, moments).opt_state)(
        state.params, state.opt_state
    )
    opt_state = jax.tree.map(lambda leaf: leaf if leaf.ndim else leaf + 2, opt_state)  # the counters too
    return abstract, TrainState(state.step + 3, state.params, opt_state)


def meta(step):
    return CheckpointMeta(step, 16 * step, "data", "run", {"wall": 1.5})


def save(run_dir, *steps, **options):
    abstract, state = fresh(TWO)
    with Checkpointer(run_dir, **options) as checkpointer:
        for step in steps:
            checkpointer.save(step, state, meta(step))
    return abstract, state


def test_a_state_comes_back_bit_for_bit_on_another_mesh(run_dir, capfd):
    _, state = save(run_dir, 3)
    abstract, _ = fresh(EIGHT)
    with Checkpointer(run_dir) as checkpointer:
        assert checkpointer.latest() == 3
        restored = checkpointer.restore(3, abstract)
        assert checkpointer.read_meta(3) == meta(3)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == state_shardings(abstract)
    assert capfd.readouterr() == ("", "")  # orbax prints nothing


def test_parameters_load_without_the_optimiser(run_dir):
    _, state = save(run_dir, 3)
    (run_dir.checkpoints / "00000003" / "opt").rmtree()
    params = load_checkpoint_params(run_dir, 3, Bigram(), make_mesh(EIGHT), fsdp=True)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert params["embed"].addressable_shards[0].data.shape == (16, 4)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove])
def test_damage_is_named_and_nothing_falls_back(run_dir, damage):
    abstract, _ = save(run_dir, 2, 3)
    data_files = (run_dir.checkpoints / "00000003/params/ocdbt.process_0/d").iterdir()
    damage(max(data_files, key=lambda path: path.stat().length))
    with Checkpointer(run_dir) as checkpointer:
        for read in (
            lambda: checkpointer.restore(3, abstract),
            lambda: load_checkpoint_params(run_dir, 3, Bigram(), make_mesh(TWO)),
        ):
            with pytest.raises(RunFailed, match=r"00000003: damaged .*delete this folder to resume from step 2"):
                read()
        checkpointer.restore(2, abstract)
        checkpointer.folder(3).rmtree()  # the repair that the message gives
        assert checkpointer.latest() == 2


def test_a_damaged_meta_is_named(run_dir):
    abstract, _ = save(run_dir, 3)
    truncate(run_dir.checkpoints / "00000003" / "meta.json")
    truncate(run_dir.checkpoints / "00000003" / "meta.json")
    with (
        Checkpointer(run_dir) as checkpointer,
        pytest.raises(RunFailed, match=r"damaged checkpoint, meta\.json .*delete this folder to start the run again"),
    ):
        checkpointer.restore(3, abstract)


def test_what_a_killed_process_left_is_no_checkpoint(run_dir):
    abstract, state = save(run_dir, 2, 3)
    (run_dir.checkpoints / "00000003" / "meta.json").unlink()
    (run_dir.checkpoints / "00000004.orbax-checkpoint-tmp").mkdir()
    with Checkpointer(run_dir) as checkpointer:
        assert checkpointer.steps() == [2]
        with pytest.raises(RunFailed, match=r"00000003: no complete checkpoint; this run has steps \[2\]"):
            checkpointer.restore(3, abstract)
        checkpointer.discard_incomplete()
        assert [path.name for path in run_dir.checkpoints.iterdir()] == ["00000002"]
        checkpointer.save(3, state, meta(3))
        assert checkpointer.steps() == [2, 3]


def test_keep_and_cadence(run_dir, tmp_path):
    save(run_dir, 1, 2, 3, 4, keep=2)
    assert checkpoint_steps(run_dir) == [3, 4]
    other_dir = RunDir(epath.Path(tmp_path) / "other")
    save(other_dir, 2, 3, 4, 5, cadence=(2, 4))
    assert checkpoint_steps(other_dir) == [2, 4, 5]
    with pytest.raises(LosslineError, match="keep_checkpoints"):
        Checkpointer(run_dir, keep=0)


def moments_on_disk(run_dir):
    return sorted(int(path.parent.name) for path in run_dir.checkpoints.glob("*/opt"))


def test_the_newest_checkpoints_keep_their_moments_and_all_their_parameters(run_dir):
    abstract, state = save(run_dir, 1, 2, 3, 4, keep_moments=2)
    assert moments_on_disk(run_dir) == [3, 4]
    with Checkpointer(run_dir) as checkpointer:
        assert checkpointer.steps() == [1, 2, 3, 4]
        for step in checkpointer.steps():
            params = checkpointer.restore_params(step, abstract.params)
            jax.tree.map(np.testing.assert_array_equal, params, state.params)
        jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(3, abstract).opt_state, state.opt_state)
    with pytest.raises(LosslineError, match="keep_moments"):
        Checkpointer(run_dir, keep_moments=0)


def test_a_run_continues_from_the_newest_checkpoint_with_moments(run_dir):
    """The user deletes the newest checkpoint with moments, as a message about damage asks. The next one has none."""
    abstract, state = save(run_dir, 1, 2, 3, 4)
    remove_moments(run_dir, 3)
    with Checkpointer(run_dir, keep_moments=2) as checkpointer:
        assert checkpointer.latest_with_moments() == 4
        truncate(checkpointer.folder(4) / "meta.json")
        truncate(checkpointer.folder(4) / "meta.json")
        with pytest.raises(RunFailed, match=r"00000004: damaged .*delete this folder to resume from step 2"):
            checkpointer.latest_with_moments()
        checkpointer.folder(4).rmtree()
        assert checkpointer.latest_with_moments() == 2
        checkpointer.save(3, state, meta(3))  # the continued run trains step 3 again, and makes it whole
        assert checkpointer.latest_with_moments() == 3
        jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(3, abstract), state)
    assert moments_on_disk(run_dir) == [2, 3]


def test_a_kill_while_moments_are_removed_harms_no_checkpoint(run_dir, monkeypatch):
    class Killed(BaseException):
        pass

    def write_and_die(*arguments):
        write_checkpoint(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(moments, "write_checkpoint", write_and_die)
        with pytest.raises(Killed):
            save(run_dir, 1, 2, keep_moments=1)
    assert moments_on_disk(run_dir) == [1, 2]  # the folder is still there, and meta.json no longer lists it
    with Checkpointer(run_dir) as checkpointer:
        assert checkpointer.latest_with_moments() == 2
        checkpointer.restore_params(1, fresh(TWO)[0].params)
        checkpointer.discard_incomplete()
    assert moments_on_disk(run_dir) == [2]


def test_training_goes_on_bit_for_bit_where_newer_checkpoints_have_no_moments(tmp_path, capsys):
    straight, resumed = RunDir(epath.Path(tmp_path) / "straight"), RunDir(epath.Path(tmp_path) / "resumed")
    for run_dir in (straight, resumed):
        train_bigram(run_dir.root, ExecutionConfig(data_parallel=2))
    assert moments_on_disk(straight) == [8, 12]  # two of the three checkpoints, by default
    resumed.done_file.unlink()
    remove_moments(resumed, 12)
    train_bigram(resumed.root, ExecutionConfig(data_parallel=2))
    assert "00000012: has no optimiser moments; training continues from step 8" in capsys.readouterr().err
    abstract, _ = fresh(TWO)
    with Checkpointer(straight) as first, Checkpointer(resumed) as second:
        jax.tree.map(np.testing.assert_array_equal, first.restore(12, abstract), second.restore(12, abstract))


def test_parameters_of_another_model_are_refused(run_dir):
    save(run_dir, 3)
    with pytest.raises(LosslineError, match="holds other parameters than this model's"):
        load_checkpoint_params(run_dir, 3, Bigram(width=8), make_mesh(TWO))

    class Renamed(Bigram):
        def init(self, key):
            return {**super().init(key), "extra": jnp.zeros((self.width,))}

        def axes(self):
            return {**super().axes(), "extra": ("embed",)}

    with pytest.raises(LosslineError, match="holds other parameters than this model's"):
        load_checkpoint_params(run_dir, 3, Renamed(), make_mesh(TWO))


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("RESOURCE_EXHAUSTED: Failed to open: Too many open files [os_error_code='24' path='x']", "fix the cause"),
        ("INVALID_ARGUMENT: no space [os_error_code='28']", "free space"),
        ("Received incompatible devices for jitted computation. Got argument x\nwith shape f32[]", "try newer ones"),
    ],
)
def test_a_failure_to_read_a_sound_checkpoint_of_this_model_shows_its_own_cause(run_dir, monkeypatch, cause, advice):
    def fail(*_, **__):
        raise ValueError(cause)

    abstract, _ = save(run_dir, 3)
    with Checkpointer(run_dir) as checkpointer:
        monkeypatch.setattr(checkpointer._orbax, "restore", fail)
        for read, target in ((checkpointer.restore, abstract), (checkpointer.restore_params, abstract.params)):
            with pytest.raises(LosslineError, match=f"00000003: cannot be read .*{advice}") as caught:
                read(3, target)
            assert "model config" not in str(caught.value)
            assert "\n" not in str(caught.value)


def test_changed_config_and_changed_data_under_a_run_are_refused(run_dir):
    job = bigram_job(run_dir.root, TWO, Source())

    def stop(step, params):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(job, on_checkpoint=stop, show_progress=False)
    with pytest.raises(LosslineError, match=r"00000004: this run was begun with another training data"):
        train_run(dataclasses.replace(job, source=Source(seed=1)))
    changed = dataclasses.replace(job, run=dataclasses.replace(RUN, seed=5))
    with pytest.raises(LosslineError, match=r"00000004: this run was begun with another config"):
        train_run(changed)
    train_run(job, show_progress=False)
    with pytest.raises(LosslineError, match=r"done\.json: another config was trained here"):
        train_run(changed)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk that holds one page of memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield epath.Path(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_asks_for_space(small_disk):
    with pytest.raises(LosslineError, match="cannot be saved .*No space left on device.*; free space on") as caught:
        save(RunDir(small_disk), 3)
    assert "tensorstore_spec" not in str(caught.value)


def test_another_failure_of_a_save_shows_its_own_cause(run_dir, monkeypatch):
    """The failure is that of orbax-checkpoint 0.11.28 with jax 0.10."""

    def fail(*_, **__):
        raise ValueError("Received incompatible devices for jitted computation. Got argument x\nwith shape f32[]")

    save(run_dir, 1)
    _, state = fresh(TWO)
    with Checkpointer(run_dir) as checkpointer:
        monkeypatch.setattr(checkpointer._orbax, "save", fail)
        with pytest.raises(LosslineError, match=r"cannot be saved \(Received incompatible devices") as caught:
            checkpointer.save(3, state, meta(3))
    assert "free space" not in str(caught.value)
    assert "continues from step 1" in str(caught.value)
    assert "\n" not in str(caught.value)
