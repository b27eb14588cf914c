"""The flags of every verb, as dataclasses that the command line fills in."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from lossline_jax.config.execution import ProcessesConfig
from lossline_jax.distributed.chips import ASSUMED_UTILISATION
from lossline_jax.weights.imported_model import ModelFacts


@dataclass(frozen=True)
class Place:
    """Flags that every verb has."""

    root: str = "studies"
    """Folder that holds the study's folder: a local path or gs://."""


@dataclass(frozen=True)
class PlanOptions(Place):
    manifest: bool = False
    """Also write manifest.jsonl, a run a line, and study.json into the study's folder."""
    utilisation: float = ASSUMED_UTILISATION
    """Share of a chip's peak FLOPs that training is assumed to reach, for the chip-hours."""
    chip: str | None = None
    """Also plan the runs on chips of this kind: v4, v5e, v5p, v6e, a100, h100, h200; with --devices."""
    devices: int = 1
    """How many of them a run gets; their mesh is that of --execution.model-parallel and --execution.data-parallel."""


@dataclass(frozen=True)
class CheckOptions(Place):
    """Compile the study's programs for a TPU slice that is not there, and hold them to the rules of docs/scale.md."""

    topology: str = "v5e:4x4"
    """The slice: v5e:4x4, v5p:2x2x2, v4:2x2x2, ..."""
    only: tuple[str, ...] = ()
    """Run ids to compile for, as `lossline-jax plan` lists them. Default: all, those of equal shape once."""


@dataclass(frozen=True)
class OnDevices:
    """Flags of verbs that use the devices."""

    processes: ProcessesConfig = ProcessesConfig()


@dataclass(frozen=True)
class Profiled:
    """Flags of verbs that train."""

    profile: int | None = None
    """Trace that many steps of the first run that is trained, into its folder: see docs/running.md."""


@dataclass(frozen=True)
class SomeRuns(OnDevices, Place):
    """Flags of verbs on all runs of a study or on some."""

    only: tuple[str, ...] = ()
    """Run ids to work on, as `lossline-jax plan` lists them. Default: all."""


@dataclass(frozen=True)
class TrainOptions(Profiled, SomeRuns):
    """Train the runs of a study."""


@dataclass(frozen=True)
class RunOptions(Profiled, OnDevices, Place):
    """Walk the whole road of a study."""


@dataclass(frozen=True)
class EvaluateOptions(SomeRuns):
    checkpoint: tuple[str, ...] = ()
    """Folders of models from elsewhere, to score these (and runs of --only) alone: of Hugging Face safetensors, or
    of `lossline-jax import-weights`, which can say what their rows state of data, steps and tokens."""
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
    """Run id, as `lossline-jax plan` lists them; an imported model needs none."""
    step: int | None = None
    """Which checkpoint. Default: the newest."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights in the file."""
    tokenizer: bool = True
    """Write tokenizer.json too."""


@dataclass(frozen=True)
class ReportOptions(Place):
    out: str | None = None
    """Folder to write report.html and figures/ into. Default: the study's own report/."""
    watch: bool = False
    """Serve the page to this machine alone, with the progress of every run, and renew it as rows come."""
    port: int = 8000
    """Of --watch; 0 for any that is free."""


@dataclass(frozen=True)
class ShowOptions(Place):
    run: str | None = None
    """A run id: show its configuration and progress instead of the results."""


@dataclass(frozen=True)
class TableOptions:
    """Columns of a table, and which of its rows belong together."""

    y: tuple[str, ...]
    """Column (or, in a lossline table, evaluation set) to fit or predict; several for --law, predict and backtest."""
    x: str | None = None
    """Column or evaluation set on the horizontal axis."""
    by: tuple[str, ...] = ()
    """Columns whose values divide the rows into groups, a fit each."""
    across: str | None = None
    """Column by whose values two models make a pair: x is the loss of the one, y that of the other."""
    unit: str | None = None
    """Which loss column of a lossline table: nats_per_token, bits_per_byte, published_loss, ... Losses that are columns
    take none. Default: nats_per_token."""
    out: str | None = None
    """Write the result as JSON here."""
    merge_copies: bool = False
    """Count a run of one group that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class FitStudyOptions(Place):
    out: str | None = None
    """Write the fits as JSON here too. They are kept in the study's folder wherever that may be written."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class CompareStudyOptions(Place):
    out: str | None = None
    """Write lines and comparisons as JSON here."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class FitOptions(TableOptions):
    """Fit lines y = K (x - E_x)^kappa + E_y to any table of losses, or with --law that law."""

    law: str | None = None
    """A law of `lossline-jax laws`, to be fitted instead of a line."""
    input: tuple[str, ...] = ()
    """Columns of the inputs of --law: N=params D=tokens. Default: the columns of the same names."""
    objective: str | None = None
    """What --law minimises: "log Huber", "Huber, delta 0.01", "log least squares" or "least squares". Default: what its
    authors did."""
    cluster: str | None = None
    """Column that names the run a row belongs to: bands, gaps and intervals of parameters resample whole runs. Default:
    run_id."""
    on: tuple[str, ...] = ()
    """Columns in which two models of --across must be equal."""
    e_x: str = "free"
    """E_x of a line: free, a number, or law: the E of the compute law of x (needs --params and --tokens)."""
    e_y: str = "free"
    """E_y, likewise."""
    form: Literal["kaplan", "chinchilla"] = "kaplan"
    """Form of that compute law."""
    params: str | None = None
    """Column of parameter counts."""
    tokens: str | None = None
    """Column of training tokens."""


@dataclass(frozen=True)
class CompareOptions:
    """Columns of a table whose settings are compared."""

    x: str
    """Column or evaluation set on the horizontal axis."""
    y: str
    """Column or evaluation set on the vertical axis."""
    factors: tuple[str, ...] = ()
    """Columns that tell settings apart; runs equal in all of them are repetitions. Default: those of data, tokenizer,
    architecture, size, context_length, optimiser that the table has."""
    base: tuple[str, ...] = ()
    """Levels that others are compared with: data=wiki size=d64 ... Default: of the setting with most neighbours."""
    run: str | None = None
    """Column that names the run a row belongs to. Default: run_id where there is one."""
    units: tuple[str, ...] = ()
    """Loss columns of a lossline table. Default: nats_per_token and bits_per_byte, those of them that it has."""
    margin: float = 3.0
    """In noise floors: a gap that is surely smaller does not move the line."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""


@dataclass(frozen=True)
class CompareTableOptions(CompareOptions):
    """Which factor moves the line of one loss over another? Of any table whose columns say what its runs were given."""

    out: str | None = None
    """Write lines and comparisons as JSON here."""


@dataclass(frozen=True)
class ReportTableOptions(CompareOptions):
    """One HTML page of any table of losses: verdicts, figures, tables."""

    out: str = "report"
    """Folder to write report.html and figures/ into."""
    title: str | None = None
    """Default: the name of the table."""


@dataclass(frozen=True)
class ForecastOptions(TableOptions):
    """Where a table has sizes, tokens and budgets."""

    params: tuple[str, ...] = ("params_total",)
    """Columns of parameter counts, the usual one first; several (with and without embeddings) are tried against each
    other on held-out budgets."""
    tokens: str = "tokens_seen"
    """Column of training tokens."""
    flops: str | None = None
    """Column of training FLOPs. Default: 6 times parameters times tokens."""
    cluster: str | None = None
    """Column that names the run of a row, where runs have several rows: they are held out together. Default: run_id."""
    level: float = 0.9
    """Of the intervals."""


@dataclass(frozen=True)
class BacktestOptions(ForecastOptions):
    """Predict the largest budgets of a table from the smaller ones, and say how far off that is."""

    up_to: float | None = None
    """Largest budget to fit, in FLOPs. Default: all but the largest."""


@dataclass(frozen=True)
class PredictOptions(ForecastOptions):
    """Predict losses of a run that nobody trained, with an interval from backtests within the table.

    From size and tokens (--at-params, --at-tokens), from a budget (--at-flops), or with --x from another loss (--at-x).
    """

    at_params: tuple[float, ...] = ()
    """Parameters of the run: a value for each column of --params, or the first alone."""
    at_tokens: float | None = None
    """Training tokens of the run."""
    at_flops: float | None = None
    """Training FLOPs of the run; alone, it is split into size and tokens as is best for the loss."""
    at_x: float | None = None
    """Its loss on --x."""
    only: tuple[str, ...] = ()
    """Predict series with one of these words in their names. Default: all."""


@dataclass(frozen=True)
class LawsOptions:
    """List the laws that can be fitted, or show one of them in full."""

    law: Positional[tuple[str, ...]] = ()
    """One law, in quotes where its name has spaces. Default: the list of all."""


@dataclass(frozen=True, kw_only=True)
class ManifestOptions(Profiled, OnDevices):
    """Do one run of a study: train it, evaluate it. Idempotent."""

    manifest: str
    """The manifest.jsonl that `lossline-jax plan STUDY.py --manifest` wrote."""
    index: int | None = None
    """Line to run, from 0. Default: SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX or SKYPILOT_JOB_RANK."""


@dataclass(frozen=True)
class ResubmitOptions:
    """Print the indices of the runs that are not done, as engines take them for an array of jobs: 0,3,5-7."""

    failed: bool = False
    """Also those that failed. Default: they are left out, since a failed run fails again."""


@dataclass(frozen=True)
class ImportOptions(ModelFacts):
    """Read a Hugging Face folder (config.json, tokenizer.json, safetensors) into one for `lossline-jax evaluate`."""

    out: str | None = None
    """Folder to make, or to add this step to. Default: imported/NAME."""


@dataclass(frozen=True)
class ImportLossesOptions:
    """Bring a published table of losses into the columns of lossline's own."""

    out: str
    """Table to write: .csv or .parquet."""
    schema: Literal["llms-on-the-line", "loss-to-loss"] | None = None
    """Whose columns they are. Default: told by the columns themselves."""
