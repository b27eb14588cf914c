"""Format the runs that the folder of a study holds, and what `prune` would remove. This file needs no jax."""

from collections.abc import Sequence

from lossline_jax.formatting import counted, human_count, text_table, titled_list
from lossline_jax.status.leftovers import Leftovers, StoredRun

_HEADER = ("#", "run", "size", "old moments", "note")


def leftovers_text(leftovers: Leftovers) -> str:
    """Return the stored runs of a study with their sizes, and what can be removed with which command.

    Args:
        leftovers: the contents of the study's folder.
    """
    rows = [_cells(index, run) for index, run in enumerate(leftovers.runs)]
    rows += [_cells(None, run) for run in leftovers.others]
    return "\n".join([text_table(_HEADER, rows), "", *_totals(leftovers), *titled_list("Temporary", leftovers.parts)])


def _cells(index: int | None, run: StoredRun) -> list[object]:
    notes = ["not part of this study"] if index is None else []
    if run.has_rows and not run.has_folder:
        notes.append("no folder" if index is None else "no folder, but its losses still count")
    notes += ["a process works on it"] if run.is_held else []
    moments = sum(run.old_moments.values())
    return [index, run.run_id, _size(run.num_bytes), _size(moments) if moments else None, "; ".join(notes)]


def _totals(leftovers: Leftovers) -> list[str]:
    prune = f"lossline-jax prune {leftovers.folder}"
    lines = [f"{_runs(leftovers.runs)} of this study, {_size(_bytes(leftovers.runs))}"]
    if leftovers.others:
        size = _size(_bytes(leftovers.others))
        lines.append(f"{_runs(leftovers.others)} not part of this study, {size}; remove: {prune} --other-runs")
    if leftovers.lost:
        lines.append(f"{_runs(leftovers.lost)} without a folder in the fits; remove: {prune} --removed-runs")
    if leftovers.moments_bytes or leftovers.parts:
        size = _size(leftovers.moments_bytes)
        lines.append(f"{size} of old moments, {len(leftovers.parts)} temporary files and folders; remove: {prune}")
    return lines


def removal_text(leftovers: Leftovers, chosen: Sequence[StoredRun]) -> str:
    """Return what `prune` removes.

    Args:
        leftovers: the contents of the study's folder.
        chosen: the runs that are removed whole.
    """
    lines = [f"  {run.run_id}: {_size(run.num_bytes)}, with its losses" for run in chosen]
    for run in leftovers.runs:
        if run.old_moments:
            steps = ", ".join(map(str, run.old_moments))
            lines.append(f"  {run.run_id}: {_size(sum(run.old_moments.values()))} of moments, of steps {steps}")
    lines += [f"  {part}" for part in leftovers.parts]
    freed = _bytes(chosen) + leftovers.moments_bytes
    return "\n".join([*lines, f"{_size(freed)} in all"] if lines else ["nothing to remove"])


def _runs(runs: Sequence[StoredRun]) -> str:
    return counted(len(runs), "run")


def _bytes(runs: Sequence[StoredRun]) -> int:
    return sum(run.num_bytes for run in runs)


def _size(num_bytes: int) -> str:
    return f"{human_count(num_bytes)}B"
