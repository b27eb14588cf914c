"""Count the rows of the losses table that a run has, misses and has twice. Reads the study's folder, without jax."""

from collections.abc import Sequence
from dataclasses import dataclass

from lossline_jax.errors import LosslineError
from lossline_jax.losses.current_rows import current_rows
from lossline_jax.losses.table import read_loss_rows
from lossline_jax.storage.files import path_inside, read_json
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_records import read_unscored


@dataclass(frozen=True)
class RowCount:
    """A count of the rows of one run. The run must have one row for every (checkpoint, set)."""

    expected: int
    scored: int  # distinct (checkpoint, set) pairs with a row of the present version of the set
    duplicates: int  # further rows of these pairs
    lacking: tuple[str, ...]  # sets that can be scored, but have no row of some checkpoint
    reason: str = ""  # the reason why something could not be scored

    @property
    def text(self) -> str:
        """The count as scored/expected."""
        return f"{self.scored}/{self.expected}"

    def note_with_faults(self, note: str, *, run_is_done: bool) -> str:
        """Return the note with the faults of these rows added.

        Args:
            note: the text to begin with.
            run_is_done: whether the run is done. Only then missing rows are a fault.
        """
        missing = f"no row yet of {', '.join(self.lacking)}" if run_is_done and self.lacking and not self.reason else ""
        double = f"{self.duplicates} rows are double" if self.duplicates else ""
        return "; ".join(part for part in (note, self.reason, missing, double) if part)


@dataclass(frozen=True)
class SuiteSets:
    """The sets of a prepared suite, read from its manifest."""

    definitions: dict[tuple[str, str], str]  # the loss definition of each set, by name and fingerprint
    problems: dict[str, str]  # the reason why a set cannot be scored, by name


NO_SETS = SuiteSets({}, {})


def read_suite_sets(folder: StudyDir, suite: str | None) -> SuiteSets:
    """Return the sets of a prepared suite, or `NO_SETS` if the suite is not prepared.

    Args:
        folder: the folder of the study.
        suite: the fingerprint of the suite. None: nothing is prepared.

    Raises:
        LosslineError: the manifest is damaged.
    """
    manifest = path_inside(folder.suites, suite, folder.root) / "manifest.json" if suite is not None else None
    if manifest is None or not manifest.exists():
        return NO_SETS
    content = read_json(manifest, {"sets": list, "problems": dict})
    try:
        definitions = {(entry["name"], entry["fingerprint"]): entry["definition"] for entry in content["sets"]}
    except (KeyError, TypeError) as error:
        fix = f"delete {manifest.parent} and run `lossline-jax prepare`"
        raise LosslineError(f"{manifest}: damaged ({error}); {fix}") from error
    return SuiteSets(definitions, content["problems"])


def count_rows(
    folder: StudyDir, run_id: str, steps: Sequence[int], *, set_names: Sequence[str], sets: SuiteSets
) -> RowCount:
    """Count the rows of a run.

    Args:
        folder: the folder of the study.
        run_id: the run.
        steps: the checkpoints that the run must have.
        set_names: all sets of the study's suite, including sets that cannot be scored.
        sets: the present versions of the sets. Rows of older versions do not count.
    """
    rows = [
        row
        for row in read_loss_rows(folder.loss_rows(run_id))
        if (row.eval_set, row.eval_fingerprint) in sets.definitions
    ]
    scored = {(row.step, row.eval_set) for row in current_rows(rows, sets)}
    missing_sets = tuple(
        name for name in set_names if name not in sets.problems and any((step, name) not in scored for step in steps)
    )
    unscored = read_unscored(folder.unscored_file(run_id))
    return RowCount(
        expected=len(steps) * len(set_names),
        scored=sum((step, name) in scored for step in steps for name in set_names),
        duplicates=len(rows) - len(scored),
        lacking=missing_sets,
        reason="" if unscored is None else unscored.reason,
    )
