"""How many rows of the losses table a run has, lacks and has twice, from the study's folder alone. No jax."""

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
    """The rows of one run, against one for every (checkpoint, set) that it ought to have."""

    expected: int
    found: int  # distinct (checkpoint, set) of the sets as they are now
    duplicates: int  # further rows of those
    lacking: tuple[str, ...]  # sets that some checkpoint has no row of, though they can be scored
    reason: str = ""  # why something could not be scored

    @property
    def text(self) -> str:
        return f"{self.found}/{self.expected}"

    def noted(self, note: str, done: bool) -> str:
        """The note with what is wrong. Rows that lack are worth a word once the run is done."""
        lacking = f"no row yet of {', '.join(self.lacking)}" if done and self.lacking and not self.reason else ""
        double = f"{self.duplicates} rows are double" if self.duplicates else ""
        return "; ".join(part for part in (note, self.reason, lacking, double) if part)


@dataclass(frozen=True)
class SuiteSets:
    """What a prepared suite says of its sets."""

    definitions: dict[tuple[str, str], str]  # the loss definition of each, by name and fingerprint
    problems: dict[str, str]  # why the others cannot be scored, by name


NO_SETS = SuiteSets({}, {})


def read_suite_sets(folder: StudyDir, suite: str | None) -> SuiteSets:
    """The sets of a prepared suite by its fingerprint; none where nothing is prepared."""
    manifest = path_inside(folder.suites, suite, folder.root) / "manifest.json" if suite is not None else None
    if manifest is None or not manifest.exists():
        return NO_SETS
    content = read_json(manifest, {"sets": list, "problems": dict})
    try:
        definitions = {(each["name"], each["fingerprint"]): each["definition"] for each in content["sets"]}
    except (KeyError, TypeError) as error:
        mend = f"delete {manifest.parent} and run `lossline-jax prepare`"
        raise LosslineError(f"{manifest}: damaged ({error}); {mend}") from error
    return SuiteSets(definitions, content["problems"])


def count_rows(
    folder: StudyDir, run_id: str, steps: Sequence[int], set_names: Sequence[str], sets: SuiteSets
) -> RowCount:
    """Count the rows of a run.

    Args:
        steps: the checkpoints that it ought to have.
        set_names: all sets of the study's suite, those too that cannot be scored.
        sets: those of its suite; rows of older versions of them do not count.
    """
    rows = [
        row
        for row in read_loss_rows(folder.loss_rows(run_id))
        if (row.eval_set, row.eval_fingerprint) in sets.definitions
    ]
    scored = {(row.step, row.eval_set) for row in current_rows(rows, sets)}
    lacking = tuple(
        name for name in set_names if name not in sets.problems and any((step, name) not in scored for step in steps)
    )
    unscored = read_unscored(folder.unscored_file(run_id))
    return RowCount(
        expected=len(steps) * len(set_names),
        found=sum((step, name) in scored for step in steps for name in set_names),
        duplicates=len(rows) - len(scored),
        lacking=lacking,
        reason="" if unscored is None else unscored.reason,
    )
