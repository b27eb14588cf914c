"""How tensors of a checkpoint and leaves of our parameters hold the same numbers, stated once for both ways.

PyTorch's linear layers are [out, in], ours [in, out]; ours keep heads, groups and halves as axes of their own
and stack the layers on axis 0 (the layer axis is not seen here: a group speaks of one layer).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.config.model import ModelConfig
from lossline_jax.weights.huggingface.fields import Fields

Arrays = tuple[np.ndarray, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorGroup:
    """Tensors of theirs and leaves of ours that are made of each other."""

    theirs: tuple[str, ...]  # names; `{layer}` in them: one a layer
    ours: tuple[str, ...]  # paths in the params tree, `blocks/...` for what is stacked
    to_ours: Callable[..., Arrays]  # arrays of theirs, in order, to arrays of ours
    to_theirs: Callable[..., Arrays]

    @property
    def per_layer(self) -> bool:
        return "{layer}" in self.theirs[0]


@dataclass(frozen=True)
class HFArchitecture:
    """Everything that lossline knows about one `model_type`."""

    model_type: str
    class_name: str  # in `architectures`
    config_class: type
    read: Callable[[Fields], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]  # fields of their config.json that say what ours says
    groups: Callable[[ModelConfig], tuple[TensorGroup, ...]]
    embedding: str  # their name of the tensor that a tied `head` repeats
    head: str
    context_field: str | None = None  # their name of the context length
    renames: tuple[tuple[str, str], ...] = ()  # patterns of names in older files, and what they are now
    buffers: tuple[str, ...] = ()  # patterns of names that hold no weights

    def canonical(self, name: str) -> str | None:
        """The name that `groups` uses for a tensor of a file, or None for a buffer."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return None if any(re.search(pattern, name) for pattern in self.buffers) else name


def same(theirs: str, ours: str) -> TensorGroup:
    """A tensor that is kept as it is."""
    return TensorGroup((theirs,), (ours,), lambda tensor: (tensor,), lambda leaf: (leaf,))


def reshaped(theirs: str, ours: str, shape: Shape, their_shape: Shape) -> TensorGroup:
    """The same numbers in the same order."""
    return TensorGroup(
        (theirs,), (ours,), lambda tensor: (tensor.reshape(shape),), lambda leaf: (leaf.reshape(their_shape),)
    )


def transposed(theirs: str, ours: str) -> TensorGroup:
    """A matrix whose two axes are exchanged."""
    return TensorGroup((theirs,), (ours,), lambda tensor: (tensor.T,), lambda leaf: (leaf.T,))


def linear_group(theirs: str, ours: str, inputs: Shape, outputs: Shape) -> TensorGroup:
    """A linear layer, [out, in] there and [*inputs, *outputs] here."""
    their_shape = (math.prod(inputs), math.prod(outputs))
    return TensorGroup(
        (theirs,),
        (ours,),
        lambda tensor: (tensor.T.reshape(*inputs, *outputs),),
        lambda leaf: (leaf.reshape(their_shape).T,),
    )


def linears(theirs: tuple[str, ...], ours: str, width: int, outputs: Shape) -> TensorGroup:
    """Linear layers of one input, here side by side: [width, number of layers, *outputs]."""

    def to_ours(*tensors: np.ndarray) -> Arrays:
        return (np.stack([tensor.T.reshape(width, *outputs) for tensor in tensors], axis=1),)

    def to_theirs(leaf: np.ndarray) -> Arrays:
        return tuple(leaf[:, k].reshape(width, math.prod(outputs)).T for k in range(len(theirs)))

    return TensorGroup(theirs, (ours,), to_ours, to_theirs)


def depthwise_conv(theirs: str, ours: str) -> TensorGroup:
    """A filter a channel, [channels, 1, width] there and [width, channels] here."""
    return TensorGroup((theirs,), (ours,), lambda tensor: (tensor[:, 0].T,), lambda leaf: (leaf.T[:, None],))
