"""The flags of every verb, as dataclasses that the command line fills in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossline_jax.imported import ModelFacts


@dataclass(frozen=True)
class Place:
    """Flags that every verb has."""

    root: str = "studies"
    """Folder that holds the study's folder: a local path or gs://."""


@dataclass(frozen=True)
class PlanOptions(Place):
    manifest: bool = False
    """Also write manifest.jsonl, a run a line, and study.json into the study's folder."""


@dataclass(frozen=True)
class SomeRuns(Place):
    only: tuple[str, ...] = ()
    """Run ids to work on, as `lossline plan` lists them. Default: all."""


@dataclass(frozen=True)
class EvaluateOptions(SomeRuns):
    checkpoint: tuple[str, ...] = ()
    """Folders of models from elsewhere, to score these (and runs of --only) alone: of Hugging Face safetensors, or
    of `lossline import-weights`, which can say what their rows state of data, steps and tokens."""
    follow: bool = False
    """Wait for checkpoints of runs that other processes train, and score them as they come, until all have ended."""
    poll_seconds: float = 30.0
    """How long --follow waits between two looks."""


@dataclass(frozen=True)
class ExportOptions(Place):
    """Write a checkpoint as a folder of safetensors that transformers loads."""

    out: str | None = None
    """Folder to make. Default: exported/RUN."""
    run: str | None = None
    """Run id, as `lossline plan` lists them; an imported model needs none."""
    step: int | None = None
    """Which checkpoint. Default: the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in the file."""
    tokenizer: bool = True
    """Write tokenizer.json too."""


@dataclass(frozen=True)
class ShowOptions(Place):
    run: str | None = None
    """A run id: show its configuration and progress instead of the results."""


@dataclass(frozen=True)
class FitOptions:
    """Fit lines to any table of losses."""

    losses: Path
    """Table: .csv, .parquet or .jsonl."""
    x: str
    """Column (or, in a lossline table, evaluation set) on the horizontal axis."""
    y: str
    """Column or evaluation set on the vertical axis."""
    by: tuple[str, ...] = ()
    """Columns whose values divide the rows into groups, a line each."""
    cluster: str | None = None
    """Column that names the run a row belongs to, so that intervals resample whole runs."""
    unit: str = "nats_per_token"
    """Which loss column of a lossline table: nats_per_token, bits_per_byte, published_loss, ...; ignored where x and y
    are columns."""
    out: Path | None = None
    """Write the fits as JSON here."""


@dataclass(frozen=True)
class ManifestOptions:
    """Do one run of a study: train it, evaluate it. Idempotent."""

    manifest: str
    """The manifest.jsonl that `lossline plan STUDY.py --manifest` wrote."""
    index: int | None = None
    """Line to run, from 0. Default: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK."""


@dataclass(frozen=True)
class ImportOptions(ModelFacts):
    """Read a Hugging Face folder (config.json, tokenizer.json, safetensors) into one for `lossline evaluate`."""

    out: str | None = None
    """Folder to make, or to add this step to. Default: imported/NAME."""


@dataclass(frozen=True)
class ImportLossesOptions:
    """Bring a published table of losses into the columns of lossline's own."""

    out: Path
    """Table to write: .csv or .parquet."""
    schema: Literal["llms-on-the-line", "loss-to-loss"] | None = None
    """Whose columns they are. Default: told by the columns themselves."""


STUDY_VERBS: dict[str, type] = {
    "plan": PlanOptions,
    "prepare": Place,
    "train": SomeRuns,
    "evaluate": EvaluateOptions,
    "fit": Place,
    "report": Place,
    "run": Place,
    "status": Place,
    "show": ShowOptions,
    "export-weights": ExportOptions,
}
