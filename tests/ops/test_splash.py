"""The attention kernel of TPUs, interpreted on a CPU, equals the plain formula, also on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.errors import LosslineError
from lossline_jax.ops.attention import reference_causal_attention
from lossline_jax.ops.splash import splash_attention
from tests.support.ops_checks import (
    assert_same_values_and_gradients,
    normals,
    qkv_inputs,
    random_segments,
    value_and_gradients,
)

interpreted = functools.partial(splash_attention, interpret=True)


@pytest.mark.parametrize(
    ("length", "kv_heads", "group", "dtype", "seed"),
    [
        (300, 1, 2, "float32", 0),  # three blocks, of which the last is padded
        (128, 2, 1, "float32", None),
        (65, 1, 3, "bfloat16", 1),
    ],
)
def test_equals_reference_in_values_and_gradients(length, kv_heads, group, dtype, seed):
    qkv = qkv_inputs(2, length, kv_heads, group, 8, dtype)
    segments_BT = None if seed is None else random_segments(2, length, seed)
    tolerance = 2e-5 if dtype == "float32" else 3e-2
    assert_same_values_and_gradients(interpreted, reference_causal_attention, qkv, segments_BT, tolerance)


def test_a_changed_document_changes_no_bit_of_the_other():
    qkv = qkv_inputs(1, 130, 1, 2, 4)
    (weights,) = normals(1, [qkv[0].shape])
    segments_BT = (jnp.arange(130) >= 70).astype(jnp.int32)[None]
    before = value_and_gradients(interpreted, qkv, weights, segments_BT)
    for here in (slice(0, 70), slice(70, 130)):
        changed = [x.at[:, here].multiply(7.3) for x in qkv]
        after = value_and_gradients(interpreted, changed, weights.at[:, here].add(1), segments_BT)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(*(np.delete(np.asarray(leaf[0]), here, axis=0) for leaf in (old, new)))


def mesh(data, model):
    return build_mesh(jax.devices()[: data * model], data=data, model=model)


def test_on_a_mesh_every_device_runs_its_rows_and_heads():
    """Both ways of training agree: sharded by the compiler (FSDP), and mapped over `data` with whole parameters."""
    qkv = qkv_inputs(4, 64, 2, 2, 4)
    (weights,) = normals(1, [qkv[0].shape])
    segments_BT = random_segments(4, 64, 0)
    expected = value_and_gradients(reference_causal_attention, qkv, weights, segments_BT)
    run = functools.partial(value_and_gradients, interpreted)
    mapped = jax.shard_map(run, in_specs=P("data"), out_specs=P("data"), axis_names={"data"}, check_vma=False)
    with jax.set_mesh(mesh(2, 2)):
        for step in (run, jax.jit(mapped)):
            outputs = step(qkv, weights, segments_BT)
            assert outputs[0].sharding.spec == P("data", None, "model")
            for output, expected_output in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(output, expected_output, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "model", "batch", "kv_heads", "message"),
    [
        (1, 2, 2, 3, "3 key/value heads over the 2 devices of mesh axis 'model'; choose an execution.model_parallel"),
        (2, 1, 3, 2, "3 sequences over the 2 devices of mesh axis 'data'; choose an execution.data_parallel"),
    ],
)
def test_refuses_heads_and_rows_that_the_mesh_does_not_divide(data, model, batch, kv_heads, message):
    qkv = qkv_inputs(batch, 8, kv_heads, 2, 4)
    with jax.set_mesh(mesh(data, model)), pytest.raises(LosslineError, match=message):
        interpreted(*qkv)
