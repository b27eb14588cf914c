"""Several real processes train one run with the same losses, for any process count and after a resume on any mesh."""

import json

import pytest

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.distributed.launchers import initialize_arguments
from lossline_jax.errors import LosslineError
from tests.support.gangs import Gang, copy_of, finish, last_logged, prepared_study, run_folder

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "gpu[03-05,9],x",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}


def arguments(environment=None, **flags):
    return initialize_arguments(ProcessesConfig(**flags), environment or {})


def test_flags_come_before_the_environment_and_that_before_the_launcher():
    flags = {"coordinator": "a:1", "count": 3, "index": 2}
    jax = {"JAX_COORDINATOR_ADDRESS": "b:2", "JAX_NUM_PROCESSES": "5", "JAX_PROCESS_ID": "4"}
    for environment, given, expected in ((jax | SLURM, flags, ("a:1", 3, 2)), (jax | SLURM, {}, ("b:2", 5, 4))):
        jax_arguments = arguments(environment, **given)
        assert (
            jax_arguments["coordinator_address"],
            jax_arguments["num_processes"],
            jax_arguments["process_id"],
        ) == expected
        assert jax_arguments["cluster_detection_method"] == "deactivate"


def test_a_slurm_step_meets_on_its_first_node_and_a_lone_task_sees_all_devices():
    jax_arguments = arguments(SLURM)
    assert jax_arguments["coordinator_address"] == "gpu03:61441"
    assert (jax_arguments["num_processes"], jax_arguments["process_id"]) == (4, 2)
    assert "local_device_ids" not in jax_arguments
    dense = SLURM | {"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_NTASKS": "8", "SLURM_LOCALID": "5"}
    assert arguments(dense)["local_device_ids"] == [5]
    assert arguments(SLURM | {"JAX_COORDINATOR_ADDRESS": "h:9"})["coordinator_address"] == "h:9"


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ({}, {"launcher": "none"}),
        (SLURM, {"launcher": "none"}),
        ({}, {"count": 1}),
        (SLURM | {"SLURM_NTASKS": "1"}, {"launcher": "slurm"}),
        ({"KUBERNETES_SERVICE_HOST": "x", "JOB_COMPLETION_INDEX": "3"}, {"launcher": "none"}),
    ],
)
def test_a_process_alone_listens_to_its_own_machine_only(environment, flags):
    jax_arguments = arguments(environment, **flags)
    assert (jax_arguments["num_processes"], jax_arguments["process_id"]) == (1, 0)
    assert jax_arguments["coordinator_bind_address"].startswith("127.0.0.1:")


def test_jax_detects_tpus_itself_and_kubernetes_only_with_a_flag():
    assert arguments({"TPU_WORKER_ID": "0"}) == {"cluster_detection_method": None}
    assert arguments(launcher="k8s") == {"cluster_detection_method": "k8s"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coordinator": "h:1"}, "give --processes.count and --processes.index"),
        ({"coordinator": "h:1", "count": 2}, "must be two numbers"),
        ({"coordinator": "h:1", "count": 2, "index": 2}, r"2 is not one of 2 processes, 0\.\.1"),
        ({"count": 2, "index": 0}, "HOST:PORT"),
        ({"coordinator": "h", "count": 2, "index": 0}, "HOST:PORT of process 0, not 'h'"),
        ({"launcher": "slurm"}, "\\$SLURM_STEP_NODELIST is not set"),
    ],
)
def test_flags_that_say_too_little_are_refused(flags, message):
    with pytest.raises(LosslineError, match=message):
        arguments(**flags)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_study(tmp_path_factory.mktemp("prepared")).parent


@pytest.fixture(scope="module")
def straight(prepared, tmp_path_factory):
    """Return the outcome of one process with eight devices that is never interrupted."""
    manifest = copy_of(prepared, tmp_path_factory.mktemp("straight"))
    return finish(manifest, 1, 1)


def assert_same_losses(outcome, expected, rel):
    """Check that two outcomes have the same rows and steps, and losses that differ by rounding only."""
    rows, expected_rows = ([json.loads(line) for line in result[0].splitlines()] for result in (outcome, expected))
    assert [(row["step"], row["eval_set"]) for row in rows] == [(row["step"], row["eval_set"]) for row in expected_rows]
    for column in ("nats_per_token", "bits_per_byte"):
        assert [row[column] for row in rows] == pytest.approx([row[column] for row in expected_rows], rel=rel)
    assert [step for step, *_ in outcome[1]] == [step for step, *_ in expected[1]]
    for step, expected_step in zip(outcome[1], expected[1], strict=True):
        assert step[1:] == pytest.approx(expected_step[1:], rel=rel)


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_processes(prepared, straight, tmp_path):
    """Two and four processes agree bit for bit. One process sums in another order, because it sums in memory."""
    two, four = (finish(copy_of(prepared, tmp_path / str(n)), n, 8 // n) for n in (2, 4))
    assert two == four
    assert_same_losses(two, straight, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--execution.fsdp", "True"),
        ("--execution.model-parallel", "2"),  # within a process
        ("--execution.model-parallel", "2", "--execution.data-parallel", "2", "--execution.slices", "2"),
    ],
    ids=["fsdp", "tensor", "slices"],
)
def test_a_mesh_of_another_shape_trains_the_same(straight, tmp_path, flags):
    assert_same_losses(finish(prepared_study(tmp_path, *flags), 2, 4), straight, rel=2e-5)


def test_tensor_parallelism_may_reach_over_processes(straight, tmp_path):
    """Two processes with one device each share every row."""
    assert_same_losses(finish(prepared_study(tmp_path, "--execution.model-parallel", "2"), 2, 1), straight, rel=2e-5)


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_and_with_more_devices(prepared, straight, tmp_path):
    """The run is killed on 2 processes x 4 devices, resumes on 1 x 2, is killed again, and resumes on 4 x 2."""
    manifest = copy_of(prepared, tmp_path)
    for count, devices, until in ((2, 4, 9), (1, 2, 17)):
        with Gang(manifest, count, devices, faults={0: ("kill-step", until + 2)}) as gang:
            gang.processes[0].wait(240)
    assert sorted(int(p.name) for p in (run_folder(manifest) / "checkpoints").iterdir()) == [8, 16]
    assert last_logged(manifest) <= 20
    assert_same_losses(finish(manifest, 4, 2), straight, rel=2e-5)
