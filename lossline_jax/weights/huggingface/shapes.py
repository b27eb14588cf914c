"""Return the shapes of a model's lossline leaves and Hugging Face tensors, both from the model's own declaration."""

from typing import Any

import jax
import numpy as np

from lossline_jax.models.model import Model
from lossline_jax.weights.huggingface.configs import hf_architecture_of

Shapes = dict[str, tuple[int, ...]]


def flat_params(tree: Any) -> dict[str, Any]:
    """Return a params tree as a flat mapping from path to leaf, such as `{"blocks/q": leaf}`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def leaf_shapes(model: Model) -> Shapes:
    """Return the shapes of the model's leaves by path."""
    return {path: leaf.shape for path, leaf in flat_params(jax.eval_shape(model.init, jax.random.key(0))).items()}


def all_tensor_shapes(model: Model) -> Shapes:
    """Return the shapes of the Hugging Face tensors by name, in the order in which a file has them: layer by layer."""
    leaves = leaf_shapes(model)
    once: Shapes = {}
    by_layer: list[Shapes] = [{} for _ in range(model.config.num_layers)]
    for group in hf_architecture_of(model.config).groups(model.config):
        shapes = [leaves[path][1:] if group.per_layer else leaves[path] for path in group.leaf_paths]
        # The transform that writes the tensors gives their shapes. A broadcast zero takes no memory.
        tensors = group.to_tensors(*(np.broadcast_to(np.float32(0), shape) for shape in shapes))
        for name, tensor in zip(group.tensor_names, tensors, strict=True):
            if not group.per_layer:
                once[name] = tensor.shape
                continue
            for layer, named in enumerate(by_layer):
                named[name.format(layer=layer)] = tensor.shape
    return {**once, **{name: shape for named in by_layer for name, shape in named.items()}}
