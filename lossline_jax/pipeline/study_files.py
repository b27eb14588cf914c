"""The files that describe a study: study.json and the manifest of its runs."""

import json
from typing import TYPE_CHECKING

from etils import epath

from lossline_jax import logs
from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_record, write_atomic, write_json
from lossline_jax.storage.paths import StudyDir

if TYPE_CHECKING:
    pass
import os

from lossline_jax.config.validate import validate_study
from lossline_jax.storage.inputs import numbered_lines, parse_object
from lossline_jax.storage.object_store import reachable_path


def save_study(study: StudyConfig, folder: StudyDir) -> None:
    """Write the resolved study, so that the folder can be opened without the experiment file."""
    write_json(folder.study_file, to_json(study))


def write_manifest(study: StudyConfig, folder: StudyDir) -> epath.Path:
    """A line a run for an engine's array of jobs; `lossline-jax run --manifest` reads it with study.json."""
    save_study(study, folder)
    lines = [
        json.dumps({"index": k, "run_id": run.run_id, "tokens": run.tokens, "steps": run.num_steps})
        for k, run in enumerate(study.runs)
    ]
    path = folder.root / "manifest.jsonl"
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def open_study(folder: str) -> tuple[StudyConfig, StudyDir]:
    """A study from its folder, by the `study.json` that an earlier command wrote there: data, never code."""
    directory = StudyDir(reachable_path(folder))
    if not directory.study_file.exists():
        raise LosslineError(f"{folder}: no study.json there; name an experiment file or a study's folder")
    mend = "restore it, or write it again from the experiment file: lossline-jax plan STUDY.py --manifest"
    study = read_record(StudyConfig, directory.study_file, mend)
    return validate_study(study, str(directory.study_file)), directory


def index_from_environment() -> int | None:
    """The index that an engine gives to one task of an array, by its own variable."""
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "SKYPILOT_JOB_RANK"):
        if name in os.environ:
            try:
                return int(os.environ[name])
            except ValueError as error:
                raise LosslineError(f"{name}={os.environ[name]!r} is not a number; give --index") from error
    return None


def read_manifest(manifest: str) -> tuple[StudyConfig, StudyDir, list[str]]:
    """The study, its folder and the run ids of a manifest, by the manifest's file or by the study's folder.

    The manifest lies in the study's folder beside study.json.

    Raises:
        LosslineError: there is none, or a line of it is not a run.
    """
    path = reachable_path(manifest)
    path = path if path.name.endswith(".jsonl") else path / "manifest.jsonl"
    if not path.exists():
        raise LosslineError(f"{path}: no such manifest; `lossline-jax plan STUDY.py --manifest` writes one")
    run_ids = [_run_of_line(index, *line) for index, line in enumerate(numbered_lines(path, "manifest"))]
    if not run_ids:
        raise LosslineError(f"{path}: names no run; write it again: lossline-jax plan STUDY.py --manifest")
    study, directory = open_study(str(path.parent))
    if lacking := [run.run_id for run in study.runs if run.run_id not in run_ids]:
        mend = "write it again: lossline-jax plan --manifest"
        logs.info(f"{path}: lacks {len(lacking)} runs of the study ({lacking[0]}); {mend}")
    return study, directory, run_ids


def _run_of_line(index: int, where: str, line: str) -> str:
    """The run id of a line of a manifest, which stands where it says that it stands."""
    fields = parse_object(line, where)
    if not isinstance(fields.get("run_id"), str) or fields.get("index", index) != index:
        raise LosslineError(f"{where}: this is not run {index} of a manifest; write the manifest again")
    return fields["run_id"]


def read_manifest_run(manifest: str, index: int) -> tuple[StudyConfig, StudyDir, str]:
    """The study, its folder and the run id of line `index` of a manifest, which names runs of that study only."""
    study, directory, run_ids = read_manifest(manifest)
    if not 0 <= index < len(run_ids):
        raise LosslineError(f"{manifest}: --index {index} is outside 0..{len(run_ids) - 1}")
    study.run_by_id(run_ids[index])
    return study, directory, run_ids[index]
