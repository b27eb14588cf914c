"""Refuse optimiser settings that cannot be combined. This module does not import jax."""

import dataclasses

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, ModelConfig
from lossline_jax.config.ranges import check_ranges
from lossline_jax.config.training import OptimConfig
from lossline_jax.errors import LosslineError

# Settings that belong to some optimisers alone. With another one they would change the identity of a run, and nothing
# else, so a study would seem to compare two optimisers.
_OPTIMISERS_OF = {
    "eps": ("adamw", "adam_l2", "muon", "schedule_free"),
    "muon_momentum": ("muon",),
    "sam_radius": ("adamw", "adam_l2", "lion", "muon"),
    "mup_base_width": ("adamw", "adam_l2", "lion"),
}


def check_optimiser(optim: OptimConfig) -> None:
    """Refuse a number that is out of its range, and a setting that the optimiser does not have.

    Args:
        optim: the config.

    Raises:
        LosslineError: the message names the field and the fix.
    """
    check_ranges(optim, "optim")
    for setting in dataclasses.fields(optim):
        value, names = getattr(optim, setting.name), _OPTIMISERS_OF.get(setting.name, (optim.name,))
        if value != setting.default and optim.name not in names:
            raise LosslineError(
                f"optim.{setting.name}: {value} has no effect with optim.name={optim.name!r}; leave it at "
                f"{setting.default}, or use {' or '.join(names)}"
            )
    if optim.name == "schedule_free" and optim.beta1 == 0:
        raise LosslineError(
            "optim.beta1: 0 gives schedule_free no average to score; give a number above 0, such as 0.9"
        )


def check_width_rates(model: ModelConfig) -> None:
    """Refuse a model whose rates `OptimConfig.mup_base_width` cannot set.

    Args:
        model: the model that is trained.

    Raises:
        LosslineError: the message names the field and the fix.
    """
    if model.tied_embeddings or isinstance(model, (GPT2Config, GPTNeoXConfig)):
        raise LosslineError(
            "optim.mup_base_width: needs matrices that begin with the variance 1 / width, and an unembedding of its "
            "own; leave it out, or use LlamaConfig, Mamba2Config or MambaConfig with tied_embeddings=False"
        )
