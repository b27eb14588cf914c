"""The parts that all launchers share: the choice of runs from a manifest, and the main function."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tyro

from lossline_jax import logs
from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.formatting import shown
from lossline_jax.pipeline import study_files
from lossline_jax.status.resubmit import Resubmission, resubmission
from lossline_jax.storage.files import absolute
from lossline_jax.storage.object_store import expanded
from lossline_jax.storage.paths import StudyDir

Options = TypeVar("Options", bound="Selection")


@dataclass(frozen=True)
class Selection:
    """The flags of every launcher."""

    manifest: tyro.conf.Positional[str]
    """The manifest.jsonl of `lossline-jax plan STUDY.py --manifest`, or its study's folder: on a disk or gs://."""
    dry_run: bool = False
    """Print what would be submitted, and submit nothing."""
    failed: bool = False
    """Start the runs that failed too."""


@dataclass(frozen=True)
class Chosen:
    """The runs of a manifest to start, with their study and its folder."""

    study: StudyConfig
    folder: StudyDir
    runs: Resubmission

    @property
    def manifest(self) -> str:
        """The path of the manifest."""
        return f"{self.folder.root}/manifest.jsonl"

    def words(self, index: int | str) -> list[str]:
        """Return the arguments of `lossline-jax` that train and evaluate run `index`."""
        return ["run", "--manifest", self.manifest, "--index", str(index)]


def choose(options: Selection) -> Chosen:
    """Return the runs to start. Messages on stderr name the runs that are left out.

    Args:
        options: the flags of the launcher.

    Raises:
        LosslineError: there is no manifest, or the study is not prepared.
    """
    study, folder, run_ids = study_files.read_manifest(options.manifest)
    folder = StudyDir(absolute(folder.root))
    if not folder.prepared_file.exists():
        raise LosslineError(f"{folder.root}: not prepared; run `lossline-jax prepare` first")
    runs = resubmission(study, folder, run_ids, options.failed)
    for note in runs.notes:
        logs.info(note)
    return Chosen(study, folder, runs)


def program(command: str) -> list[str]:
    """Split a command into words, and expand `~` as a shell does."""
    return [expanded(word) for word in shlex.split(command)]


def must_be_given(options: Selection, *names: str) -> None:
    """Check that the settings without a default were given, because only a site can know them.

    Args:
        options: the flags of the launcher.
        *names: names of the settings.

    Raises:
        LosslineError: settings are missing. The message names their flags.
    """
    missing = [f"--{name.replace('_', '-')}" for name in names if not getattr(options, name)]
    if missing:
        raise LosslineError(f"{', '.join(missing)}: not given, and there is no default; --help says what each takes")


def main(kind: type[Options], launch: Callable[[Options, Chosen], int], description: str) -> None:
    """Parse the flags, choose the runs, launch them, and exit with the code that `launch` returns.

    Args:
        kind: the class of the launcher's flags.
        launch: starts the runs and returns an exit code.
        description: the launcher's docstring. --help shows its first line.
    """
    logs.take_any_text()
    options = tyro.cli(kind, description=description.splitlines()[0])
    try:
        sys.exit(launch(options, choose(options)))
    except LosslineError as error:
        logs.warning(f"{sys.argv[0]}: {shown(str(error))}")
        sys.exit(error.exit_code)
