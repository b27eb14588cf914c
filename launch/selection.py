"""Which runs of a manifest a launcher starts, and how its command begins and ends."""

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
    """The flags that every launcher has."""

    manifest: tyro.conf.Positional[str]
    """The manifest.jsonl of `lossline-jax plan STUDY.py --manifest`, or its study's folder: on a disk or gs://."""
    dry_run: bool = False
    """Print what would be submitted, and submit nothing."""
    failed: bool = False
    """Also the runs that failed."""


@dataclass(frozen=True)
class Chosen:
    """The runs of a manifest that are not done, and where they live."""

    study: StudyConfig
    folder: StudyDir
    runs: Resubmission

    @property
    def manifest(self) -> str:
        return f"{self.folder.root}/manifest.jsonl"

    def words(self, index: int | str) -> list[str]:
        """Words of the `lossline-jax` command that does run `index`."""
        return ["run", "--manifest", self.manifest, "--index", str(index)]


def choose(options: Selection) -> Chosen:
    """The runs to start; what is left out is said on stderr."""
    study, folder, run_ids = study_files.read_manifest(options.manifest)
    folder = StudyDir(absolute(folder.root))
    if not folder.prepared_file.exists():
        raise LosslineError(f"{folder.root}: not prepared; run `lossline-jax prepare` first")
    runs = resubmission(study, folder, run_ids, options.failed)
    for note in runs.notes:
        logs.info(note)
    return Chosen(study, folder, runs)


def program(command: str) -> list[str]:
    """The words of a command, with `~` as a shell takes it."""
    return [expanded(word) for word in shlex.split(command)]


def must_be_given(options: Selection, *names: str) -> None:
    """Refuse settings that only a site can know and that nobody gave.

    Raises:
        LosslineError: naming the flags.
    """
    missing = [f"--{name.replace('_', '-')}" for name in names if not getattr(options, name)]
    if missing:
        raise LosslineError(f"{', '.join(missing)}: not given, and there is no default; --help says what each takes")


def main(kind: type[Options], launch: Callable[[Options, Chosen], int], description: str) -> None:
    """Parse the flags, choose the runs, launch them, exit with what `launch` returns."""
    logs.take_any_text()
    options = tyro.cli(kind, description=description.splitlines()[0])
    try:
        sys.exit(launch(options, choose(options)))
    except LosslineError as error:
        logs.warning(f"{sys.argv[0]}: {shown(str(error))}")
        sys.exit(error.exit_code)
