"""Select the rows of the losses table that count now, and find the checkpoints that lack some."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from lossline_jax.losses.loss_row import LossRow


class NamedSet(Protocol):
    @property
    def name(self) -> str: ...


class SuiteVersion(Protocol):
    """The sets of a suite as they are now; `suite.PreparedSuite` and `row_count.SuiteSets` are such."""

    @property
    def definitions(self) -> Mapping[tuple[str, str], str]:
        """The loss definition of each set, by its name and fingerprint."""

    @property
    def sets(self) -> Sequence[NamedSet]: ...


def current_rows(rows: Iterable[LossRow], suite: SuiteVersion) -> list[LossRow]:
    """The rows that count now: of the suite's sets as they are, one a (run, checkpoint, set), in today's words.

    Every table, count and page takes its rows from here.
    """
    rows_by_key: dict[tuple[str, int, str], LossRow] = {}
    for row in rows:
        definition = suite.definitions.get((row.eval_set, row.eval_fingerprint))
        if definition is not None:
            key = (row.run_id, row.step, row.eval_set)
            rows_by_key.setdefault(key, dataclasses.replace(row, loss_definition=definition))
    return list(rows_by_key.values())


def missing_checkpoints(
    rows: Iterable[LossRow], run_id: str, steps: Iterable[int], suite: SuiteVersion
) -> dict[int, tuple[str, ...]]:
    """The sets that each checkpoint of a run still lacks a row for; checkpoints that lack none are left out.

    Args:
        rows: those at hand, of any run.
        steps: the checkpoints that ought to be scored.
    """
    have = {(row.step, row.eval_set) for row in current_rows(rows, suite) if row.run_id == run_id}
    lacking = {step: tuple(s.name for s in suite.sets if (step, s.name) not in have) for step in steps}
    return {step: names for step, names in lacking.items() if names}
