"""Verdicts with and without far runs and checkpoints, for comparisons of lines and of compute alike."""

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from lossline_jax.fit.compare.far_checkpoint import FarCheckpoint
from lossline_jax.fit.compare.far_run import FarRun

FarPart = FarRun | FarCheckpoint


class LevelWithVerdict(Protocol):
    """A level with a verdict: `comparison.LevelGap` or `speedups.LevelSpeedup`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def verdict(self) -> str:
        """The verdict on the level."""
        ...

    @property
    def note(self) -> str:
        """Everything else that there is to say. Empty: nothing."""
        ...


Level = TypeVar("Level", bound=LevelWithVerdict)


def level_without_far_runs(
    level: Level,
    with_all: Level,
    in_doubt: Sequence[Level],
    *,
    size_text: Callable[[Level], str],
    far: Sequence[FarPart],
) -> Level:
    """Say what the verdict of a level is with all points, and withdraw it where it rests on a run in doubt.

    Args:
        level: the level without the runs and checkpoints that are set aside.
        with_all: the level with all runs and checkpoints.
        in_doubt: the level without runs in doubt, once for each set of `far_run.runs_in_doubt`.
        size_text: level -> its gap or its speedup in words, which follow a verdict.
        far: the far runs and checkpoints.
    """
    notes = []
    if with_all.verdict != level.verdict:
        all_parts = "all points" if any(isinstance(part, FarCheckpoint) for part in far) else "all runs"
        notes.append(f"with {all_parts}: {with_all.verdict}{size_text(with_all)}")
    changed = next((rest for rest in in_doubt if rest.verdict != level.verdict), None)
    if changed is not None:
        notes.append(f"with the runs in doubt: {level.verdict}, without: {changed.verdict}{size_text(changed)}")
    note = "; ".join(part for part in (*notes, level.note) if part)
    return replace(level, verdict=level.verdict if changed is None else "cannot tell", note=note)


def far_parts_to_name(
    far: Sequence[FarPart], levels: Sequence[LevelWithVerdict], with_all: Sequence[LevelWithVerdict], used: Set[str]
) -> list[FarPart]:
    """Return the far parts that concern a factor: those that it compares, and all where they change a verdict.

    Args:
        far: the far runs and checkpoints.
        levels: the levels of the factor without them.
        with_all: the levels with all of them.
        used: runs of the settings that the factor compares.
    """
    changed = any(level.verdict != old.verdict for level, old in zip(levels, with_all, strict=True))
    return [part for part in far if changed or used & set(part.run_ids) or not part.run_ids]


def far_run_ids(far: Sequence[FarPart]) -> tuple[str, ...]:
    """Return each far run once, and the partner of a run that has one.

    Args:
        far: the far runs and checkpoints.
    """
    return tuple(dict.fromkeys(run_id for part in far if isinstance(part, FarRun) for run_id in part.run_ids))
