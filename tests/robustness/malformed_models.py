"""Damage files of models, tokenizers and tasks from a seed. Each is read, or refused in one line."""

import copy
import itertools
import json
import random
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from lossline_jax.config.data import HuggingFaceTokenizer, SentencePieceFile
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig
from lossline_jax.data.tokenizers.build import BytesTokenizer, prepare_tokenizer
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.evaluate.tokenised_set import tokenise_items
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from tests.robustness.outcomes import Case, attempt
from tests.support.huggingface_stand_ins import SMALL, write_small
from tests.support.prefix_tokenizers import JSON_KINDS, SENTENCEPIECE_KINDS, normalising_model

Spoil = Callable[[bytes, random.Random], tuple[bytes, str]]
NUMBERS = [-1, 0, 1, 2, 3, 2**31, 2**63, 10**30, 10**400, -0.0, 0.5, 1e30, 1e-300]
NASTY = [None, True, False, float("inf"), float("-inf"), float("nan"), "", "x", "\0", "\ud800", "\u2581", "a b\n"]
NASTY += [[], [[]], {}, {"a": 1}, {"__float__": "x"}, [1, 2], "Sequence", {"type": "Sequence"}, *NUMBERS]
TEXT = "The capital of Fra nce 12\n\n é e\u0301 \u2581 数 😀 <s>"
ROWS = [
    {"context": "The capital of France is", "choices": [" Paris", " Vienna"], "gold": 0},
    {"context": "The capital of Aus", "choices": ["tria", "tralia"], "gold": 1},
    {"partial_contexts": ["He", "She"], "continuation": " was there", "gold": 1},
    {"context": "to be or not to", "continuation": "be"},
]


def spoilt_bytes(content, rng):
    """Flip, delete, repeat or zero bytes, or cut the end off. Return the bytes and a name of the change."""
    data, place = bytearray(content), rng.randrange(len(content))
    length = rng.choice([1, 5, 60])
    how = rng.choice(["flip", "flip", "cut", "lose", "repeat", "zero"])
    match how:
        case "flip":
            for _ in range(rng.choice([1, 1, 2, 9])):
                # the beginning and the end hold the structure of a file, so flips there are more frequent
                near = rng.choice([rng.randrange(len(data)), rng.randrange(min(300, len(data))), len(data) - 1])
                data[near] ^= 1 << rng.randrange(8)
        case "cut":
            del data[place:]
        case "lose":
            del data[place : place + length]
        case "repeat":
            data[place:place] = data[place : place + length]
        case "zero":
            data[place : place + length] = bytes(len(data[place : place + length]))
    return bytes(data), f"{how} at {place}"


def spoilt_value(value, rng):
    """Replace, delete or add one member of a JSON value, at any depth. Return the value and a name of the change."""
    changed = copy.deepcopy(value)
    holder, key, path = changed, None, []
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            break
        key = rng.choice(keys)
        path.append(str(key)[:20])
        if not isinstance(holder[key], (dict, list)) or not holder[key] or rng.random() < 0.3:
            break
        holder = holder[key]
    how = rng.choice(["replace", "replace", "replace", "delete", "add"])
    if how == "replace" and key is not None:
        holder[key] = rng.choice(NASTY)
    elif how == "delete" and key is not None:
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(["type", "x", "dropout", "vocab", "gold", "rope_scaling"])] = rng.choice(NASTY)
    else:
        holder.append(rng.choice(NASTY))
    return changed, f"{how} {'.'.join(path)}"


def spoilt_json(content, rng):
    if rng.random() < 0.3:
        return spoilt_bytes(content, rng)
    value, change = spoilt_value(json.loads(content), rng)
    return json.dumps(value).encode("utf-8"), change


def spoilt_lines(content, rng):
    if rng.random() < 0.3:
        return spoilt_bytes(content, rng)
    rows = [json.loads(line) for line in content.decode("utf-8").splitlines()]
    value, change = spoilt_value(rows, rng)
    return "".join(json.dumps(row) + "\n" for row in value).encode("utf-8"), change


def spoilt_tensors(content, rng):
    """Damage the header of a safetensors file, which is JSON after the length of the header."""
    if rng.random() < 0.3:
        return spoilt_bytes(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, change = spoilt_json(content[8 : 8 + length], rng)
    stated = len(header) if rng.random() < 0.8 else rng.choice([0, len(header) + 1, 2**40, 2**63])
    return struct.pack("<Q", stated) + header + content[8 + length :], change


def spoil(name: str, path: Path, spoilt: Spoil, read: Callable[[], object]) -> Iterator[Case]:
    """Yield the cases of endless damaged versions of a file."""
    good = path.read_bytes()
    read()  # the undamaged file must be readable
    for number in itertools.count():
        content, change = spoilt(good, random.Random(f"{name} {number}"))
        path.write_bytes(content)
        yield Case(name, change, *attempt(read)[:2])


def deal(count: int, kinds: list[Iterator[Case]]) -> Iterator[Case]:
    """Yield `count` cases, from each kind in turn."""
    yield from itertools.islice(itertools.chain.from_iterable(zip(*kinds, strict=True)), count)


def configs(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Damage config.json of every architecture."""
    yield from _of_folders(count, seed, folder, "config.json", spoilt_json)


def tensors(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Damage model.safetensors of every architecture."""
    yield from _of_folders(count, seed, folder, "model.safetensors", spoilt_tensors)


def _of_folders(count: int, seed: int, folder: Path, file: str, spoilt: Spoil) -> Iterator[Case]:
    def read(place: Path) -> None:
        hf = read_config(place)
        load_pretrained_params(place, build_model(hf.config, hf.vocab_size))

    kinds = []
    for name in SMALL:
        write_small(name, folder / name)
        kinds.append(spoil(f"{file} of {name}, {seed}", folder / name / file, spoilt, partial(read, folder / name)))
    yield from deal(count, kinds)


def json_tokenizers(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Damage tokenizer.json of every kind."""
    kinds = []
    for name, make in JSON_KINDS.items():
        path = folder / name / "tokenizer.json"
        path.parent.mkdir()
        path.write_text(json.dumps(make()))
        read = partial(_use_tokenizer, HuggingFaceTokenizer(str(path)), path.parent)
        kinds.append(spoil(f"tokenizer.json of {name}, {seed}", path, spoilt_json, read))
    yield from deal(count, kinds)


def sentencepiece_models(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Damage tokenizer.model of every kind."""
    kinds = []
    for name, make in (SENTENCEPIECE_KINDS | {"normalising": normalising_model}).items():
        path = folder / name / "tokenizer.model"
        path.parent.mkdir()
        path.write_bytes(make().model)
        read = partial(_use_tokenizer, SentencePieceFile(str(path)), path.parent)
        kinds.append(spoil(f"tokenizer.model of {name}, {seed}", path, spoilt_bytes, read))
    yield from deal(count, kinds)


def _use_tokenizer(config: HuggingFaceTokenizer | SentencePieceFile, folder: Path) -> None:
    tokenizer = prepare_tokenizer(config, {}, folder)
    for text in (TEXT, "", "nce"):
        tokenizer.decode(tokenizer.encode(text))
        tokenizer.encode_rest(text)
    _ = tokenizer.lossless


def task_files(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Damage files of tasks with every kind of row."""

    def read(path: Path) -> None:
        items = read_items(ChoiceTask("task", str(path)))
        tokenise_items("task", items, BytesTokenizer(), SuiteConfig(context_length=64))

    kinds = []
    for kind, row in enumerate(ROWS):
        path = folder / f"task{kind}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for _ in range(3)))
        kinds.append(spoil(f"rows of kind {kind}, {seed}", path, spoilt_lines, partial(read, path)))
    yield from deal(count, kinds)
