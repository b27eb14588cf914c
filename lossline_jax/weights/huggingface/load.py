"""Load the weights of a Hugging Face folder into lossline params."""

import functools
from typing import Any

import jax
import numpy as np
from etils import epath

from lossline_jax import logs
from lossline_jax.config.model import ModelConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.weights.huggingface.configs import config_json, hf_architecture_of, read_config
from lossline_jax.weights.huggingface.files import Tensors, open_tensors
from lossline_jax.weights.huggingface.mapping import HFArchitecture, TensorGroup
from lossline_jax.weights.huggingface.names import canonical_names, closest, left_out_prefixes
from lossline_jax.weights.huggingface.shapes import Shapes, all_tensor_shapes, flat_params, leaf_shapes

# Fields that may differ, because weights do not depend on them: the chunk size and the range of initial step sizes.
_FREE = ("chunk_size", "time_step_min", "time_step_max")


def load_pretrained_params(folder: epath.PathLike, model: Model, shardings: Any = None) -> Params:
    """Read the weights of `model` from safetensors files, and check every tensor by name and shape.

    Besides the result, memory holds at most one group of leaves: the leaves that one tensor is cut into.

    Args:
        folder: a folder with config.json and model.safetensors, or shards and their index. The weights are float32,
            bfloat16 or float16.
        model: the model of `read_config(folder)`. Its compute dtype and chunk sizes may differ.
        shardings: a tree of shardings with the structure of the params. Each leaf is placed as soon as it is read.
            None: all leaves are on the default device.

    Returns:
        The params of `model`, float32.

    Raises:
        LosslineError: config.json describes another model, or a tensor is missing, unknown or of another shape, or
            a file is damaged. The message names the tensor and the file.
    """
    _check_config(folder, model)
    architecture = hf_architecture_of(model.config)
    placements = None if shardings is None else flat_params(shardings)
    params: dict[str, jax.Array] = {}
    with open_tensors(folder, functools.partial(canonical_names, architecture)) as tensors:
        if prefix := left_out_prefixes(architecture, tensors.originals):
            logs.info(f"note: {folder}: names of tensors are read without {prefix}")
        if model.config.num_layers > len(tensors.originals):  # checked before memory is used for each layer
            raise LosslineError(
                f"{folder}/config.json: says {model.config.num_layers} layers, and the folder has "
                f"{len(tensors.originals)} tensors"
            )
        leaves, tensor_shapes = _shapes(model, str(folder))
        _check_tensors(tensors, architecture, model.config, expected=tensor_shapes, folder=str(folder))
        for group in architecture.groups(model.config):
            for path, leaf in _assemble(group, leaves, tensors, model.config.num_layers).items():
                params[path] = jax.device_put(leaf, None if placements is None else placements[path])
        _check_tied_head(tensors, architecture, model.config)
    return _nested(params)


def _check_config(folder: epath.PathLike, model: Model) -> None:
    file_config = read_config(folder)
    in_file = config_json(file_config.config, file_config.vocab_size)
    in_model = config_json(model.config, model.vocab_size)
    for name in sorted(in_file.keys() | in_model.keys()):
        if name not in _FREE and in_file.get(name) != in_model.get(name):
            raise LosslineError(
                f"{folder}/config.json: field {name}={in_file.get(name)!r}, but the model to be filled has "
                f"{name}={in_model.get(name)!r}"
            )


def _shapes(model: Model, folder: str) -> tuple[Shapes, Shapes]:
    try:
        return leaf_shapes(model), all_tensor_shapes(model)
    except (ValueError, OverflowError) as error:
        raise LosslineError(f"{folder}/config.json: its sizes make arrays that no memory holds ({error})") from error


def _check_tensors(
    tensors: Tensors,
    architecture: HFArchitecture,
    config: ModelConfig,
    *,
    expected: dict[str, tuple[int, ...]],
    folder: str,
) -> None:
    names = tensors.names()
    missing = [name for name in expected if name not in names]
    if missing:
        hint = _hint(missing[0], tensors, names - expected.keys() or names, architecture)
        raise LosslineError(
            f"{folder}: tensor {missing[0]} is missing, expected of shape {list(expected[missing[0]])}"
            f"{_and_more(missing)}{hint}"
        )
    repeated = {architecture.head} if config.tied_embeddings else set()
    unexpected = sorted(names - expected.keys() - repeated)
    if unexpected:
        raise LosslineError(
            f"{tensors.where(unexpected[0])} is unexpected: {architecture.class_name} with this config.json has none "
            f"of that name{_and_more(unexpected)}"
        )
    for name, shape in expected.items():
        tensors.check(name, shape)


def _hint(missing: str, tensors: Tensors, candidates: set[str], architecture: HFArchitecture) -> str:
    if missing == architecture.head:
        return "; set tie_word_embeddings to true in config.json if the output repeats the embedding"
    if any(".lora_" in name for name in tensors.originals):
        return "; the file holds an adapter: merge it into the model first (`merge_and_unload` of peft)"
    like = closest(missing, candidates)
    if like is None:
        return "; the file has no tensors of a model"
    return f"; most like it is {tensors.where(like).rpartition(' ')[2]}: rename the tensors to what config.json says"


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _assemble(
    group: TensorGroup, leaves: dict[str, tuple[int, ...]], tensors: Tensors, num_layers: int
) -> dict[str, np.ndarray]:
    """Return the leaves of one group as new arrays."""
    assembled = {path: np.empty(leaves[path], np.float32) for path in group.leaf_paths}
    for layer in range(num_layers if group.per_layer else 1):
        names = [name.format(layer=layer) for name in group.tensor_names]
        try:
            parts = group.to_leaves(*(tensors.read(name) for name in names))
        except ValueError as error:
            raise LosslineError(f"{tensors.where(names[0])} {error}") from error
        for leaf, part in zip(assembled.values(), parts, strict=True):
            (leaf[layer] if group.per_layer else leaf)[...] = part
    return assembled


def _check_tied_head(tensors: Tensors, architecture: HFArchitecture, config: ModelConfig) -> None:
    """Check that a head tensor equals the tied embedding. Other weights under that name would be lost."""
    if not config.tied_embeddings or architecture.head not in tensors.names():
        return
    if not np.array_equal(tensors.read(architecture.head), tensors.read(architecture.embedding)):
        raise LosslineError(
            f"{tensors.where(architecture.head)} differs from {architecture.embedding}, although config.json says "
            "tie_word_embeddings=true; set that to false there to keep both"
        )


def _nested(flat: dict[str, Any]) -> Params:
    tree: Params = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree
