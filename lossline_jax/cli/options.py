"""The flags of the verbs on a study, as dataclasses. The docstrings are the text of `--help`."""

from dataclasses import dataclass
from typing import Literal

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.distributed.chips import ASSUMED_UTILISATION
from lossline_jax.weights.imported_model import ModelFacts


@dataclass(frozen=True)
class Place:
    """Flags that every verb has."""

    root: str = "studies"
    """Folder that holds the study's folder: a local path or gs://."""


class UsesDevices:
    """A mark of verbs to which `--execution.*` matters, now or through study.json. The other verbs do not have it."""


@dataclass(frozen=True)
class PrepareOptions(UsesDevices, Place):
    """Make corpora, tokenizers, token stores and evaluation sets."""


@dataclass(frozen=True)
class PlanOptions(UsesDevices, Place):
    """Show the runs of a study and their costs before anything is computed."""

    manifest: bool = False
    """Also write manifest.jsonl, with one run per line, and study.json into the study's folder."""
    utilisation: float = ASSUMED_UTILISATION
    """Fraction of a chip's peak FLOPs that training is assumed to reach, for the chip-hours."""
    chip: str | None = None
    """Also plan the runs on chips of this kind: v4, v5e, v5p, v6e, a100, h100, h200; with --devices."""
    devices: int = 1
    """Number of chips per run. --execution.model-parallel and --execution.data-parallel give the mesh."""
    price: float | None = None
    """Dollars that an hour of one chip of --chip costs you. Default: its price on demand in 2025."""


@dataclass(frozen=True)
class OwnCode:
    """A flag of verbs that need the code of a study's own classes."""

    experiment: str | None = None
    """Experiment file of a study that is named by its folder and has an objective, an algorithm or an optimiser of its
    own. The file is executed. Other studies need none."""


@dataclass(frozen=True)
class CheckOptions(OwnCode, UsesDevices, Place):
    """Compile the study's programs for a TPU slice without that slice, and check them by the rules of docs/scale.md."""

    topology: str = "v5e:4x4"
    """The slice: v5e:4x4, v5p:2x2x2, v4:2x2x2, ..."""
    only: tuple[str, ...] = ()
    """Runs to compile for, as for --only of `train`. Default: all. Runs of equal shape compile once."""


@dataclass(frozen=True)
class OnDevices(UsesDevices):
    """Flags of verbs that use the devices."""

    processes: ProcessesConfig = ProcessesConfig()


@dataclass(frozen=True)
class Profiled(OwnCode):
    """Flags of verbs that train."""

    profile: int | None = None
    """Number of steps to trace in the first run that is trained. The trace goes into its folder: see
    docs/running.md."""


@dataclass(frozen=True)
class SomeRuns(OnDevices, Place):
    """Flags of verbs that work on all or on some runs of a study."""

    only: tuple[str, ...] = ()
    """Runs to work on: ids, starts of ids, or numbers, as `lossline-jax plan` lists them. Default: all."""


@dataclass(frozen=True)
class TrainOptions(Profiled, SomeRuns):
    """Train the runs of a study."""


@dataclass(frozen=True)
class RunOptions(Profiled, OnDevices, Place):
    """Prepare, train, evaluate, fit and report a study."""


@dataclass(frozen=True)
class EvaluateOptions(SomeRuns):
    """Score checkpoints on every evaluation set."""

    checkpoint: tuple[str, ...] = ()
    """Folders of models from elsewhere. Only these models (and runs of --only) are scored. A folder has Hugging Face
    safetensors, or is made by `lossline-jax import-weights`, which can give the data, steps and tokens for the rows."""
    follow: bool = False
    """Wait for checkpoints of runs that other processes train, and score each new one until all runs have ended."""
    poll_seconds: float = 30.0
    """Seconds that --follow waits between two searches for new checkpoints."""


@dataclass(frozen=True)
class ExportOptions(Place):
    """Write a checkpoint as a folder of safetensors that transformers loads."""

    out: str | None = None
    """Folder to make. Default: exported/RUN."""
    run: str | None = None
    """A run, as for --only of `train`; an imported model needs none."""
    step: int | None = None
    """Step of the checkpoint. Default: the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights in the file."""
    tokenizer: bool = True
    """Also write tokenizer.json."""


@dataclass(frozen=True)
class ReportOptions(Place):
    """Write the report of a study, or serve it while the study runs."""

    out: str | None = None
    """Folder to write report.html and figures/ into. Default: the study's own report/."""
    watch: bool = False
    """Serve the page, only to this machine, with the progress of every run. It is updated when rows are added."""
    port: int = 8000
    """Port of --watch; 0 for any free port."""


@dataclass(frozen=True)
class PaperOptions:
    """The size of figures for a paper."""

    only: tuple[str, ...] = ()
    """Names of figures, such as residual, forest or line. Default: all figures of the report."""
    width: str | None = None
    """Width of a figure: 3.3in, 8.4cm, 84mm or 240pt. Default: as on the page."""
    font: float | None = None
    """Size of the letters in points. Default: 8.5."""
    panel: int = 0
    """Number of the only panel to draw, from 1. Default: all panels."""
    out: str = "figures"
    """Folder to write NAME.png, NAME.pdf and NAME.svg into."""


@dataclass(frozen=True)
class FigureOptions(PaperOptions, Place):
    """Write figures of the report of a study in the size that a paper needs."""


@dataclass(frozen=True)
class StatusOptions(Place):
    """Show the progress of a study, or of all studies below a folder."""

    json: bool = False
    """Print JSON for other programs: state, step, loss and age of the heartbeat of every run."""


@dataclass(frozen=True)
class StatusOfRootOptions:
    """Show one line for each study below a folder."""

    json: bool = False
    """Print JSON for other programs."""


@dataclass(frozen=True)
class PruneOptions(UsesDevices, Place):
    """Remove what a study no longer needs: old moments of its checkpoints, and files that a killed process left.

    Without --yes, the command only lists what it would remove. It never removes what a running process holds.
    """

    yes: bool = False
    """Remove. Default: only list."""
    other_runs: bool = False
    """Also remove the runs in the folder that are not part of the study, with their losses."""
    removed_runs: bool = False
    """Also remove the losses of runs whose folder was deleted by hand. The fits then no longer count these runs."""


@dataclass(frozen=True)
class ShowOptions(Place):
    """Show the results of a study in the terminal."""

    run: str | None = None
    """A run, by its id, its number in the plan, or the start of its id: show its configuration and progress instead."""


@dataclass(frozen=True)
class FitStudyOptions(Place):
    """Fit the lines of a study, and compare them."""

    out: str | None = None
    """Also write the fits as JSON here. They are kept in the study's folder too, if it is writable."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class CompareStudyOptions(Place):
    """Show which factor moves the line of a study."""

    out: str | None = None
    """Write lines and comparisons as JSON here."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class NewOptions:
    """Write a commented experiment, NAME.py, into this folder."""


@dataclass(frozen=True, kw_only=True)
class ManifestOptions(Profiled, OnDevices):
    """Train and evaluate one run of a study. A second call does nothing more."""

    manifest: str
    """The manifest.jsonl that `lossline-jax plan STUDY.py --manifest` wrote."""
    index: int | None = None
    """Line to run, from 0. Default: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK."""


@dataclass(frozen=True)
class ResubmitOptions(Place):
    """Print the indices of the runs that are not done, in the form for an array of jobs of a scheduler: 0,3,5-7."""

    failed: bool = False
    """Also print failed runs. Default: leave them out, since a failed run fails again."""


@dataclass(frozen=True)
class ImportOptions(ModelFacts):
    """Convert a Hugging Face folder (config.json, tokenizer.json, safetensors) for `lossline-jax evaluate`."""

    out: str | None = None
    """Folder to make, or to add this step to. Default: imported/NAME."""
