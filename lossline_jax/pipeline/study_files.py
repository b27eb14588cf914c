"""The files that describe a study: study.json, and manifest.jsonl with one line per run."""

import json
import os
from typing import Any

from etils import epath

from lossline_jax import logs
from lossline_jax.config.custom import FIELDS, SourceFile, stand_in
from lossline_jax.config.serialise import from_json, to_json
from lossline_jax.config.study import StudyConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.experiment import load_classes
from lossline_jax.storage.files import read_json, write_atomic, write_json
from lossline_jax.storage.inputs import numbered_lines, parse_object
from lossline_jax.storage.object_store import reachable_path
from lossline_jax.storage.paths import StudyDir


def save_study(study: StudyConfig, folder: StudyDir) -> None:
    """Write the resolved study to study.json, so that the folder can be opened without the experiment file."""
    write_json(folder.study_file, to_json(study))


def write_manifest(study: StudyConfig, folder: StudyDir) -> epath.Path:
    """Write study.json and manifest.jsonl, and return the path of the manifest.

    The manifest has one line per run, for the job array of an engine. `lossline-jax run --manifest` reads both files.

    Args:
        study: the study.
        folder: its folder.
    """
    save_study(study, folder)
    lines = [
        json.dumps({"index": k, "run_id": run.run_id, "tokens": run.tokens, "steps": run.num_steps})
        for k, run in enumerate(study.runs)
    ]
    path = folder.root / "manifest.jsonl"
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def open_study(folder: str, experiment: str | None = None) -> tuple[StudyConfig, StudyDir]:
    """Open a study from the study.json in its folder. The file holds data, never code.

    Args:
        folder: the study's own folder: a local path or gs://.
        experiment: the experiment file, which is executed, for a study with classes of its own. None: nothing is
            executed. Such a study can then be read, scored and reported, and not be trained.

    Raises:
        LosslineError: study.json is missing or damaged, its study is not valid, or the experiment defines another
            class than the study was begun with.
    """
    directory = StudyDir(reachable_path(folder))
    if not directory.study_file.exists():
        raise LosslineError(f"{folder}: no study.json there; name an experiment file or a study's folder")
    fix = "restore it, or write it again from the experiment file: lossline-jax plan STUDY.py --manifest"
    content = read_json(directory.study_file, mend=fix)
    classes = _stand_ins(content) if experiment is None else _loaded(content, experiment)
    try:
        study = from_json(StudyConfig, content, str(directory.study_file), classes)
    except LosslineError as error:
        raise LosslineError(f"{error}; {fix}") from error
    if experiment is None and study.code:
        names = ", ".join(f"{source.class_name} of {source.file}" for source in study.code)
        logs.info(f"{folder}: not loaded: {names}; its runs can be shown and scored; --experiment FILE is for training")
    return validate_study(study, str(directory.study_file)), directory


def _loaded(content: dict[str, Any], experiment: str) -> dict[str, type]:
    """Return the classes of an experiment file. Refuse a file without a class that the study needs."""
    classes = load_classes(experiment)
    for source in _sources(content):
        if source.class_name not in classes:
            raise LosslineError(
                f"--experiment: {experiment}: defines no {source.class_name}; name the file that defines or imports it"
            )
    return classes


def _sources(content: dict[str, Any]) -> tuple[SourceFile, ...]:
    """Return the sources that a study.json states. A damaged one has none here, and `from_json` names the damage."""
    code = content.get("code")
    try:
        return tuple(from_json(SourceFile, source) for source in (code if isinstance(code, list) else ()))
    except LosslineError:
        return ()


def _stand_ins(content: dict[str, Any]) -> dict[str, type]:
    """Return a class without code for each of a study's own classes in the content of a study.json."""
    sources = {source.class_name: source for source in _sources(content)}
    classes: dict[str, type] = {}
    runs = content.get("runs")
    for run in runs if isinstance(runs, list) else ():
        for field, base in FIELDS.items():
            value = run.get(field) if isinstance(run, dict) else None
            if isinstance(value, dict) and str(value.get("type")) in sources:
                fields = [name for name in value if name != "type"]
                classes[value["type"]] = stand_in(sources[value["type"]], base, fields)
    return classes


def studies_below(root: str) -> list[str]:
    """Return the folders of the studies in a folder, in alphabetical order.

    Args:
        root: a local path or gs://.
    """
    folder = reachable_path(root)
    if not folder.is_dir():
        return []
    return [str(path) for path in sorted(folder.iterdir()) if path.name[0] != "." and (path / "study.json").exists()]


def index_from_environment() -> int | None:
    """Return the task index that SLURM, Kubernetes or SkyPilot has put into the environment. None: there is none.

    Raises:
        LosslineError: the variable is not a number.
    """
    for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "SKYPILOT_JOB_RANK"):
        if name in os.environ:
            try:
                return int(os.environ[name])
            except ValueError as error:
                raise LosslineError(f"{name}={os.environ[name]!r} is not a number; give --index") from error
    return None


def read_manifest(manifest: str, experiment: str | None = None) -> tuple[StudyConfig, StudyDir, list[str]]:
    """Read a manifest, and study.json from the same folder.

    Args:
        manifest: path of the manifest, or of the study's folder.
        experiment: as for `open_study`.

    Returns:
        The study, its folder, and the run ids in the order of the manifest.

    Raises:
        LosslineError: a file is missing, or a line of the manifest is not a run.
    """
    path = reachable_path(manifest)
    path = path if path.name.endswith(".jsonl") else path / "manifest.jsonl"
    if not path.exists():
        raise LosslineError(f"{path}: no such manifest; `lossline-jax plan STUDY.py --manifest` writes one")
    run_ids = [_run_of_line(index, *line) for index, line in enumerate(numbered_lines(path, "manifest"))]
    if not run_ids:
        raise LosslineError(f"{path}: the manifest has no run; write it again: lossline-jax plan STUDY.py --manifest")
    study, directory = open_study(str(path.parent), experiment)
    if missing := [run.run_id for run in study.runs if run.run_id not in run_ids]:
        fix = "write it again: lossline-jax plan --manifest"
        logs.info(f"{path}: {len(missing)} runs of the study are missing ({missing[0]}); {fix}")
    return study, directory, run_ids


def _run_of_line(index: int, where: str, line: str) -> str:
    """Return the run id of line `index` of a manifest, and check the index that the line itself has."""
    fields = parse_object(line, where)
    if not isinstance(fields.get("run_id"), str) or fields.get("index", index) != index:
        raise LosslineError(f"{where}: this is not run {index} of a manifest; write the manifest again")
    return fields["run_id"]


def read_manifest_run(manifest: str, index: int, experiment: str | None = None) -> tuple[StudyConfig, StudyDir, str]:
    """Read one run of a manifest.

    Args:
        manifest: path of the manifest, or of the study's folder.
        index: number of the line, counted from 0.
        experiment: as for `open_study`.

    Returns:
        The study, its folder and the run id.

    Raises:
        LosslineError: as for `read_manifest`; or the line does not exist, or its run is not in the study.
    """
    study, directory, run_ids = read_manifest(manifest, experiment)
    if not 0 <= index < len(run_ids):
        raise LosslineError(f"{manifest}: --index {index} is outside 0..{len(run_ids) - 1}")
    study.run_by_id(run_ids[index])
    return study, directory, run_ids[index]
