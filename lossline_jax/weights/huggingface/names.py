"""Names of tensors under a prefix: what torch.compile, DDP, FSDP, PEFT and trainers put before those of a model.

A prefix is left out where it cannot be mistaken: the embedding stands under it, and under no other. Each tensor must
then still fit by name and shape, and none may be left over, so that nothing else passes for the model.
"""

import re
from collections.abc import Callable, Collection

from lossline_jax.weights.huggingface.mapping import HFArchitecture

# torch puts these before any module that it compiles or shards
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def tensor_prefix(architecture: HFArchitecture, names: Collection[str]) -> str:
    """Return the prefix of the model's tensor names, as `module.`; empty where there is none or it is unclear."""
    prefixes = {_before_embedding(architecture, _unwrapped(name)) for name in names} - {None}
    return prefixes.pop() if len(prefixes) == 1 else ""


def canonical_names(architecture: HFArchitecture, names: Collection[str]) -> Callable[[str], str | None]:
    """From a name in a file to that of `architecture.groups`, or None for a buffer.

    Args:
        names: of all tensors in the files.
    """
    prefix = tensor_prefix(architecture, names)
    return lambda name: architecture.canonical(_unwrapped(name).removeprefix(prefix))


def left_out_prefixes(architecture: HFArchitecture, names: Collection[str]) -> str:
    """List for a message the parts of the names that are left out; empty where there are none."""
    wrappers = {match[0] for name in names for match in _WRAPPERS.finditer(name)}
    return ", ".join(sorted(wrappers | {tensor_prefix(architecture, names)} - {""}))


def closest(name: str, names: Collection[str]) -> str | None:
    """The tensor of a file that shares the longest end with one that is missing; None where the file has none."""
    parts = name.split(".")
    for place in range(len(parts)):
        if alike := [each for each in names if f".{each}".endswith("." + ".".join(parts[place:]))]:
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
