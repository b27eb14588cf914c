"""Planning and training divide devices, rows and parameters by the same rules, so they agree on every small mesh."""

import dataclasses
import functools
import itertools

import jax
import pytest

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
)
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import shardings
from lossline_jax.errors import LosslineError
from lossline_jax.models.declaration import split_dimensions
from lossline_jax.models.model import build_model
from lossline_jax.plan.choose_layout import choose_layout
from lossline_jax.train import gradient
from lossline_jax.train.gradient import microbatches_per_device
from tests.support.report_study import study_config

MODELS = (  # The numbers of heads, keys and channels are such that none can be divided by all of 2, 3 and 4.
    LlamaConfig(d_model=12, num_layers=1, num_heads=6, num_kv_heads=2, d_ff=24),
    GPT2Config(d_model=12, num_layers=1, num_heads=3, d_ff=20, max_positions=16),
    GPTNeoXConfig(d_model=24, num_layers=1, num_heads=3, d_ff=32),
    Mamba2Config(d_model=10, num_layers=1, num_heads=4, d_state=4, d_inner=40),
    MambaConfig(d_model=10, num_layers=1, d_state=4, d_inner=30),
)
VOCABS = (12, 15)
RUN = dataclasses.replace(study_config().runs[0], context_length=16)


@pytest.fixture(autouse=True)
def as_on_chips(monkeypatch):
    """Give None of fsdp and microbatch the meaning that it has on accelerators."""
    monkeypatch.setattr("lossline_jax.distributed.sharding.on_cpu", lambda mesh: False)
    monkeypatch.setattr(gradient, "on_cpu", lambda mesh: False)


def answer(ask, *args, **options):
    """Return the result of `ask`, or None if it refuses its arguments."""
    try:
        return ask(*args, **options)
    except LosslineError:
        return None


def test_plan_and_train_accept_the_same_meshes_and_batches():
    """The test takes every combination of small numbers, with zero and negative numbers."""
    even, vocab_size = dataclasses.replace(MODELS[0], num_heads=12, num_kv_heads=12, d_model=24), 12
    mesh_of = functools.cache(lambda execution, count: answer(make_mesh, execution, jax.devices()[:count]))
    accepted = refused = 0
    for count, data, model, slices in itertools.product(
        (1, 2, 3, 4, 6, 8), (None, -1, 0, 1, 2, 3, 4), (-1, 0, 1, 2, 3), (0, 1, 2)
    ):
        meshed = ExecutionConfig(data_parallel=data, model_parallel=model, slices=slices)
        mesh = mesh_of(meshed, count)
        for micro, batch_size in itertools.product((None, -1, 0, 1, 2, 3), (4, 6)):
            execution = dataclasses.replace(meshed, microbatch_size=micro)
            sized = dataclasses.replace(RUN, model=even, batch_size=batch_size)
            planned = answer(choose_layout, sized, vocab_size, execution, devices=count, chip=None)
            times = mesh and answer(microbatches_per_device, batch_size, 16, execution, mesh)
            if times is None:
                refused += 1
                assert planned is None, (count, execution, batch_size)
                continue
            accepted += 1
            assert planned is not None, (count, execution, batch_size)
            assert tuple(mesh.shape.values()) == (planned.slices, planned.data, planned.model)
            assert times * planned.microbatch == planned.rows
            assert planned.rows * planned.slices * planned.data == batch_size
    assert accepted > 300
    assert refused > 500


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.architecture)
@pytest.mark.parametrize("vocab_size", VOCABS)
def test_plan_and_train_split_the_same_parameters(config, vocab_size):
    """Both require that the devices of an axis divide the dimensions on it, with FSDP and without."""
    model, run = build_model(config, vocab_size), dataclasses.replace(RUN, model=config, batch_size=12)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    refusals = set()
    for data, parallel, fsdp in itertools.product((1, 2, 3, 4), (1, 2, 3), (None, True, False)):
        if data * parallel > 8:
            continue
        execution = ExecutionConfig(data_parallel=data, model_parallel=parallel, fsdp=fsdp)
        planned = answer(choose_layout, run, vocab_size, execution, devices=8, chip=None)
        mesh = make_mesh(execution)
        split = answer(shardings, model.axes(), mesh, shapes, fsdp=fsdp)
        assert (planned is None) == (split is None), execution
        refusals.add(planned is None)
    assert refusals == {True, False}


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.architecture)
def test_the_dimensions_that_a_plan_knows_are_those_of_the_parameters(config):
    """The plan has the right size of every parameter axis that a mesh can split."""
    model = build_model(config, 12)
    sizes: dict[str, set[int]] = {}
    for names, shape in zip(
        jax.tree.leaves(model.axes(), is_leaf=lambda node: isinstance(node, tuple)),
        jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))),
        strict=True,
    ):
        for name, size in zip(names, shape.shape, strict=True):
            sizes.setdefault(name, set()).add(size)
    known = split_dimensions(config, 12)
    unsplit = {None, "layers", "head_dim", "state", "seq"}
    assert {name: sizes[name] for name in sizes.keys() - unsplit} == {name: {size} for name, size in known.items()}


def test_no_parallelism_of_zero_is_planned_as_that_of_all_devices():
    with pytest.raises(LosslineError, match="data_parallel=0 by model_parallel=1 does not fit the 8"):
        choose_layout(RUN, 512, ExecutionConfig(data_parallel=0), devices=8, chip=None)
    with pytest.raises(LosslineError, match="data_parallel=0 by model_parallel=1 does not fit the 8"):
        make_mesh(ExecutionConfig(data_parallel=0))
