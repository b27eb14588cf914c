"""The parts that all launchers share: the choice of runs from a manifest, and the main function."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import tyro
from etils import epath

from lossline_jax import logs
from lossline_jax.cli import complaints
from lossline_jax.cli.main import PIPE_EXIT_CODE
from lossline_jax.config.custom import require_code
from lossline_jax.config.study import StudyConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import shown
from lossline_jax.pipeline import study_files
from lossline_jax.pipeline.experiment import load_study_function
from lossline_jax.status.resubmit import Resubmission, Standing, resubmission
from lossline_jax.storage.files import absolute, is_remote
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.paths import StudyDir

Options = TypeVar("Options", bound="Selection")

# Names that stand for a reader's own names in documentation, such as my-project, YOUR_BUCKET, PROJECT and P.
OWN = "account|bucket|cluster|image|org|project|registry|repo|zone"
PLACEHOLDER = re.compile(f"(?i:(?:my|your)[-_](?:{OWN}))|[BCPZ]|ADDRESS|BUCKET|CLUSTER|HOST|IMAGE|PROJECT|REPO|ZONE")

AT_LEAST_ONE = {
    "cpus_per_task", "nodes", "preemptions", "processes", "runs_at_once", "slices", "tasks_per_node", "throttle"
}  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """The flags of every launcher."""

    manifest: tyro.conf.Positional[str]
    """The manifest.jsonl of `lossline-jax plan STUDY.py --manifest`, or its study's folder: on a disk or gs://. With
    --dry-run also an experiment file, of which nothing need be prepared."""
    dry_run: bool = False
    """Print what would be submitted, and submit nothing. Neither prepared data nor a bucket is needed."""
    root: str = "studies"
    """Folder of the study's folder, for the dry run of an experiment file: a local path or gs://."""
    failed: bool = False
    """Start the runs that failed too."""
    experiment: str = ""
    """Experiment file of a study with an objective, an algorithm or an optimiser of its own. It must have this path on
    the machines too, where every run executes it. Other studies need none."""


@dataclass(frozen=True)
class Chosen:
    """The runs of a manifest to start, with their study and its folder."""

    study: StudyConfig
    folder: StudyDir
    runs: Resubmission
    experiment: str = ""  # file with the classes of the study's own; empty: it has none

    @property
    def manifest(self) -> str:
        """The path of the manifest."""
        return f"{self.folder.root}/manifest.jsonl"

    def words(self, index: int | str) -> list[str]:
        """Return the arguments of `lossline-jax` that train and evaluate run `index`."""
        words = ["run", "--manifest", self.manifest, "--index", str(index)]
        return [*words, "--experiment", self.experiment] if self.experiment else words


def choose(options: Selection) -> Chosen:
    """Return the runs to start. Messages on stderr name the runs that are left out.

    Args:
        options: the flags of the launcher.

    Raises:
        LosslineError: there is no manifest, the study is not prepared, or the code of its own classes is not named. A
            dry run only warns that a study is not prepared.
    """
    if options.manifest.endswith(".py"):
        return _of_experiment(options)
    _refuse_placeholders("MANIFEST", options.manifest.partition("://")[2].split("/")[0])
    study, folder, run_ids = study_files.read_manifest(options.manifest, options.experiment or None)
    require_code(study.runs, study.code)
    folder = StudyDir(absolute(folder.root))
    if folder.prepared_file.exists():
        runs = resubmission(study, folder, run_ids, options.failed)
    elif options.dry_run:
        logs.warning(f"dry run: {folder.root} is not prepared; a start needs `lossline-jax prepare` first")
        runs = _all_open(run_ids, options)
    else:
        raise LosslineError(f"{folder.root}: not prepared; run `lossline-jax prepare` first")
    for note in runs.notes:
        logs.info(note)
    return Chosen(study, folder, runs, options.experiment)


def _of_experiment(options: Selection) -> Chosen:
    """Return all runs of an experiment file, for a dry run. Neither the file system nor a bucket is asked for them."""
    source = options.manifest
    if not options.dry_run:
        make = f"lossline-jax plan {source} --root {options.root} --manifest"
        raise LosslineError(f"{source}: an experiment file is for --dry-run; a start needs its manifest: {make}")
    _refuse_placeholders("--root", options.root.partition("://")[2].split("/")[0])
    study = validate_study(load_study_function(source)(), source)
    folder = StudyDir(absolute(epath.Path(expanded(options.root))) / study.name)
    logs.warning(
        f"dry run of {source} with its default knobs: all {len(study.runs)} runs; a start needs `lossline-jax prepare` "
        f"and `lossline-jax plan --manifest`, both with --root {options.root}"
    )
    return Chosen(study, folder, _all_open([run.run_id for run in study.runs], options))


def _all_open(run_ids: Sequence[str], options: Selection) -> Resubmission:
    return Resubmission(tuple(Standing(k, run_id, "open") for k, run_id in enumerate(run_ids)), options.failed)


def require_bucket(options: Selection, chosen: Chosen, who: str) -> None:
    """Check that the study is in a bucket. A dry run only warns.

    Args:
        options: the flags of the launcher.
        chosen: the runs.
        who: the machines that cannot see the disk of this one.

    Raises:
        LosslineError: the study is on a disk.
    """
    if is_remote(chosen.folder.root):
        return
    reason = f"{chosen.folder.root}: {who} do not see this disk; make the study with --root gs://..."
    if not options.dry_run:
        raise LosslineError(reason)
    logs.warning(f"dry run: {reason}")


def require_extras(package: str, needed: Sequence[str]) -> None:
    """Check that a package has the extras without which no run starts on the paid machines.

    Args:
        package: the requirement that pip installs there.
        needed: the extras.

    Raises:
        LosslineError: an extra is missing.
    """
    extras = re.search(r"\[([^\]]*)\]", package)
    given = {word.strip() for word in (extras[1] if extras else "").split(",")}
    if missing := sorted(set(needed) - given):
        address = re.sub(r"^[^@/]*@\s*", "", package) if "://" in package else "ADDRESS"
        raise LosslineError(
            f"--package: {package} asks for no {' and no '.join(missing)}, without which no run starts there; "
            f"write 'lossline_jax[{','.join(needed)}] @ {address}'"
        )


def _refuse_placeholders(flag: str, *values: str) -> None:
    """Refuse a value with a part that documentation uses in place of a user's own name."""
    for value in values:
        parts = [part for part in re.split(r"[/:@\s]+", value) if part]
        found = [p for p in parts if "..." in p or "<" in p or _is_placeholder(p)]
        if found:
            raise LosslineError(f"{flag}: {found[0]!r} is a placeholder of the documentation; give your own")


def _is_placeholder(part: str) -> bool:
    return PLACEHOLDER.fullmatch(part) is not None


def program(command: str) -> list[str]:
    """Split a command into words, and expand `~` as a shell does."""
    return [expanded(word) for word in shlex.split(command)]


def must_be_given(options: Selection, *names: str) -> None:
    """Check that the settings without a default were given, and not with the placeholders of the documentation.

    Only a site can know them, so a dry run refuses them too.

    Args:
        options: the flags of the launcher.
        *names: names of the settings.

    Raises:
        LosslineError: settings are missing or are placeholders. The message names their flags.
    """
    missing = [f"--{name.replace('_', '-')}" for name in names if not getattr(options, name)]
    if missing:
        raise LosslineError(f"{', '.join(missing)}: not given, and there is no default; --help says what each takes")
    for name in names:
        _refuse_placeholders(f"--{name.replace('_', '-')}", getattr(options, name))


def main(kind: type[Options], launch: Callable[[Options, Chosen], int], description: str) -> None:
    """Parse the flags, choose the runs, launch them, and exit with the code that `launch` returns.

    Args:
        kind: the class of the launcher's flags.
        launch: starts the runs and returns an exit code.
        description: the launcher's docstring. --help shows its first line.
    """
    logs.take_any_text()
    prog, words = f"python {sys.argv[0]}", sys.argv[1:]
    try:
        options = complaints.parse(
            lambda: tyro.cli(kind, args=words, prog=prog, description=description.splitlines()[0]), words, prog
        )
        check_settings(options)
        code = launch(options, choose(options))
        sys.stdout.flush()
    except LosslineError as error:
        logs.warning(f"{sys.argv[0]}: {shown(str(error))}")
        code = error.exit_code
    except BrokenPipeError:
        if not logs.reader_has_left():
            raise
        code = PIPE_EXIT_CODE
    logs.finish()
    sys.exit(code)


def check_settings(options: object) -> None:
    """Refuse a setting that no engine could use.

    Args:
        options: the flags of a launcher.

    Raises:
        LosslineError: a count is too small, or the time limit of SLURM is not one.
    """
    for name, value in vars(options).items():
        flag = f"--{name.replace('_', '-')}"
        least = 1 if name in AT_LEAST_ONE else 0
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= least:
            raise LosslineError(f"{flag}: {value:g} is too small; give {least} or more")
        if name == "time" and not re.fullmatch(r"(\d+-)?\d+(:\d{1,2}){0,2}", str(value)):
            raise LosslineError(f"{flag}: {value!r} is no time limit of SLURM; write 24:00:00, 90 (minutes) or 2-00")
