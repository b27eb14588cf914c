"""Make malformed input of every kind from a seed, and name the outcome of each.

    python tests/robustness/malformed.py [CASES] [SEED] [KIND]

makes that many inputs of each kind, and reads each as a user's command would. It prints the counts of the outcomes that
`outcomes.py` names, and every case that is a fault. A table goes through three verbs, and each of them is a case.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from tests.robustness import malformed_experiments, malformed_files, malformed_models, malformed_tables
from tests.robustness.outcomes import Case, cases_table, counts, counts_table, faults

Kind = Callable[[int, int, Path], Iterator[Case]]
KINDS: dict[str, Kind] = {
    "tables": malformed_tables.tables,
    "corpora, tasks and tables, damaged": malformed_files.damaged_files,
    "corpora, tasks and tables of no format": malformed_files.bytes_of_no_format,
    "rows of tasks": malformed_models.task_files,
    "config.json": malformed_models.configs,
    "model.safetensors": malformed_models.tensors,
    "tokenizer.json": malformed_models.json_tokenizers,
    "tokenizer.model": malformed_models.sentencepiece_models,
    "study.json": malformed_experiments.study_files,
    "fields of an experiment": malformed_experiments.fields,
    "flags": malformed_experiments.flags,
}


def cases(kind: str, count: int, seed: int) -> list[Case]:
    """Return all cases of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        return list(KINDS[kind](count, seed, Path(folder)))


def main(count: int = 40, seed: int = 0, chosen: str = "") -> int:
    jax.config.update("jax_disable_most_optimizations", True)  # many small programs, each run a few times
    cases_by_kind: dict[str, list[Case]] = {}
    for kind in KINDS if not chosen else [chosen]:
        began = time.monotonic()
        cases_by_kind[kind] = cases(kind, count, seed)
        print(f"{kind}: {counts(cases_by_kind[kind])}; {time.monotonic() - began:.0f} s", flush=True)
    everything = [case for kind_cases in cases_by_kind.values() for case in kind_cases]
    if bad := faults(everything):
        print(cases_table(bad))
    print(counts_table(cases_by_kind))
    print(counts(everything))
    return len(bad)


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:3]), *sys.argv[3:4])))
