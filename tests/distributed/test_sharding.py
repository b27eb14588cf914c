"""Logical axes are sharded over the mesh by the rules, or an error is raised."""

import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.batch_rows import place_batch, rows_of_process
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import constrain, shardings
from lossline_jax.errors import LosslineError

AXES = {"w": ("embed", "mlp"), "norm": ("embed",), "blocks": {"o": ("layers", "heads", "head_dim", "embed")}}


def mesh_of(data, model):
    return make_mesh(ExecutionConfig(data_parallel=data, model_parallel=model))


def specs(tree):
    return jax.tree.map(lambda sharding: sharding.spec, tree)


def test_parameters_are_whole_over_data_on_cpu_and_split_with_fsdp():
    mesh = mesh_of(4, 2)
    whole = {"w": P(None, "model"), "norm": P(None), "blocks": {"o": P(None, "model", None, None)}}
    split = {"w": P("data", "model"), "norm": P("data"), "blocks": {"o": P(None, "model", None, "data")}}
    assert specs(shardings(AXES, mesh)) == whole  # the default on CPU devices
    assert specs(shardings(AXES, mesh, fsdp=False)) == whole
    assert specs(shardings(AXES, mesh, fsdp=True)) == split


@pytest.mark.parametrize(
    ("names", "message"),
    [(("embed", "mpl"), "unknown logical axis 'mpl'"), (("mlp", "heads"), "two dimensions")],
)
def test_unknown_and_doubly_used_axes_raise(names, message):
    with pytest.raises(ValueError, match=message):
        shardings({"w": names}, mesh_of(4, 2))
    with pytest.raises(ValueError, match=message):
        constrain(jnp.zeros((2, 2)), *names)


def test_a_dimension_that_does_not_divide_is_refused_by_name():
    shapes = {"blocks": {"w": jax.ShapeDtypeStruct((6, 8), jnp.float32)}}
    axes = {"blocks": {"w": ("embed", "mlp")}}
    with pytest.raises(LosslineError, match=r"blocks/w .* dimension of 6 .* 4 devices .*'data'.*fsdp=False"):
        shardings(axes, mesh_of(4, 2), shapes, fsdp=True)
    assert shardings(axes, mesh_of(4, 2), shapes, fsdp=False)["blocks"]["w"].spec == P(None, "model")


def test_a_mesh_takes_all_devices_or_as_many_as_asked():
    assert dict(make_mesh(ExecutionConfig()).shape) == {"slice": 1, "data": 8, "model": 1}
    assert dict(make_mesh(ExecutionConfig(model_parallel=2)).shape) == {"slice": 1, "data": 4, "model": 2}
    assert dict(mesh_of(1, 1).shape) == {"slice": 1, "data": 1, "model": 1}
    for data, model in ((16, 1), (8, 2), (0, 1), (None, 9)):
        with pytest.raises(LosslineError, match="does not fit the 8 cpu"):
            mesh_of(data, model)


def test_constrain_lays_activations_out_and_is_nothing_without_a_mesh():
    x_BTD = jnp.zeros((8, 3, 4))
    assert constrain(x_BTD, "batch", "seq", "embed") is x_BTD
    with pytest.raises(ValueError, match="2 axes"):
        constrain(x_BTD, "batch", "seq")
    mesh = mesh_of(4, 2)
    with jax.set_mesh(mesh):
        laid = jax.jit(lambda x: constrain(x, "batch", "seq", "mlp"))(x_BTD)
    assert laid.sharding.is_equivalent_to(jax.sharding.NamedSharding(mesh, P("data", None, "model")), 3)


def test_constrain_leaves_mapped_axes_alone_inside_shard_map():
    mesh = mesh_of(4, 2)

    def local(x_BD):
        return constrain(x_BD, "batch", "mlp") * 2

    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=P("data"), out_specs=P("data"), axis_names={"data"}, check_vma=False
    )
    x_BD = np.arange(32, dtype=np.float32).reshape(8, 4)
    with jax.set_mesh(mesh):
        np.testing.assert_array_equal(jax.jit(mapped)(x_BD), 2 * x_BD)


def test_place_batch_gives_each_device_its_own_rows_in_order():
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    placed = place_batch({"tokens": rows}, mesh_of(4, 2))["tokens"]
    np.testing.assert_array_equal(placed, rows)
    for shard in placed.addressable_shards:
        np.testing.assert_array_equal(shard.data, rows[shard.index])
        assert shard.data.shape == (2, 2)


def grid(rows):
    """Return stand-ins for devices with their process index, by (part, place along `model`)."""
    return np.array([[[types.SimpleNamespace(process_index=p) for p in part] for part in rows]])


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([[0], [0], [1], [1]], {0: (0, 2, (0, 1)), 1: (1, 2, (2, 3))}),
        # A host of a v5e:4x4 has a block of 2 x 2 chips. The ring through the torus visits it twice.
        ([[0], [0], [1], [1], [1], [1], [0], [0]], {0: (0, 2, (0, 1, 6, 7)), 1: (1, 2, (2, 3, 4, 5))}),
        ([[0, 1], [0, 1], [2, 3], [2, 3]], {0: (0, 2, (0, 1)), 1: (0, 2, (0, 1)), 3: (1, 2, (2, 3))}),
    ],
)
def test_every_row_of_a_batch_is_read_once(processes, expected):
    for process, (index, count, parts) in expected.items():
        assert rows_of_process(grid(processes), process) == (index, count, parts)


def test_processes_that_share_some_rows_and_not_all_are_refused():
    with pytest.raises(LosslineError, match="share some rows"):
        rows_of_process(grid([[0, 0], [0, 1], [1, 1]]), 0)


def test_configure_devices_after_the_backend_has_started_changes_nothing():
    before = len(jax.devices())
    configure_devices(ExecutionConfig(cpu_devices=3))
    assert len(jax.devices()) == before
    with pytest.raises(LosslineError, match="cpu_devices"):
        configure_devices(ExecutionConfig(cpu_devices=0))


@pytest.mark.parametrize(
    ("cpu_devices", "environment", "expected"),
    [("3", {}, 3), ("None", {}, None), ("None", {"JAX_NUM_CPU_DEVICES": "5"}, 5)],
)
def test_configure_devices_before_the_backend_starts(cpu_devices, environment, expected):
    code = (
        "import jax; from lossline_jax.distributed.devices import configure_devices as c;"
        "from lossline_jax.config.execution import ExecutionConfig as E;"
        f"c(E(cpu_devices={cpu_devices})); print(len(jax.devices()))"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(out.stdout) == (expected or min(len(os.sched_getaffinity(0)), 8))
