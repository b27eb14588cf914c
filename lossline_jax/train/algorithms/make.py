"""Build the training algorithm of a run from its config."""

import dataclasses

import jax
import optax
from jax.sharding import Mesh

from lossline_jax.config import training
from lossline_jax.distributed.sharding import replicated
from lossline_jax.train.algorithms.algorithm import Algorithm
from lossline_jax.train.algorithms.data_parallel import data_parallel
from lossline_jax.train.gradient import Gradient
from lossline_jax.train.optimisers.rule import UpdateRule
from lossline_jax.train.state import TrainState, abstract_array


def make_algorithm(config: training.Algorithm, gradient: Gradient, rule: UpdateRule) -> Algorithm:
    """Return the algorithm of a run.

    Args:
        config: the config of the algorithm.
        gradient: the sums of the loss over the global batch, and their gradient.
        rule: the optimiser.
    """
    if isinstance(config, training.DataParallel):
        return data_parallel(gradient, rule)
    return config.algorithm(gradient, rule)


def with_extra(abstract: TrainState, algorithm: Algorithm, mesh: Mesh) -> TrainState:
    """Return the abstract state with what the algorithm keeps besides parameters and moments.

    A tree in the structure of the parameters has their shardings. Every other array is on all devices.

    Args:
        abstract: the state as `abstract_state` returns it.
        algorithm: the algorithm.
        mesh: the mesh.
    """
    if algorithm.init_extra is None:
        return abstract
    extra = optax.tree.map_params(
        algorithm.init_extra,
        lambda leaf, param: abstract_array(leaf, param.sharding),
        jax.eval_shape(algorithm.init_extra, abstract.params),
        abstract.params,
        transform_non_params=lambda leaf: abstract_array(leaf, replicated(mesh)),
    )
    return dataclasses.replace(abstract, extra=extra)
