"""The coordinate check of muP (Yang et al. 2022, arXiv 2203.03466): steps change wide and narrow models alike."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lossline_jax.config.model import GPT2Config, LlamaConfig
from lossline_jax.config.training import OptimConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.train.optimisers.make import make_update_rule

WIDTHS = (128, 256, 512)
STEPS = 5
VOCAB = 64


def change_of_activations(width, optim):
    """Return the root mean square by which steps of training change the last hidden states and the logits."""
    model = build_model(LlamaConfig(d_model=width, num_layers=2, num_heads=width // 16), VOCAB)
    tokens_BT = jax.random.randint(jax.random.key(1), (8, 17), 0, VOCAB)
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    rule = make_update_rule(dataclasses.replace(optim, clip_norm=0.0, weight_decay=0.0), lambda _: 1e-4, model)
    gradient_at = jax.value_and_grad(lambda params: jnp.mean(model.nll(params, inputs_BT, targets_BT)))

    @jax.jit
    def train(params):
        opt_state = rule.init(params)
        for _ in range(STEPS):
            updated = rule.update(gradient_at, params, opt_state)
            params, opt_state = updated.params, updated.opt_state
        return params

    def activations(params):
        return model.hidden_states(params, inputs_BT), model.logits(params, inputs_BT)

    before = rule.begin(model.init(jax.random.key(0)))
    changes = optax.tree.sub(activations(train(before)), activations(before))
    return [float(jnp.sqrt(jnp.mean(jnp.square(change)))) for change in changes]


@pytest.mark.slow
def test_activations_change_alike_at_every_width_with_mup_and_more_at_larger_widths_without():
    """Powers of the width by which the change grows from one width to the next: 0 with muP in the limit, 1 without."""

    def powers(base_width):
        optim = OptimConfig(mup_base_width=base_width)
        changes = np.array([change_of_activations(width, optim) for width in WIDTHS])
        return np.diff(np.log2(changes), axis=0)

    hidden, logits = powers(32).T
    assert np.all(np.abs(hidden) < 0.15)
    assert np.all(np.abs(logits) < 0.4)
    assert abs(logits[1]) < abs(logits[0])  # it approaches its limit
    assert np.all(powers(None)[-1] > 0.6)


def test_the_model_of_the_base_width_is_trained_as_without_mup():
    model = build_model(LlamaConfig(d_model=32, num_layers=1, num_heads=2), VOCAB)
    before = model.init(jax.random.key(0))
    gradient = jax.tree.map(lambda leaf: jnp.cos(leaf + 1), before)
    after = []
    for base_width in (None, 32):
        rule = make_update_rule(OptimConfig(mup_base_width=base_width), lambda _: 1e-2, model)
        params = rule.begin(before)
        after.append(rule.update(lambda _: (None, gradient), params, rule.init(params)).params)
    jax.tree.map(np.testing.assert_array_equal, *after)


@pytest.mark.parametrize("config", [GPT2Config(), LlamaConfig(tied_embeddings=True)])
def test_models_whose_rates_it_cannot_set_are_refused(config):
    with pytest.raises(LosslineError, match=r"optim\.mup_base_width: needs matrices that begin with"):
        make_update_rule(OptimConfig(mup_base_width=32), lambda _: 1e-2, build_model(config, VOCAB))
