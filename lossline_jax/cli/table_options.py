"""The flags of the verbs on a table and on laws, as dataclasses. The docstrings are the text of `--help`."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from lossline_jax.cli.options import PaperOptions
from lossline_jax.cli.read_tables import TableForm


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


@dataclass(frozen=True, kw_only=True)
class FitOptions(TableOptions):
    """Fit lines y = K (x - E_x)^kappa + E_y to any table of losses, or fit the law of --law."""

    law: str | None = None
    """A law of `lossline-jax laws` to fit instead of a line."""
    input: tuple[str, ...] = ()
    """Columns of the inputs of --law: N=params D=tokens. A number is the value in every row: P_a=16. Default: the
    columns of the same names."""
    fix: tuple[str, ...] = ()
    """Parameters of --law that keep a given value: E=1.6 alpha=0.34."""
    share: tuple[str, ...] = ()
    """Parameters of --law with one value in all groups of --by: alpha beta."""
    budget: str | None = None
    """Column of the compute budget of each row, for the intervals of --law. Default: rows of equal N times D."""
    objective: str | None = None
    """Objective of --law: "log Huber", "Huber, delta 0.01", "log least squares" or "least squares". Default: the
    objective of its authors."""
    on: tuple[str, ...] = ()
    """Columns in which two models of --across must be equal."""
    e_x: str = "free"
    """E_x of a line: free, a number, or law: the E of the compute law of x (needs --params and --tokens)."""
    e_y: str = "free"
    """E_y of a line, with the same choices as E_x."""
    noise_x: float | None = None
    """Standard deviation of the noise of a checkpoint in x. The line is then not too flat because of this noise.
    Default: x is taken as exact."""
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
    tokenizer, architecture, size, context_length, optimiser, batch, algorithm, objective, sparsity and start, as far as
    the table has them."""
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
class SpeedupOptions(TableForm):
    """Show how much less compute a level of a factor needs for the same loss, with intervals and tests."""

    y: tuple[str, ...]
    """Columns (or, in a lossline table, evaluation sets) of losses. A pattern in quotes stands for all that it
    matches: 'eval/*'."""
    factors: tuple[str, ...] = ()
    """Columns that distinguish settings; runs equal in all of them are repetitions. Default: the columns data,
    tokenizer, architecture, size, context_length, optimiser, batch, algorithm, objective, sparsity and start, as far as
    the table has them."""
    base: tuple[str, ...] = ()
    """Levels that all other levels are compared with: data=wiki size=d64 ... Default: the levels of the setting with
    most neighbours."""
    unit: str | None = None
    """Loss column of a lossline table. Default: bits_per_byte, or else nats_per_token."""
    compute: str | None = None
    """Column of training FLOPs. Default: train_flops, or else 6 times params_total times tokens_seen."""
    params: str | None = None
    """Column of parameter counts, with --tokens: the compute is 6 times parameters times tokens."""
    tokens: str | None = None
    """Column of training tokens, with --params."""
    curve: Literal["auto", "measured", "power-law"] = "auto"
    """measured: the curve of each run through its checkpoints. power-law: L = E + A / C^alpha with an A for each level.
    auto: measured if half of the runs have four checkpoints or more and neither --fix nor --share is given."""
    fix: tuple[str, ...] = ()
    """Given parameters of the power law: E=1.6 alpha=0.5."""
    share: tuple[Literal["E", "alpha"], ...] = ()
    """Parameters of the power law that have one value for all levels: E alpha. Others are each level's own. Default:
    both, unless the exponents of the levels differ (5%)."""
    last: bool = False
    """Use only the last checkpoint of each run, where a decaying learning rate has ended."""
    frontier: bool = False
    """Use only the point of least loss at each budget of a setting, as in a sweep of sizes at equal budgets."""
    margin: float = 1.1
    """A ratio. A speedup that surely lies within 1/1.1 and 1.1 is no difference."""
    merge_copies: bool = False
    """Count a run of one setting that stands under two names once. Default: it is refused."""
    out: str | None = None
    """Write the speedups as JSON here."""


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
class LawsOptions:
    """List the laws that can be fitted, or show one of them in full."""

    law: Positional[tuple[str, ...]] = ()
    """One law, in quotes if its name has spaces. Default: list all laws."""


@dataclass(frozen=True)
class ImportLossesOptions:
    """Convert a published table of losses to the columns of a lossline table."""

    out: str
    """Table to write: .csv or .parquet."""
    schema: Literal["llms-on-the-line", "loss-to-loss"] | None = None
    """Format of the table's columns. Default: detected from the columns."""
