"""Damage files of corpora, tasks and tables from a seed. Each is read, or refused in one line that names it."""

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from lossline_jax.config.data import FilesCorpus
from lossline_jax.config.evaluation import ChoiceTask
from lossline_jax.data.corpora.read import read_documents
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.losses.table import read_losses
from tests.robustness.outcomes import Case, attempt

ROWS = [{"text": f"text {k}", "context": "Q", "choices": [" a", " b"], "gold": k % 2, "x": k / 7} for k in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
READERS = {
    "corpus": lambda path: [document.text for document in read_documents(FilesCorpus("c", (str(path),)))],
    "task": lambda path: [(item.contexts, item.options, item.gold) for item in read_items(ChoiceTask("t", str(path)))],
    "table": lambda path: read_losses(path).to_json(),
}
PACKED = {".gz": lambda data: gzip.compress(data, mtime=0), ".xz": lzma.compress, ".bz2": bz2.compress}
ENDINGS = ("", ".csv", ".tsv", ".txt", ".jsonl", ".json", ".gz", ".zip", ".parquet")
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


def damaged_files(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Cut, flip, lengthen or shorten files.

    A compressed file has a checksum, so it gives the same content as before or is refused.
    """
    chance = random.Random(f"{seed} damaged")
    pd.DataFrame(ROWS).to_parquet(folder / "whole.parquet")
    whole = {f".jsonl{packed}": pack(LINES) for packed, pack in PACKED.items()}
    whole |= {".jsonl": LINES, ".parquet": (folder / "whole.parquet").read_bytes()}
    kinds = [(reader, ending) for reader in READERS for ending in whole]
    before = {}
    for number in range(count):
        reader, ending = kinds[number % len(kinds)]
        path = folder / f"a{ending}"
        if (reader, ending) not in before:
            path.write_bytes(whole[ending])
            before[reader, ending] = READERS[reader](path)
        how = chance.choice(DAMAGE)
        path.write_bytes(how(whole[ending], chance))
        outcome_name, detail, content = attempt(partial(READERS[reader], path), named=path.name)
        if outcome_name == "accepted" and content == before[reader, ending]:
            outcome_name = "without effect"
        elif outcome_name == "accepted" and ending.removeprefix(".jsonl") in PACKED:
            outcome_name = "SILENT"
        yield Case(f"{reader} of {ending}", how.__name__, outcome_name, detail)


def bytes_of_no_format(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Write random bytes under every ending. No such file is valid Parquet or a valid archive."""
    chance = random.Random(f"{seed} bytes")
    kinds = [(reader, ending) for reader in READERS for ending in ENDINGS]
    for number in range(count):
        reader, ending = kinds[number % len(kinds)]
        path = folder / f"a{ending}"
        content = b"".join(chance.choice([*TOKENS, chance.randbytes(9)]) for _ in range(chance.randrange(6)))
        path.write_bytes(content)
        outcome_name, detail, _ = attempt(partial(READERS[reader], path), named=path.name)
        if outcome_name == "accepted" and ending in (".parquet", ".gz", ".zip"):
            outcome_name = "SILENT"
        yield Case(f"{reader} of {ending}", f"{len(content)} bytes", outcome_name, detail)
