"""The flags of every verb, as dataclasses that the command line fills in. The docstrings are the text of `--help`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from lossline_jax.cli.read_tables import TableForm
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
class CheckOptions(UsesDevices, Place):
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
class Profiled:
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
class PruneOptions(Place):
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


@dataclass(frozen=True, kw_only=True)
class TableOptions(TableForm):
    """Columns of a table, and the columns that group its rows."""

    y: tuple[str, ...]
    """Columns (or, in a lossline table, evaluation sets) to fit or predict. A pattern in quotes stands for all that it
    matches: 'eval/*'."""
    x: str | None = None
    """Column or evaluation set on the horizontal axis."""
    by: tuple[str, ...] = ()
    """Columns whose values divide the rows into groups, with one fit per group."""
    across: str | None = None
    """Column whose values make pairs of models: x is the loss of one model of a pair, y the loss of the other."""
    unit: str | None = None
    """Loss column of a lossline table: nats_per_token, bits_per_byte, published_loss, ... Leave it out if the losses
    are columns of the table. Default: nats_per_token."""
    out: str | None = None
    """Write the result as JSON here."""
    merge_copies: bool = False
    """Count a run of one group that stands under two names once. Default: it is refused."""


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


@dataclass(frozen=True, kw_only=True)
class FitOptions(TableOptions):
    """Fit lines y = K (x - E_x)^kappa + E_y to any table of losses, or fit the law of --law."""

    law: str | None = None
    """A law of `lossline-jax laws` to fit instead of a line."""
    input: tuple[str, ...] = ()
    """Columns of the inputs of --law: N=params D=tokens. Default: the columns of the same names."""
    objective: str | None = None
    """Objective of --law: "log Huber", "Huber, delta 0.01", "log least squares" or "least squares". Default: the
    objective of its authors."""
    on: tuple[str, ...] = ()
    """Columns in which two models of --across must be equal."""
    e_x: str = "free"
    """E_x of a line: free, a number, or law: the E of the compute law of x (needs --params and --tokens)."""
    e_y: str = "free"
    """E_y of a line, with the same choices as E_x."""
    form: Literal["kaplan", "chinchilla"] = "kaplan"
    """Form of that compute law."""
    params: str | None = None
    """Column of parameter counts."""
    tokens: str | None = None
    """Column of training tokens."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TableForm):
    """Columns of a table for the comparison of settings."""

    x: str
    """Column or evaluation set on the horizontal axis."""
    y: str
    """Column or evaluation set on the vertical axis."""
    factors: tuple[str, ...] = ()
    """Columns that distinguish settings; runs equal in all of them are repetitions. Default: the columns data,
    tokenizer, architecture, size, context_length, optimiser, as far as the table has them."""
    base: tuple[str, ...] = ()
    """Levels that all other levels are compared with: data=wiki size=d64 ... Default: the levels of the setting with
    most neighbours."""
    unit: tuple[str, ...] = ()
    """Loss columns of a lossline table, one or several. Default: nats_per_token and bits_per_byte, as far as the table
    has them."""
    margin: float = 3.0
    """Number of noise floors. A gap that is surely smaller does not move the line."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True, kw_only=True)
class CompareTableOptions(CompareOptions):
    """Show which factor moves the line of one loss over another, for any table with the factors as columns."""

    out: str | None = None
    """Write lines and comparisons as JSON here."""


@dataclass(frozen=True, kw_only=True)
class ReportTableOptions(CompareOptions):
    """Write one HTML page of any table of losses, with verdicts, figures and tables."""

    out: str = "report"
    """Folder to write report.html and figures/ into."""
    title: str | None = None
    """Title of the page. Default: the name of the table."""


@dataclass(frozen=True, kw_only=True)
class FigureTableOptions(PaperOptions, CompareOptions):
    """Write figures of any table of losses in the size that a paper needs."""


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(TableOptions):
    """Columns of a table with sizes, tokens and budgets."""

    params: tuple[str, ...] = ("params_total",)
    """Columns of parameter counts, the usual one first. Several columns (with and without embeddings) are compared on
    held-out budgets."""
    tokens: str = "tokens_seen"
    """Column of training tokens."""
    flops: str | None = None
    """Column of training FLOPs. Default: 6 times parameters times tokens."""
    level: float = 0.9
    """Level of the intervals."""
    figure: str | None = None
    """Also draw the result into this file: .png, .pdf or .svg."""


@dataclass(frozen=True, kw_only=True)
class BacktestOptions(ForecastOptions):
    """Predict the largest budgets of a table from the smaller ones, and show the errors."""

    up_to: float | None = None
    """Largest budget to fit, in FLOPs. Default: all but the largest."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ForecastOptions):
    """Predict losses of a run that nobody trained, with an interval from backtests within the table.

    Give its size and tokens (--at-params, --at-tokens), its budget (--at-flops), or with --x another loss (--at-x).
    """

    at_params: tuple[float, ...] = ()
    """Parameters of the run: a value for each column of --params, or only for the first."""
    at_tokens: float | None = None
    """Training tokens of the run."""
    at_flops: float | None = None
    """Training FLOPs of the run. Without --at-params and --at-tokens they are split in the best way for the loss."""
    at_x: float | None = None
    """Loss of the run on --x."""
    only: tuple[str, ...] = ()
    """Predict series with one of these words in their names. Default: all."""


@dataclass(frozen=True)
class NewOptions:
    """Write a commented experiment, NAME.py, into this folder."""


@dataclass(frozen=True)
class LawsOptions:
    """List the laws that can be fitted, or show one of them in full."""

    law: Positional[tuple[str, ...]] = ()
    """One law, in quotes if its name has spaces. Default: list all laws."""


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


@dataclass(frozen=True)
class ImportLossesOptions:
    """Convert a published table of losses to the columns of a lossline table."""

    out: str
    """Table to write: .csv or .parquet."""
    schema: Literal["llms-on-the-line", "loss-to-loss"] | None = None
    """Format of the table's columns. Default: detected from the columns."""
