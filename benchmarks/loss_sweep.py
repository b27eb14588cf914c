"""Read the public sweep of 529 models on 6 pretraining sets as series of losses to predict."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.fit.tables.pairing import pair_runs

FILE = "brandfonbrener_sweep.csv"
VOCABULARY = 64000  # tokens
OWN = {  # pretraining set: the validation set drawn from it
    "fineweb-100b": "fineweb_100b",
    "fineweb-edu-100b": "fineweb_edu_100b",
    "proof-pile-2": "proof_pile_2",
    "slimpajama-chunk1": "slimpajama",
    "smollm-corpus": "smollm",
    "starcoder": "starcoder",
}
TRAIN, OWN_VAL = "train_loss_20", "val_loss"
SUITES = ("olmo_suite_ce_loss", "mmlu_suite_ce_loss")
DOWNSTREAM = "eval/downstream_ce_loss/"
NOISY = ("imbue", "mc_5shot")  # parts of names of losses that follow no other loss closely
PAIRED_BY = ["params", "iso_flop", "n_layers"]

GROUPS = {  # kind of a series: its name in the table
    "a": "a train loss (compute law)",
    "b": "b validation loss (compute law)",
    "c": "c train to train",
    "d val": "d train to test: other validation",
    "d downstream": "d train to test: downstream",
    "d noisy": "d train to test: noisy downstream",
    "d suite": "d train to test: suites",
    "e own": "e test to test: own validation",
    "e val": "e test to test: other validation",
    "e downstream": "e test to test: downstream",
    "e noisy": "e test to test: noisy downstream",
    "e suite": "e test to test: suites",
}


@dataclass(frozen=True, eq=False)
class Relation:
    """A series, with the pretraining sets of the models that it relates."""

    series: LossSeries
    sets: tuple[str, ...]  # one, or two for paired models

    @property
    def letter(self) -> str:
        return self.series.kind[0]


def own_column(name: str) -> str:
    return f"eval/{OWN[name]}_val/CrossEntropyLoss"


def read_sweep(folder: Path) -> pd.DataFrame:
    """Return the table of the folder. The program ends if the file is missing."""
    path = folder / FILE
    if not path.exists():
        raise SystemExit(
            f"benchmarks: {path} is absent; give --data or set LOSSLINE_SHARED to the folder of shared data"
        )
    frame = pd.read_csv(path)
    return frame.assign(non_embedding=frame["params"] - VOCABULARY * frame["d_model"])


def losses_by_kind(frame: pd.DataFrame, noisy: bool) -> dict[str, str]:
    """Return the kind of each column of losses: val, downstream, noisy or suite."""
    kinds = {}
    for column in frame.columns:
        if column.endswith("_val/CrossEntropyLoss"):
            kinds[column] = "val"
        elif column.startswith(DOWNSTREAM):
            hard = any(part in column for part in NOISY)
            if noisy or not hard:
                kinds[column] = "noisy" if hard else "downstream"
    return kinds | dict.fromkeys(SUITES, "suite")


def relations(frame: pd.DataFrame, noisy: bool = False) -> list[Relation]:
    """Return every series of the table. Series within one pretraining set come first."""
    kinds = losses_by_kind(frame, noisy)
    by_set = dict(iter(frame.groupby("data")))
    result = []
    for name, rows in by_set.items():
        result += _of_one_set(name, rows, kinds)
    for first, a in by_set.items():
        for second, b in by_set.items():
            if first != second:
                pairs = pair_runs(a, b, PAIRED_BY)
                result += _of_two_sets((first, second), pairs.first, pairs.second, kinds)
    return result


def _of_one_set(name: str, frame: pd.DataFrame, kinds: dict[str, str]) -> Iterator[Relation]:
    for kind, column in (("a", TRAIN), ("b", OWN_VAL)):
        yield _relation(kind, column, (name,), rows_of(frame), frame[column])
    for column, kind in kinds.items():
        if column != own_column(name):
            yield _relation(f"d {kind}", column, (name,), rows_of(frame, frame[OWN_VAL]), frame[column])


def _of_two_sets(sets, first: pd.DataFrame, second: pd.DataFrame, kinds: dict[str, str]) -> Iterator[Relation]:
    yield _relation("c", OWN_VAL, sets, rows_of(first, first[OWN_VAL]), second[OWN_VAL])
    for column, kind in kinds.items():
        if column in map(own_column, sets):
            kind = "own"
        yield _relation(f"e {kind}", column, sets, rows_of(first, first[column]), second[column])


def _relation(kind: str, column: str, sets: tuple[str, ...], rows: RunPoints, y: pd.Series) -> Relation:
    return Relation(
        LossSeries(f"{kind[0]}: {' -> '.join(sets)}, {column}", kind, column, rows, y.to_numpy(float)), sets
    )


def rows_of(frame: pd.DataFrame, x: pd.Series | None = None) -> RunPoints:
    """Return the runs, with both counts of their parameters."""
    return RunPoints(
        frame["iso_flop"].to_numpy(float),
        {"total": frame["params"].to_numpy(float), "non-embedding": frame["non_embedding"].to_numpy(float)},
        frame["tokens"].to_numpy(float),
        None if x is None else x.to_numpy(float),
    )
