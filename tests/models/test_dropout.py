"""Dropout keeps the mean, does not depend on the mesh, and is absent from evaluation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import GPT2Config, LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.distributed.batch_rows import place_batch
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.ops.dropout import Dropout, drop, for_layers
from lossline_jax.train.state import init_state
from lossline_jax.train.step import train_program
from tests.support.tiny_training import RUN, VOCAB, Source

LLAMA = LlamaConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32)
CONFIGS = [
    LLAMA,
    GPT2Config(d_model=16, num_layers=2, num_heads=2, max_positions=8),
    MambaConfig(d_model=16, num_layers=2, d_state=4, chunk_size=4),
    Mamba2Config(d_model=16, num_layers=2, num_heads=2, d_state=8, d_inner=32, chunk_size=4),
]


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_the_mean_over_keys_is_the_value_itself():
    """A value is kept with probability 1 - p and divided by it. 4096 keys leave an error of about .01."""
    x_BTD = jnp.broadcast_to(jnp.linspace(0.5, 1.5, 12).reshape(3, 4), (4096, 3, 4))
    dropped_BTD = drop(x_BTD, Dropout(keys(4096), jnp.float32(0.3)), site=1)
    np.testing.assert_allclose(dropped_BTD.mean(axis=0), x_BTD[0], atol=0.05)
    np.testing.assert_allclose(jnp.mean(dropped_BTD == 0), 0.3, atol=0.01)
    kept = dropped_BTD != 0
    np.testing.assert_allclose(dropped_BTD[kept], (x_BTD / 0.7)[kept], rtol=1e-6)


def test_rows_layers_and_places_have_masks_of_their_own():
    dropout = for_layers(Dropout(keys(2), jnp.float32(0.5)), 2)
    masks = {
        (layer, site, row): np.asarray(
            drop(jnp.ones((2, 8, 16)), Dropout(dropout.keys_B[layer], dropout.rate[layer]), site)[row] > 0
        )
        for layer in range(2)
        for site in (1, 2)
        for row in range(2)
    }
    for name, mask in masks.items():
        for other, other_mask in masks.items():
            assert name == other or 0.3 < np.mean(mask == other_mask) < 0.7


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.architecture)
def test_dropout_changes_training_alone(config):
    plain, model = build_model(config, VOCAB), build_model(dataclasses.replace(config, dropout=0.5), VOCAB)
    params = model.init(jax.random.key(0))
    tokens_BT = jax.random.randint(jax.random.key(1), (2, 8), 0, VOCAB)
    np.testing.assert_array_equal(model.nll(params, tokens_BT, tokens_BT), plain.nll(params, tokens_BT, tokens_BT))
    first, second = (
        model.nll(params, tokens_BT, tokens_BT, dropout=Dropout(keys(2, seed), jnp.float32(0.5))) for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 1e-3


def steps(execution, run, num_steps=2):
    mesh, model = make_mesh(execution), build_model(run.model, VOCAB)
    step, rule, abstract, _ = train_program(run, model, execution, mesh)
    state, rows = init_state(model, rule, run.seed, abstract), []
    with jax.set_mesh(mesh):
        for index in range(num_steps):
            state, metrics = step(state, place_batch(Source().batch(index), mesh))
            rows.append((float(metrics.loss_nats_per_token), float(metrics.grad_norm)))
    return np.array(rows)


@pytest.mark.slow
def test_losses_do_not_depend_on_devices_microbatches_and_remat():
    run = dataclasses.replace(RUN, model=dataclasses.replace(LLAMA, dropout=0.2))
    whole = steps(ExecutionConfig(data_parallel=1, microbatch_size=16), run)
    for execution in (
        ExecutionConfig(data_parallel=1, microbatch_size=4),
        ExecutionConfig(data_parallel=4, model_parallel=2, fsdp=True, microbatch_size=2),
    ):
        np.testing.assert_allclose(steps(execution, run), whole, rtol=1e-5)
    other_seed = steps(ExecutionConfig(data_parallel=1, microbatch_size=16), dataclasses.replace(run, seed=1), 1)
    assert abs(other_seed[0, 0] - whole[0, 0]) > 1e-4


def test_dropout_begins_at_its_fraction_of_the_run():
    """With `dropout_from` at a half, the first six of the twelve steps are those of a run without dropout."""
    one = ExecutionConfig(data_parallel=1, microbatch_size=16)
    late = dataclasses.replace(RUN, model=dataclasses.replace(LLAMA, dropout=0.5, dropout_from=0.5))
    rows = steps(one, late, 7)
    plain = steps(one, dataclasses.replace(RUN, model=LLAMA), 7)
    np.testing.assert_allclose(rows[:6], plain[:6], rtol=1e-5)
    assert abs(rows[6, 0] - plain[6, 0]) > 1e-3


def test_a_run_without_dropout_draws_no_random_numbers():
    model, mesh = build_model(LLAMA, VOCAB), make_mesh(ExecutionConfig(data_parallel=1))
    batch = place_batch(Source().batch(0), mesh)

    def text(run):
        step, _, abstract, _ = train_program(run, build_model(run.model, VOCAB), ExecutionConfig(data_parallel=1), mesh)
        with jax.set_mesh(mesh):
            return step.lower(abstract, batch).as_text()

    plain = dataclasses.replace(RUN, model=model.config)
    assert "threefry" not in text(plain)
    assert "threefry" in text(dataclasses.replace(plain, model=dataclasses.replace(LLAMA, dropout=0.1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 1.0}, r"model\.dropout: 1\.0 is out of range; give at least 0 and less than 1"),
        ({"dropout_from": 0.5}, r"model\.dropout_from: 0\.5 has no effect without model\.dropout"),
        ({"weight_bits": 0}, r"model\.weight_bits: 0 is out of range"),
        ({"weight_bits": 1}, r"model\.weight_bits: 1 is out of range; give at least 2"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(LosslineError, match=message):
        build_model(dataclasses.replace(LLAMA, **changes), VOCAB)
