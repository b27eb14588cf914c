"""Schedules equal their closed forms, and optimiser steps equal numpy."""

import dataclasses
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.config.model import GPT2Config, LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.declaration import declare_model
from lossline_jax.models.parameters import Normal, ParameterSpec
from lossline_jax.train.optimisers.make import make_update_rule
from lossline_jax.train.optimisers.muon import matrix_axes
from lossline_jax.train.optimisers.schedule import make_schedule, schedule_steps


def closed_form(schedule, peak, num_steps, step):
    """Return the learning rate of update `step` (from 1) by the definition."""
    warmup = max(1, round(schedule.warmup_fraction * num_steps))
    final = schedule.final_fraction * peak
    if step <= warmup:
        return peak * step / warmup
    if schedule.name == "cosine":
        progress = (step - warmup) / (num_steps - warmup)
        return final + (peak - final) * 0.5 * (1 + np.cos(np.pi * progress))
    decay = round(schedule.decay_fraction * num_steps)
    if step <= num_steps - decay:
        return peak
    return final + (peak - final) * (num_steps - step) / decay


@pytest.mark.parametrize("name", ["cosine", "wsd"])
@pytest.mark.parametrize("num_steps", [1, 7, 100, 16021])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.05, 0.312])
def test_schedules_equal_their_closed_forms(name, num_steps, warmup_fraction):
    config = ScheduleConfig(name, warmup_fraction=warmup_fraction, final_fraction=1e-2)
    schedule = make_schedule(config, 3e-3, num_steps)
    for step in sorted({1, 2, 3, num_steps // 10, num_steps // 2, num_steps - 2, num_steps - 1, num_steps}):
        if 1 <= step <= num_steps:
            expected = closed_form(config, 3e-3, num_steps, step)
            np.testing.assert_allclose(schedule(step - 1), expected, rtol=2e-4, atol=1e-9)


@given(
    num_steps=st.integers(1, 100_000),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.4),
    name=st.sampled_from(["cosine", "wsd"]),
)
def test_parts_of_a_schedule_are_whole_and_sum_to_the_run(num_steps, warmup, decay, name):
    if name == "wsd" and num_steps < 10:
        return
    config = ScheduleConfig(name, warmup_fraction=warmup, decay_fraction=decay)
    steps = schedule_steps(config, num_steps)
    assert steps.warmup >= 1
    assert min(steps.stable, steps.decay) >= 0
    assert steps.warmup + steps.stable + steps.decay == num_steps


def test_impossible_schedules_are_refused():
    with pytest.raises(LosslineError, match="more than the run's 10"):
        schedule_steps(ScheduleConfig("wsd", warmup_fraction=0.6, decay_fraction=0.6), 10)
    with pytest.raises(LosslineError, match=r"schedule\.warmup_fraction: 5 is not a fraction"):
        schedule_steps(ScheduleConfig(warmup_fraction=5), 10)


def numpy_steps(optim, params, gradients, decayed, learning_rates):
    """Run Adam (Kingma & Ba, algorithm 1) in numpy, with either kind of decay, after clipping by global norm."""
    mean = {name: np.zeros_like(p) for name, p in params.items()}
    square = {name: np.zeros_like(p) for name, p in params.items()}
    for t, (grads, rate) in enumerate(zip(gradients, learning_rates, strict=True), start=1):
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        scale = min(1.0, optim.clip_norm / norm) if optim.clip_norm else 1.0
        for name, p in params.items():
            decay = optim.weight_decay * p if decayed[name] else np.zeros_like(p)
            g = grads[name] * scale + (decay if optim.name == "adam_l2" else 0.0)
            mean[name] = optim.beta1 * mean[name] + (1 - optim.beta1) * g
            square[name] = optim.beta2 * square[name] + (1 - optim.beta2) * g**2
            corrected = np.sqrt(square[name] / (1 - optim.beta2**t)) + optim.eps
            update = mean[name] / (1 - optim.beta1**t) / corrected + (decay if optim.name == "adamw" else 0.0)
            params = {**params, name: p - rate * update}
    return params


@dataclass(frozen=True)
class TwoLeaves:
    """The part of a model that `make_update_rule` reads: a matrix of a block, and a vector without weight decay."""

    config: LlamaConfig = LlamaConfig(d_model=3)

    def declaration(self):
        matrix = ParameterSpec((2, 3, 4), ("layers", "embed", "mlp"), Normal(1.0), num_contracted=1)
        return {"a_log": ParameterSpec((4,), ("embed",), Normal(1.0), is_decayed=False), "blocks": {"w": matrix}}

    def weight_decay_mask(self):
        return jax.tree.map(lambda leaf: leaf.is_decayed, self.declaration())


def random_leaves(rng):
    return {"a_log": rng.normal(size=(4,)), "blocks": {"w": rng.normal(size=(2, 3, 4))}}


def flat(tree):
    return {"w": np.asarray(tree["blocks"]["w"]), "a_log": np.asarray(tree["a_log"])}


def take_steps(optim, gradients, start):
    """Return the parameters after a step along each of the gradients, which do not depend on the parameters."""
    rule = make_update_rule(optim, make_schedule(ScheduleConfig(warmup_fraction=0.5), 1e-2, 4), TwoLeaves())
    params, state = jax.tree.map(jnp.float32, start), None
    state = rule.init(params)
    for gradient in gradients:
        grads = jax.tree.map(jnp.float32, gradient)
        params, state, _, reported = rule.update(lambda _, grads=grads: (None, grads), params, state)
        assert jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b), reported, grads))
    return flat(params)


RATES = [closed_form(ScheduleConfig(warmup_fraction=0.5), 1e-2, 4, step) for step in (1, 2, 3)]
DECAYED = {"w": True, "a_log": False}


@pytest.mark.parametrize("name", ["adamw", "adam_l2"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.7])
def test_three_steps_of_adam_equal_numpy(name, clip_norm):
    rng = np.random.default_rng(0)
    optim = OptimConfig(name, weight_decay=0.1, clip_norm=clip_norm)
    start, gradients = random_leaves(rng), [random_leaves(rng) for _ in range(3)]
    updated = take_steps(optim, gradients, start)
    expected = numpy_steps(optim, flat(start), [flat(g) for g in gradients], DECAYED, RATES)
    for key in updated:
        np.testing.assert_allclose(updated[key], expected[key], rtol=2e-5, atol=1e-6)


def test_three_steps_of_lion_equal_numpy():
    """Chen et al. 2023, algorithm 2."""
    rng = np.random.default_rng(1)
    optim = OptimConfig("lion", weight_decay=0.1, beta1=0.9, beta2=0.99, clip_norm=0.0)
    start, gradients = random_leaves(rng), [random_leaves(rng) for _ in range(3)]
    expected, momentum = flat(start), {"w": 0.0, "a_log": 0.0}
    for gradient, rate in zip(gradients, RATES, strict=True):
        for key, grad in flat(gradient).items():
            decay = optim.weight_decay * expected[key] if DECAYED[key] else 0.0
            expected[key] = expected[key] - rate * (np.sign(0.9 * momentum[key] + 0.1 * grad) + decay)
            momentum[key] = 0.99 * momentum[key] + 0.01 * grad
    updated = take_steps(optim, gradients, start)
    for key in updated:
        np.testing.assert_allclose(updated[key], expected[key], rtol=2e-5, atol=1e-6)


def newton_schulz(matrix):
    """Return the fifth iterate for one matrix, with the quintic of Jordan et al. 2024."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x


def test_muon_orthogonalises_each_matrix_and_updates_the_rest_with_adam():
    rng = np.random.default_rng(2)
    optim = OptimConfig("muon", weight_decay=0.1, clip_norm=0.0)
    start, gradient = random_leaves(rng), random_leaves(rng)
    updated = take_steps(optim, [gradient], start)
    adam = numpy_steps(dataclasses.replace(optim, name="adamw"), flat(start), [flat(gradient)], DECAYED, RATES[:1])
    np.testing.assert_allclose(updated["a_log"], adam["a_log"], rtol=2e-5, atol=1e-6)
    for layer in range(2):
        weight, grad = start["blocks"]["w"][layer], gradient["blocks"]["w"][layer]
        step = 0.2 * np.sqrt(4) * newton_schulz(grad) + 0.1 * weight  # 4: the longer side
        np.testing.assert_allclose(updated["w"][layer], weight - RATES[0] * step, rtol=1e-4, atol=1e-6)
        assert 0.5 < np.sqrt(np.mean((0.2 * np.sqrt(4) * newton_schulz(grad)) ** 2)) / 0.2 < 1.3  # rms of AdamW


D, F = 64, 256


@pytest.mark.parametrize(
    ("config", "name", "rows", "columns", "matrices"),
    [
        (LlamaConfig(D, 3, 4, 2, F), "q", D, D, 3),
        (LlamaConfig(D, 3, 4, 2, F), "kv", D, D // 2, 3 * 2),
        (LlamaConfig(D, 3, 4, 2, F), "attention_out", D, D, 3),
        (LlamaConfig(D, 3, 4, 2, F), "gate_up", D, F, 3 * 2),
        (LlamaConfig(D, 3, 4, 2, F), "down", F, D, 3),
        (GPT2Config(D, 3, 4), "qkv", D, D, 3 * 3),
        (Mamba2Config(D, 3, 4, d_state=16, d_inner=F), "in_zx", D, F, 3 * 2),
        (Mamba2Config(D, 3, 4, num_groups=2, d_state=16, d_inner=F), "in_bc", D, 16, 3 * 2 * 2),
        (Mamba2Config(D, 3, 4, d_state=16, d_inner=F), "in_dt", D, 4, 3),
        (MambaConfig(D, 3, d_state=16, d_inner=F, dt_rank=8), "to_dt_bc", F, 8 + 2 * 16, 3),
        (MambaConfig(D, 3, d_state=16, d_inner=F, dt_rank=8), "to_dt", 8, F, 3),
    ],
)
def test_muon_sees_the_matrices_that_tokens_are_multiplied_with(config, name, rows, columns, matrices):
    spec = declare_model(config, 100)["blocks"][name]
    of_rows, of_columns = (math.prod(spec.shape[axis] for axis in axes) for axes in matrix_axes(spec))
    assert (of_rows, of_columns, spec.size // (of_rows * of_columns)) == (rows, columns, matrices)


def quadratic(curvature):
    """Return the gradient of a quadratic bowl, for a rule that asks for it anywhere."""
    return lambda params: (None, jax.tree.map(lambda c, p: c * p, curvature, params))


def test_sam_takes_the_gradient_at_the_distance_of_its_radius():
    """Foret et al. 2021, algorithm 1, on a bowl whose gradient is known everywhere."""
    rng = np.random.default_rng(3)
    start, curvature = random_leaves(rng), jax.tree.map(np.abs, random_leaves(rng))
    optim = OptimConfig("lion", sam_radius=0.5, weight_decay=0.0, clip_norm=0.0)
    rule = make_update_rule(optim, optax.constant_schedule(1e-2), TwoLeaves())
    params = jax.tree.map(jnp.float32, start)
    asked = []

    def gradient_at(point):
        asked.append(flat(point))
        return quadratic(curvature)(point)

    updated = rule.update(gradient_at, params, rule.init(params))
    gradient = {key: flat(curvature)[key] * value for key, value in flat(start).items()}
    norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
    for key, value in flat(start).items():
        np.testing.assert_allclose(asked[0][key], value, rtol=1e-6)
        np.testing.assert_allclose(asked[1][key], value + 0.5 * gradient[key] / norm, rtol=1e-5)
        climbed = flat(curvature)[key] * asked[1][key]
        np.testing.assert_allclose(flat(updated.params)[key], value - 1e-2 * np.sign(climbed), rtol=1e-5)
        np.testing.assert_allclose(flat(updated.gradient)[key], gradient[key], rtol=1e-6)
    assert len(asked) == 2


def test_schedule_free_equals_the_recursion_of_its_paper():
    """Defazio et al. 2024, algorithm 1: the gradient is taken at y, z steps, and x, the model, averages."""
    rng = np.random.default_rng(4)
    start, curvature = random_leaves(rng), jax.tree.map(np.abs, random_leaves(rng))
    optim = OptimConfig("schedule_free", weight_decay=0.1, clip_norm=0.0)
    schedule = make_schedule(ScheduleConfig("wsd", warmup_fraction=0.5, decay_fraction=0.0), 1e-2, 8)
    rule = make_update_rule(optim, schedule, TwoLeaves())
    params = jax.tree.map(jnp.float32, start)
    state = rule.init(params)
    x, z = flat(start), flat(start)
    square, weights = {"w": 0.0, "a_log": 0.0}, 0.0
    for t in range(1, 7):
        params, state, _, _ = rule.update(quadratic(curvature), params, state)
        rate = 1e-2 * min(1.0, t / 4)
        weights += rate**2
        share = rate**2 / weights
        for key in x:
            y = 0.9 * x[key] + 0.1 * z[key]
            grad = flat(curvature)[key] * y
            square[key] = 0.95 * square[key] + 0.05 * grad**2
            step = grad / (np.sqrt(square[key] / (1 - 0.95**t)) + 1e-8) + (0.1 * y if DECAYED[key] else 0.0)
            z[key] = z[key] - rate * step
            x[key] = (1 - share) * x[key] + share * z[key]
        for key in x:
            np.testing.assert_allclose(flat(params)[key], x[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        (OptimConfig(beta2=1.5), r"optim\.beta2: 1\.5 is out of range"),
        (OptimConfig(muon_momentum=0.9), r"optim\.muon_momentum: 0\.9 has no effect with optim\.name='adamw'"),
        (OptimConfig("muon", mup_base_width=64), r"optim\.mup_base_width: 64 has no effect .* or use adamw or adam_l2"),
        (OptimConfig("schedule_free", sam_radius=0.1), r"optim\.sam_radius: 0\.1 has no effect"),
        (OptimConfig("schedule_free", beta1=0.0), r"optim\.beta1: 0 gives schedule_free no average"),
    ],
)
def test_settings_that_an_optimiser_does_not_have_are_refused(optim, message):
    with pytest.raises(LosslineError, match=message):
        make_update_rule(optim, optax.constant_schedule(1.0), TwoLeaves())
