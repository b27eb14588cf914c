"""Schedules equal their closed forms, and optimiser steps equal numpy."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError
from lossline_jax.train.optimiser import make_optimiser, make_schedule, schedule_steps


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
    with pytest.raises(LosslineError, match=r"optim\.beta2"):
        make_optimiser(OptimConfig(beta2=1.5), optax.constant_schedule(1.0), True)


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


@pytest.mark.parametrize("name", ["adamw", "adam_l2"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.7])
def test_three_optimiser_steps_equal_numpy(name, clip_norm):
    rng = np.random.default_rng(0)
    optim = OptimConfig(name, weight_decay=0.1, clip_norm=clip_norm)
    params = {"w": rng.normal(size=(3, 2)), "a_log": rng.normal(size=(4,))}
    gradients = [{k: rng.normal(size=p.shape) for k, p in params.items()} for _ in range(3)]
    decayed = {"w": True, "a_log": False}
    schedule = make_schedule(ScheduleConfig(warmup_fraction=0.5), 1e-2, 4)
    optimiser = make_optimiser(optim, schedule, decayed)
    updated = {k: jnp.asarray(p, jnp.float32) for k, p in params.items()}
    state = optimiser.init(updated)
    for grads in gradients:
        grads = {k: jnp.asarray(g, jnp.float32) for k, g in grads.items()}
        updates, state = optimiser.update(grads, state, updated)
        updated = optax.apply_updates(updated, updates)
    rates = [closed_form(ScheduleConfig(warmup_fraction=0.5), 1e-2, 4, step) for step in (1, 2, 3)]
    expected = numpy_steps(optim, params, gradients, decayed, rates)
    for key in params:
        np.testing.assert_allclose(updated[key], expected[key], rtol=2e-5, atol=1e-6)
