"""Save lossline params as a Hugging Face folder that transformers loads."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from etils import epath

from lossline_jax.errors import LosslineError, install_hint
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.storage.disk import cannot_write
from lossline_jax.weights.huggingface.configs import config_json, hf_architecture_of
from lossline_jax.weights.huggingface.files import INDEX, SINGLE, local_folder
from lossline_jax.weights.huggingface.mapping import TensorGroup
from lossline_jax.weights.huggingface.shapes import all_tensor_shapes, flat_params, leaf_shapes
from lossline_jax.weights.huggingface.tokenizer_files import tokenizer_config_json

_METADATA = {"format": "pt"}  # transformers requires this entry


def save_pretrained(  # noqa: PLR0913 (each parameter is one part of the folder, and six have defaults)
    folder: epath.PathLike,
    model: Model,
    params: Params,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    context_length: int | None = None,
    tokenizer_json: bytes | None = None,
    bos_id: int | None = None,
    eos_id: int | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write config.json, the weights as safetensors (shards and an index if they are large), and the tokenizer.

    The folder appears complete or not at all. Besides the params, memory holds at most one shard.

    Args:
        folder: the folder to write. It must be missing or empty.
        model: the model of the params.
        params: float32 params on any devices of this process. A model that rounds its weights writes the rounded ones.
        dtype: dtype of the weights in the file.
        context_length: training context in tokens, written if the architecture has a field for it. None: not written.
        tokenizer_json: content of the tokenizer.json. None: no tokenizer is written.
        bos_id: the token that begins a text. None: the tokenizer has no such token.
        eos_id: the token that ends a text. None: the tokenizer has no such token.
        max_shard_bytes: largest size of a file in bytes, unless a single tensor is larger. 5 GB by default.

    Raises:
        LosslineError: the folder is not empty or cannot be written, the params do not match the model, or
            transformers cannot express the model.
    """
    root = local_folder(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise LosslineError(f"{root}: is there already and not an empty folder; choose another one or delete it")
    _check_params(model, params)
    model, params = model.with_rounded_weights(params)
    config = config_json(model.config, model.vocab_size)
    context_field = hf_architecture_of(model.config).context_field
    if context_length is not None and context_field is not None:
        config.setdefault(context_field, context_length)
    # Written even if a token is None, because transformers would otherwise use the default ids of its class.
    tokens = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": None}
    with _appearing(root) as part:
        _write_json(part / "config.json", {**config, **tokens, "torch_dtype": dtype})
        _write_weights(part, model, params, dtype=np.dtype(jnp.dtype(dtype)), max_shard_bytes=max_shard_bytes)
        if tokenizer_json is not None:
            (part / "tokenizer.json").write_bytes(tokenizer_json)
            _write_json(part / "tokenizer_config.json", tokenizer_config_json(tokenizer_json, bos_id, eos_id))


@contextlib.contextmanager
def _appearing(root: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `root`. It is renamed to `root` at the end, or deleted after an error."""
    part = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        part.mkdir(parents=True)
        yield part
        os.replace(part, root)
    except OSError as error:
        raise LosslineError(f"{root}: {cannot_write(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_params(model: Model, params: Params) -> None:
    expected, given = leaf_shapes(model), {path: leaf.shape for path, leaf in flat_params(params).items()}
    for path in sorted(expected.keys() | given.keys()):
        if expected.get(path) != given.get(path):
            raise LosslineError(f"params: leaf {path} has shape {given.get(path)}, expected {expected.get(path)}")


def _write_weights(part: Path, model: Model, params: Params, *, dtype: np.dtype, max_shard_bytes: int) -> None:
    sizes = {name: int(np.prod(shape)) * dtype.itemsize for name, shape in all_tensor_shapes(model).items()}
    shards = _plan(sizes, max_shard_bytes)
    file_names = [SINGLE]
    if len(shards) > 1:
        file_names = [f"model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
    tensors = _Tensors(model, params, dtype)
    for file_name, names in zip(file_names, shards, strict=True):
        _write_file(part / file_name, {name: tensors.make(name) for name in names})
    if len(shards) > 1:
        weight_map = {name: file for file, names in zip(file_names, shards, strict=True) for name in names}
        _write_json(part / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _write_file(path: Path, tensors: dict[str, np.ndarray]) -> None:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as error:
        raise LosslineError(f"{path}: needs safetensors: {install_hint('hf')}") from error
    try:
        save_file(tensors, path, metadata=_METADATA)
    except SafetensorError as error:  # safetensors raises it for a full disk too
        raise OSError(str(error)) from error


def _plan(sizes: Mapping[str, int], max_shard_bytes: int) -> list[list[str]]:
    """Cut the names, in their order, into shards of at most `max_shard_bytes`."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > max_shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


class _Tensors:
    """A maker of Hugging Face tensors from lossline params, one tensor at a time."""

    def __init__(self, model: Model, params: Params, dtype: np.dtype) -> None:
        self._leaves = flat_params(params)
        self._dtype = dtype
        self._makers: dict[str, tuple[TensorGroup, int | None, int]] = {}
        for group in hf_architecture_of(model.config).groups(model.config):
            for layer in range(model.config.num_layers) if group.per_layer else [None]:
                for index, name in enumerate(group.tensor_names):
                    self._makers[name.format(layer=layer)] = (group, layer, index)

    def make(self, name: str) -> np.ndarray:
        group, layer, index = self._makers[name]
        leaves = [self._leaves[path] for path in group.leaf_paths]
        arrays = [np.asarray(leaf if layer is None else leaf[layer]) for leaf in leaves]
        return np.ascontiguousarray(group.to_tensors(*arrays)[index].astype(self._dtype))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
