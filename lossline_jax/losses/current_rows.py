"""Select the rows of the losses table that are current, and find the checkpoints that miss some."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from lossline_jax.losses.loss_row import LossRow


class NamedSet(Protocol):
    """An evaluation set that has a name."""

    @property
    def name(self) -> str:
        """The name of the set."""
        ...


class SetDefinitions(Protocol):
    """The loss definitions of a suite's present sets: `suite.PreparedSuite` or `row_count.SuiteSets`."""

    @property
    def definitions(self) -> Mapping[tuple[str, str], str]:
        """The loss definition of each set, by the set's name and fingerprint."""
        ...


class SuiteVersion(SetDefinitions, Protocol):
    """The present sets of a suite, such as a `suite.PreparedSuite`."""

    @property
    def sets(self) -> Sequence[NamedSet]:
        """The sets of the suite."""
        ...


def current_rows(rows: Iterable[LossRow], suite: SetDefinitions) -> list[LossRow]:
    """Return the current rows: one for each (run, checkpoint, set), for the present sets of the suite.

    Each row gets the present wording of its loss definition. Every table, count and page takes its rows from here.

    Args:
        rows: rows of any run. Of several rows with one (run, checkpoint, set), the first is kept.
        suite: the present sets; rows of other sets and of older versions of a set are left out.
    """
    rows_by_key: dict[tuple[str, int, str], LossRow] = {}
    for row in rows:
        definition = suite.definitions.get((row.eval_set, row.eval_fingerprint))
        if definition is not None:
            key = (row.run_id, row.step, row.eval_set)
            rows_by_key.setdefault(key, dataclasses.replace(row, loss_definition=definition))
    return list(rows_by_key.values())


def with_factors(rows: Iterable[LossRow], factors: Mapping[str, Any]) -> list[LossRow]:
    """Return the rows of a run with its factor levels of today.

    Rows are kept for years, and later versions write more factors and more exact labels. Runs of one study must all
    have the labels of one version, or equal runs would look different.

    Args:
        rows: rows of one run.
        factors: the values of the factor columns, as `RunConfig.factors` gives them.
    """
    return [dataclasses.replace(row, **factors) for row in rows]


def missing_checkpoints(
    rows: Iterable[LossRow], run_id: str, steps: Iterable[int], suite: SuiteVersion
) -> dict[int, tuple[str, ...]]:
    """Return the names of the sets that each checkpoint of a run has no row for. Complete checkpoints are left out.

    Args:
        rows: the rows that exist, of any run.
        run_id: the run.
        steps: the checkpoints that must be scored.
        suite: the present sets, each of which needs a row.
    """
    scored = {(row.step, row.eval_set) for row in current_rows(rows, suite) if row.run_id == run_id}
    missing = {
        step: tuple(suite_set.name for suite_set in suite.sets if (step, suite_set.name) not in scored)
        for step in steps
    }
    return {step: names for step, names in missing.items() if names}
