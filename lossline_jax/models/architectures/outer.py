"""The parameters outside the blocks."""

from lossline_jax.config.model import ModelConfig
from lossline_jax.models.parameters import Constant, Declaration, Normal, ParameterSpec


def embedding_and_norm(config: ModelConfig, vocab_size: int, sigma: float) -> Declaration:
    """Declare the embedding, with the initial standard deviation `sigma`, and the scale of the final norm."""
    return {
        "embed": ParameterSpec((vocab_size, config.d_model), ("vocab", "embed"), Normal(sigma)),
        "final_norm": ParameterSpec((config.d_model,), ("embed",), Constant(1.0)),
    }
