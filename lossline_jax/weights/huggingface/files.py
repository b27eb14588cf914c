"""Read the tensors in the safetensors files of a folder, one tensor at a time.

The folder has a single file, or shards with an index.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from lossline_jax.errors import LosslineError, install_hint
from lossline_jax.storage.files import is_remote, path_inside
from lossline_jax.weights.huggingface.fields import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = ("F32", "BF16", "F16")
# From the name of a tensor in a file to the name of the tensor in `Tensors`. None: the tensor is ignored.
Canonical = Callable[[str], str | None]
_OLD_FORMATS = ("*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.gguf")


class Tensors:
    """A reader of the tensors of a folder under the canonical names of their architecture."""

    def __init__(self, opened: dict[str, Any], naming: Callable[[Collection[str]], Canonical]) -> None:
        """Map the canonical name of every tensor to the open file with the tensor.

        Args:
            opened: the open safetensors files by file name.
            naming: from the names of all tensors in the files to the function that gives canonical names.
        """
        self._places: dict[str, tuple[str, Any, str]] = {}
        self.originals = frozenset(name for file in opened.values() for name in file.keys())  # noqa: SIM118
        canonical = naming(self.originals)
        for file_name, file in opened.items():
            for original in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                name = canonical(original)
                if name is None:
                    continue
                if name in self._places:
                    raise LosslineError(
                        f"{file_name}: tensor {original} is there twice, as {self._places[name][2]} too"
                    )
                self._places[name] = (file_name, file, original)

    def names(self) -> set[str]:
        """Return the canonical names of all tensors."""
        return set(self._places)

    def where(self, name: str) -> str:
        """Return the file and the original name of a tensor, for messages."""
        file_name, _, original = self._places[name]
        return f"{file_name}: tensor {original}"

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise LosslineError unless the tensor has this shape and a supported float type. Only the header is read."""
        _, file, original = self._places[name]
        header = file.get_slice(original)
        if tuple(header.get_shape()) != shape:
            raise LosslineError(
                f"{self.where(name)} has shape {list(header.get_shape())}, expected {list(shape)} by config.json"
            )
        if header.get_dtype() not in _DTYPES:
            raise LosslineError(f"{self.where(name)} has type {header.get_dtype()}, expected one of {list(_DTYPES)}")

    def read(self, name: str) -> np.ndarray:
        """Return the numbers of a tensor in the dtype of the file. The dtype bfloat16 is that of ml_dtypes."""
        _, file, original = self._places[name]
        return file.get_tensor(original)


@contextlib.contextmanager
def open_tensors(folder: epath.PathLike, naming: Callable[[Collection[str]], Canonical]) -> Iterator[Tensors]:
    """Open the tensors of `model.safetensors`, or of the shards that `model.safetensors.index.json` names.

    Args:
        folder: a folder on a local disk.
        naming: from the names of all tensors in the files to the function that gives canonical names.

    Yields:
        The tensors. The files are closed when the context ends.

    Raises:
        LosslineError: the files are missing or damaged, or the index does not match its shards.
    """
    root = local_folder(folder)
    weight_map = _weight_map(root)
    with contextlib.ExitStack() as stack:
        opened = {
            str(root / name): stack.enter_context(_open(root / name)) for name in sorted(set(weight_map.values()))
        }
        present = {str(root / name): set(opened[str(root / name)].keys()) for name in set(weight_map.values())}
        for tensor, name in weight_map.items():
            if tensor and tensor not in present[str(root / name)]:
                raise LosslineError(f"{root / INDEX}: tensor {tensor} is not in {name}; download the folder again")
        yield Tensors(opened, naming)


def local_folder(folder: epath.PathLike) -> Path:
    """Return the folder as a path on a local disk, which safetensors needs.

    Args:
        folder: a folder of weights.

    Raises:
        LosslineError: the folder is in an object store.
    """
    if is_remote(epath.Path(folder)):
        raise LosslineError(f"{folder}: Hugging Face folders are read and written on a local disk; copy it there")
    return Path(os.fspath(folder))


def _weight_map(root: Path) -> dict[str, str]:
    """Return the index, a mapping from tensor name to file name. A single file is under the empty name."""
    if (root / SINGLE).exists():
        return {"": SINGLE}
    if (root / INDEX).exists():
        weight_map = read_object(epath.Path(root / INDEX)).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise LosslineError(f"{root / INDEX}: no weight_map in it; download the folder again")
        for name in weight_map.values():
            path_inside(epath.Path(root), name, epath.Path(root / INDEX))
        return weight_map
    old = sorted(path.name for pattern in _OLD_FORMATS for path in root.glob(pattern))
    if old:
        convert = f"AutoModelForCausalLM.from_pretrained('{root}').save_pretrained('NEW_FOLDER')"
        raise LosslineError(
            f"{root}: no {SINGLE}, only {', '.join(old[:3])}; convert it where torch and transformers are installed: "
            f'python -c "from transformers import AutoModelForCausalLM; {convert}"'
        )
    raise LosslineError(f"{root}: neither {SINGLE} nor {INDEX}; give the folder of a Hugging Face model")


def _open(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise LosslineError(f"{path}: needs safetensors: {install_hint('hf')}") from error
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise LosslineError(f"{path}: no such file, although {INDEX} names it; download the folder again") from error
    except (SafetensorError, OSError) as error:
        message = " ".join(str(error).split())  # the error may quote a damaged header, which may have line breaks
        raise LosslineError(f"{path}: damaged or no safetensors file ({message}); download it again") from error
