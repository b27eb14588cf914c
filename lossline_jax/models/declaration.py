"""Declare every parameter of a model, without jax."""

from lossline_jax.config.model import ModelConfig
from lossline_jax.models.architectures import architecture_of
from lossline_jax.models.parameters import Declaration, Normal, ParameterSpec, stack_layers

_UNSPLIT_AXES = (None, "layers", "head_dim", "state")  # axes that no mesh splits


def declare_model(config: ModelConfig, vocab_size: int) -> Declaration:
    """Declare every parameter of a model. `blocks` has the layers, stacked on axis 0."""
    block = architecture_of(config).block_parameters(config)
    declaration = {**declare_outer(config, vocab_size), "blocks": stack_layers(block, config.num_layers)}
    if not config.tied_embeddings:
        d = config.d_model
        declaration["unembed"] = ParameterSpec((d, vocab_size), ("embed", "vocab"), Normal(d**-0.5), num_contracted=1)
    return declaration


def declare_outer(config: ModelConfig, vocab_size: int) -> Declaration:
    """Declare the parameters outside the blocks, except the unembedding."""
    return architecture_of(config).outer_parameters(config, vocab_size)


def split_dimensions(config: ModelConfig, vocab_size: int) -> dict[str, int]:
    """Return the sizes of the axes that a mesh may split, by logical name (`layout.PARAMETER_RULES`)."""
    declaration = declare_model(config, vocab_size)
    leaves = [*declaration.pop("blocks").values(), *declaration.values()]
    sizes = {name: size for leaf in leaves for name, size in zip(leaf.axes, leaf.shape, strict=True)}
    return {name: size for name, size in sizes.items() if name not in _UNSPLIT_AXES}
