"""Verdicts with and without far runs, for comparisons of lines and of compute alike."""

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

from lossline_jax.fit.compare.far_run import FarRun


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
    level: Level, with_all: Level, in_doubt: Sequence[Level], size_text: Callable[[Level], str]
) -> Level:
    """Say what the verdict of a level is with all runs, and withdraw it where it rests on a run in doubt.

    Args:
        level: the level without the runs that are set aside.
        with_all: the level with all runs.
        in_doubt: the level without runs in doubt, once for each set of `far_run.runs_in_doubt`.
        size_text: level -> its gap or its speedup in words, which follow a verdict.
    """
    notes = []
    if with_all.verdict != level.verdict:
        notes.append(f"with all runs: {with_all.verdict}{size_text(with_all)}")
    changed = next((rest for rest in in_doubt if rest.verdict != level.verdict), None)
    if changed is not None:
        notes.append(f"with the runs in doubt: {level.verdict}, without: {changed.verdict}{size_text(changed)}")
    note = "; ".join(part for part in (*notes, level.note) if part)
    return replace(level, verdict=level.verdict if changed is None else "cannot tell", note=note)


def far_runs_to_name(
    far: Sequence[FarRun], levels: Sequence[LevelWithVerdict], with_all: Sequence[LevelWithVerdict], used: Set[str]
) -> list[FarRun]:
    """Return the far runs that concern a factor: those that it compares, and all where they change a verdict.

    Args:
        far: the far runs.
        levels: the levels of the factor without them.
        with_all: the levels with all runs.
        used: runs of the settings that the factor compares.
    """
    changed = any(level.verdict != old.verdict for level, old in zip(levels, with_all, strict=True))
    return [run for run in far if changed or used & set(run.run_ids)]


def all_run_ids(far: Sequence[FarRun]) -> tuple[str, ...]:
    """Return each run once, and the partner of a run that has one."""
    return tuple(dict.fromkeys(run_id for run in far for run_id in run.run_ids))
