"""Map the tensors of a Hugging Face checkpoint to the leaves of lossline's params, in both directions.

A tensor belongs to the Hugging Face checkpoint, and a leaf belongs to lossline.
A linear layer is [out, in] in PyTorch and [in, out] in lossline. A leaf of lossline has separate axes for heads, groups
and halves. It also stacks the layers on axis 0, but the functions of a group see one layer without that axis.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from lossline_jax.weights.huggingface.fields import Fields

Arrays = tuple[np.ndarray, ...]
Shape = tuple[int, ...]
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class TensorGroup:
    """A set of Hugging Face tensors and a set of lossline leaves that hold the same numbers."""

    tensor_names: tuple[str, ...]  # names of tensors; `{layer}` in a name: each layer has its own tensor
    leaf_paths: tuple[str, ...]  # paths in the params tree; `blocks/...`: a leaf with a layer axis
    to_leaves: Callable[..., Arrays]  # from the arrays of `tensor_names`, in order, to the arrays of `leaf_paths`
    to_tensors: Callable[..., Arrays]  # the inverse of `to_leaves`

    @property
    def per_layer(self) -> bool:
        """True if each layer has its own tensors, False if the model has them once."""
        return "{layer}" in self.tensor_names[0]


@dataclass(frozen=True)
class HFArchitecture(Generic[ConfigT]):
    """A Hugging Face `model_type`: its config.json, its tensors, and their form in lossline."""

    model_type: str  # the field `model_type` of config.json
    class_name: str  # the class of transformers, in the field `architectures` of config.json
    config_class: type[ConfigT]  # the model config of lossline
    read: Callable[[Fields], ConfigT]  # from config.json to a `config_class`
    write: Callable[[ConfigT], dict[str, Any]]  # from a `config_class` to the fields of config.json
    groups: Callable[[ConfigT], tuple[TensorGroup, ...]]  # from a `config_class` to all tensors of the model
    embedding: str  # name of the embedding tensor, which a tied `head` repeats
    head: str  # name of the output tensor
    context_field: str | None = None  # the field of config.json with the context length. None: it has none
    renames: tuple[tuple[str, str], ...] = ()  # patterns for names in older files, with their replacements
    buffers: tuple[str, ...] = ()  # patterns for names of tensors that are not weights

    def canonical(self, name: str) -> str | None:
        """Return the name that `groups` uses for a tensor of a file. None: the tensor is a buffer."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return None if any(re.search(pattern, name) for pattern in self.buffers) else name


def same(tensor_name: str, leaf_path: str) -> TensorGroup:
    """Return the group of a tensor that is the same in both checkpoints."""
    return TensorGroup((tensor_name,), (leaf_path,), lambda tensor: (tensor,), lambda leaf: (leaf,))


def reshaped(tensor_name: str, leaf_path: str, leaf_shape: Shape, tensor_shape: Shape) -> TensorGroup:
    """Return the group of a tensor that has another shape but the same order of numbers.

    Args:
        tensor_name: name of the tensor.
        leaf_path: path of the leaf.
        leaf_shape: shape of the leaf.
        tensor_shape: shape of the tensor.
    """
    return TensorGroup(
        (tensor_name,),
        (leaf_path,),
        lambda tensor: (tensor.reshape(leaf_shape),),
        lambda leaf: (leaf.reshape(tensor_shape),),
    )


def transposed(tensor_name: str, leaf_path: str) -> TensorGroup:
    """Return the group of a matrix that is transposed."""
    return TensorGroup((tensor_name,), (leaf_path,), lambda tensor: (tensor.T,), lambda leaf: (leaf.T,))


def linear_group(tensor_name: str, leaf_path: str, inputs: Shape, outputs: Shape) -> TensorGroup:
    """Return the group of a linear layer: tensor [out, in], leaf [*inputs, *outputs].

    Args:
        tensor_name: name of the tensor.
        leaf_path: path of the leaf.
        inputs: input axes of the leaf; their product is `in`.
        outputs: output axes of the leaf; their product is `out`.
    """
    tensor_shape = (math.prod(inputs), math.prod(outputs))
    return TensorGroup(
        (tensor_name,),
        (leaf_path,),
        lambda tensor: (tensor.T.reshape(*inputs, *outputs),),
        lambda leaf: (leaf.reshape(tensor_shape).T,),
    )


def linears(tensor_names: tuple[str, ...], leaf_path: str, width: int, outputs: Shape) -> TensorGroup:
    """Return the group of several linear layers with the same input, which lossline keeps in one leaf.

    Args:
        tensor_names: names of the tensors, each [out, width].
        leaf_path: path of the leaf, [width, number of tensors, *outputs].
        width: width of the input.
        outputs: output axes of the leaf; their product is `out`.
    """

    def to_leaves(*tensors: np.ndarray) -> Arrays:
        return (np.stack([tensor.T.reshape(width, *outputs) for tensor in tensors], axis=1),)

    def to_tensors(leaf: np.ndarray) -> Arrays:
        return tuple(leaf[:, k].reshape(width, math.prod(outputs)).T for k in range(len(tensor_names)))

    return TensorGroup(tensor_names, (leaf_path,), to_leaves, to_tensors)


def depthwise_conv(tensor_name: str, leaf_path: str) -> TensorGroup:
    """Return the group of a depthwise convolution: tensor [channels, 1, width], leaf [width, channels]."""
    return TensorGroup((tensor_name,), (leaf_path,), lambda tensor: (tensor[:, 0].T,), lambda leaf: (leaf.T[:, None],))
