"""Files of models, tokenizers and tasks spoilt at random from a seed: each is read, or refused in one line.

ROBUSTNESS_SEED=7 ROBUSTNESS_CASES=400 pytest -s tests/robustness/test_malformed_models.py    more of other cases
"""

import copy
import json
import os
import random
import struct

import pytest
from huggingface_stand_ins import SMALL, write_small
from outcomes import Case, cases_table, counts, faults
from prefix_tokenizers import JSON_KINDS, SENTENCEPIECE_KINDS, normalising_model

from lossline_jax.data.config import HuggingFaceTokenizer, SentencePieceFile
from lossline_jax.data.tokenizers import BytesTokenizer, prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.config import ChoiceTask, SuiteConfig
from lossline_jax.evaluate.sets import tokenise_items
from lossline_jax.evaluate.tasks import read_items
from lossline_jax.models.base import build_model
from lossline_jax.models.huggingface.configs import read_config
from lossline_jax.models.huggingface.load import load_params

SEED = int(os.environ.get("ROBUSTNESS_SEED", "15"))
CASES = int(os.environ.get("ROBUSTNESS_CASES", "40"))  # of each kind of file

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
    """Flipped, lost, repeated or zero bytes, or the end cut off; and what was done."""
    data, place = bytearray(content), rng.randrange(len(content))
    length = rng.choice([1, 5, 60])
    how = rng.choice(["flip", "flip", "cut", "lose", "repeat", "zero"])
    match how:
        case "flip":
            for _ in range(rng.choice([1, 1, 2, 9])):
                # half of them where the structure stands: at the beginning and the end
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
    """A JSON value with one of its members, at any depth, replaced, deleted or doubled; and what was done."""
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
    value, done = spoilt_value(json.loads(content), rng)
    return json.dumps(value).encode("utf-8"), done


def spoilt_lines(content, rng):
    if rng.random() < 0.3:
        return spoilt_bytes(content, rng)
    rows = [json.loads(line) for line in content.decode("utf-8").splitlines()]
    value, done = spoilt_value(rows, rng)
    return "".join(json.dumps(row) + "\n" for row in value).encode("utf-8"), done


def spoilt_tensors(content, rng):
    """Its header is JSON behind the header's length."""
    if rng.random() < 0.3:
        return spoilt_bytes(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, done = spoilt_json(content[8 : 8 + length], rng)
    stated = len(header) if rng.random() < 0.8 else rng.choice([0, len(header) + 1, 2**40, 2**63])
    return struct.pack("<Q", stated) + header + content[8 + length :], done


def attempt(read):
    """The outcome in a word, and what was said."""
    try:
        read()
    except LosslineError as error:
        return ("MUTE" if "\n" in str(error) or not str(error) else "noticed"), str(error)
    except BaseException as error:  # the panics of Rust libraries are no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return "TRACE", f"{type(error).__name__}: {error}"
    return "without effect", ""


def spoil(name, path, spoilt, read):
    """`CASES` spoilt versions of a file, each read; the file is as it was afterwards."""
    good = path.read_bytes()
    read()  # it can be read as it is
    cases = []
    for number in range(CASES):
        rng = random.Random(f"{SEED} {name} {number}")
        content, done = spoilt(good, rng)
        path.write_bytes(content)
        cases.append(Case(f"{name} {number}", done, *attempt(read)))
    path.write_bytes(good)
    print(f"\n{name}: {counts(cases)}")
    bad = faults(cases)
    assert not bad, cases_table(bad)
    assert any(case.outcome == "noticed" for case in cases)


def use(tokenizer):
    for text in (TEXT, "", "nce"):
        tokenizer.decode(tokenizer.encode(text))
        tokenizer.encode_rest(text)
    return tokenizer.lossless


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("models")
    for name in SMALL:
        write_small(name, parent / name)
    return parent


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_folders_of_models(folders, name, file):
    def read():
        hf = read_config(folders / name)
        load_params(folders / name, build_model(hf.config, hf.vocab_size))

    spoilt = spoilt_json if file == "config.json" else spoilt_tensors
    spoil(f"{name} {file}", folders / name / file, spoilt, read)


@pytest.mark.parametrize("name", JSON_KINDS)
def test_tokenizer_json(tmp_path, name):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(JSON_KINDS[name]()))
    spoil(name, path, spoilt_json, lambda: use(prepare_tokenizer(HuggingFaceTokenizer(str(path)), {}, tmp_path)))


@pytest.mark.parametrize("name", [*SENTENCEPIECE_KINDS, "normalising"])
def test_tokenizer_model(tmp_path, name):
    path = tmp_path / "tokenizer.model"
    path.write_bytes((SENTENCEPIECE_KINDS | {"normalising": normalising_model})[name]().model)
    spoil(name, path, spoilt_bytes, lambda: use(prepare_tokenizer(SentencePieceFile(str(path)), {}, tmp_path)))


@pytest.mark.parametrize("kind", range(len(ROWS)))
def test_task_files(tmp_path, kind):
    path = tmp_path / "task.jsonl"
    path.write_text("".join(json.dumps(ROWS[kind]) + "\n" for _ in range(3)))

    def read():
        items = read_items(ChoiceTask("task", str(path)))
        tokenise_items("task", items, BytesTokenizer(), SuiteConfig(context_length=64))

    spoil(f"rows of kind {kind}", path, spoilt_lines, read)
