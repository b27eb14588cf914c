"""Remove the prefixes that torch.compile, DDP, FSDP, PEFT and trainers put before a model's tensor names.

A prefix is removed only if it is unambiguous: the embedding has this prefix and no other. Every tensor must still fit
by name and shape, and no tensor may remain, so that no other content is taken for the model.
"""

import re
from collections.abc import Callable, Collection

from lossline_jax.weights.huggingface.mapping import HFArchitecture

# torch puts these before the name of a module that it compiles or shards.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def tensor_prefix(architecture: HFArchitecture, names: Collection[str]) -> str:
    """Return the prefix of the model's tensor names, such as `module.`, or "" if it is missing or ambiguous.

    Args:
        architecture: the architecture of the model.
        names: the names of all tensors in the files.
    """
    candidates = (_before_embedding(architecture, _unwrapped(name)) for name in names)
    prefixes = {prefix for prefix in candidates if prefix is not None}
    return prefixes.pop() if len(prefixes) == 1 else ""


def canonical_names(architecture: HFArchitecture, names: Collection[str]) -> Callable[[str], str | None]:
    """Return the function from a name in a file to its name in `architecture.groups`, or to None for a buffer.

    Args:
        architecture: the architecture of the model.
        names: the names of all tensors in the files.
    """
    prefix = tensor_prefix(architecture, names)
    return lambda name: architecture.canonical(_unwrapped(name).removeprefix(prefix))


def left_out_prefixes(architecture: HFArchitecture, names: Collection[str]) -> str:
    """Return the removed prefixes as text for a message, or "" if there are none.

    Args:
        architecture: the architecture of the model.
        names: the names of all tensors in the files.
    """
    wrappers = {match[0] for name in names for match in _WRAPPERS.finditer(name)}
    return ", ".join(sorted(wrappers | {tensor_prefix(architecture, names)} - {""}))


def closest(name: str, names: Collection[str]) -> str | None:
    """Return the tensor of a file whose name shares the longest end with a missing tensor. None: there is no tensor.

    Args:
        name: the name of the missing tensor.
        names: the names to choose from.
    """
    parts = name.split(".")
    for place in range(len(parts)):
        if alike := [candidate for candidate in names if f".{candidate}".endswith("." + ".".join(parts[place:]))]:
            return min(alike)
    return min(names, default=None)


def _unwrapped(name: str) -> str:
    return _WRAPPERS.sub("", name)


def _before_embedding(architecture: HFArchitecture, name: str) -> str | None:
    """Return the prefix of the embedding's name. None: this tensor is not the embedding."""
    parts = name.split(".")
    for place in range(len(parts)):
        if architecture.canonical(".".join(parts[place:])) == architecture.embedding:
            return "".join(f"{part}." for part in parts[:place])
    return None
