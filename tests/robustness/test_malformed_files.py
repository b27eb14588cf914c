"""Files of corpora, tasks and tables, damaged from a seed: read as before, or refused in one line that names the file.

ROBUSTNESS_SEED and ROBUSTNESS_CASES choose which damage, and how much of it.
"""

import bz2
import gzip
import json
import lzma
import os
import random

import pandas as pd
import pytest

from lossline_jax.data.config import FilesCorpus
from lossline_jax.data.corpora import read_documents
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.config import ChoiceTask
from lossline_jax.evaluate.tasks import read_items
from lossline_jax.table import read_table

SEED = int(os.environ.get("ROBUSTNESS_SEED", "0"))
CASES = int(os.environ.get("ROBUSTNESS_CASES", "60"))

ROWS = [{"text": f"text {k}", "context": "Q", "choices": [" a", " b"], "gold": k % 2, "x": k / 7} for k in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
READERS = {
    "corpus": lambda path: [document.text for document in read_documents(FilesCorpus("c", (str(path),)))],
    "task": lambda path: [(item.contexts, item.options, item.gold) for item in read_items(ChoiceTask("t", str(path)))],
    "table": lambda path: read_table(path).to_json(),
}
PACKED = {".gz": lambda data: gzip.compress(data, mtime=0), ".xz": lzma.compress, ".bz2": bz2.compress}
TOKENS = [
    *(character.encode() for character in '{}[]",\\\0\r\n'),
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1\x15", b"\xed\xa0\x80", b"NaN", b"-Infinity", b"1e999", b"null",
    b'"text": 1, ', b"9" * 5000, b"[" * 2000,
]  # fmt: skip


def cut(data, chance):
    return data[: chance.randrange(len(data))]


def flip(data, chance):
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def insert(data, chance):
    place = chance.choice([0, chance.randrange(len(data)), len(data)])
    return data[:place] + chance.choice(TOKENS) + data[place:]


def drop(data, chance):
    place = chance.randrange(len(data))
    return data[:place] + data[place + chance.randrange(1, 40) :]


DAMAGE = (cut, flip, insert, drop)


def outcome(reader, path):
    """Return what a reader gives, or the line that it refuses the file with. Anything else is raised."""
    try:
        return READERS[reader](path)
    except LosslineError as error:
        refusal = error
    assert "\n" not in str(refusal)
    assert path.name in str(refusal)
    return refusal


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    pd.DataFrame(ROWS).to_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", *(f".jsonl{packed}" for packed in PACKED)])
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_one_line_or_nothing(tmp_path, parquet, reader, ending):
    chance = random.Random(f"{SEED} {reader} {ending}")
    packed = ending.removeprefix(".jsonl")
    whole = parquet if ending == ".parquet" else PACKED.get(packed, bytes)(LINES)
    path = tmp_path / f"a{ending}"
    path.write_bytes(whole)
    undamaged = outcome(reader, path)
    assert not isinstance(undamaged, LosslineError)
    for case in range(CASES // 4):
        how = chance.choice(DAMAGE)
        path.write_bytes(how(whole, chance))
        found = outcome(reader, path)
        if packed in PACKED:  # what is packed has a checksum: nothing but the file as it was may be read
            assert isinstance(found, LosslineError) or found == undamaged, f"case {case}: {how.__name__}"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("ending", ["", ".csv", ".tsv", ".txt", ".jsonl", ".json", ".gz", ".zip", ".parquet"])
def test_bytes_of_no_format_are_one_line_or_text(tmp_path, reader, ending):
    chance = random.Random(f"{SEED} {reader} {ending} bytes")
    path = tmp_path / f"a{ending}"
    for _ in range(max(1, CASES // 10)):
        path.write_bytes(b"".join(chance.choice([*TOKENS, chance.randbytes(9)]) for _ in range(chance.randrange(6))))
        found = outcome(reader, path)
        if ending in (".parquet", ".gz", ".zip"):
            assert isinstance(found, LosslineError)
