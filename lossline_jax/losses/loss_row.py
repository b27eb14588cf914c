"""The columns of the losses table, which has one row for each checkpoint and evaluation set."""

import dataclasses
from dataclasses import dataclass

FACTOR_COLUMNS = (
    "data", "tokenizer", "architecture", "size", "context_length", "optimiser", "batch", "algorithm", "objective",
    "sparsity", "start", "seed",
)  # fmt: skip
# The levels of an ordinary run. Tables from before these columns have ordinary runs only.
ORDINARY_LEVELS = {
    "algorithm": "data-parallel",
    "objective": "next-token",
    "sparsity": "dense",
    "start": "scratch",
}
LATER_FACTORS = ("batch", *ORDINARY_LEVELS)  # columns that a table from before lacks


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """The columns that are the same in all rows of one checkpoint.

    A column with a default is later than the others. The default is its value in a row from before.
    """

    study: str
    run_id: str
    # The factors of the study (FACTOR_COLUMNS).
    data: str
    tokenizer: str
    architecture: str
    size: str
    context_length: int
    optimiser: str
    batch: int | None = None  # training tokens per step. None: not known
    algorithm: str = ORDINARY_LEVELS["algorithm"]
    objective: str = ORDINARY_LEVELS["objective"]
    sparsity: str = ORDINARY_LEVELS["sparsity"]
    start: str = ORDINARY_LEVELS["start"]
    seed: int
    # The model's size in parameters, and the position of the checkpoint in the run.
    params_total: int
    params_embedding: int  # the input and output embedding matrices, and learned positions
    params_non_embedding: int
    params_nonzero: int | None = None  # parameters that no mask holds at zero. None: not recorded
    # Bits of a matrix element of the blocks in a forward pass: `weight_bits`, or those of the compute dtype. None: not
    # recorded
    weight_bits: int | None = None
    vocab_size: int
    step: int
    tokens_seen: int | None  # None: not known, for an imported model
    unique_tokens: int | None = None  # of tokens_seen, those that are no repetition. None: not recorded
    # accounting.train_flops_per_token x tokens_seen x gradients per step, with attention and scan included. None:
    # tokens_seen is not known
    train_flops: float | None
    # train_flops and tokens_seen with those of the runs that this run began from or learned from. None: not recorded
    train_flops_lineage: float | None = None
    tokens_lineage: int | None = None


@dataclass(frozen=True)
class SetFacts:
    """The columns that describe an evaluation set."""

    eval_set: str
    eval_kind: str  # "validation" or "task"
    eval_fingerprint: str  # fingerprint of the tokenised rows that were scored
    loss_definition: str  # the loss in words: the quantity, the average, and the context


@dataclass(frozen=True)
class SetScore:
    """The columns with the scores of one checkpoint on one set. None: the loss does not apply to this kind of set.

    For a task, the losses are the losses of the correct options. Standard errors are clustered by document or item.
    """

    nats_per_token: float  # validation: token-weighted mean; task: nats of the correct options per token
    bits_per_byte: float  # per UTF-8 byte of exactly the scored text
    nats_sum: float  # sum over all scored tokens; task: over the tokens of the correct options
    nats_per_token_standard_error: float
    bits_per_byte_standard_error: float
    nats_per_token_document_mean: float | None  # validation: mean over documents of the document's nats/token
    nats_per_token_document_mean_standard_error: float | None
    nats_per_token_all_options: float | None  # task: mean over all options, right and wrong, of the option's nats/token
    nats_per_token_all_options_standard_error: float | None
    accuracy: float | None  # task: share of items whose correct option has the lowest sum of nats
    accuracy_standard_error: float | None
    # The same with nats per character. The delimiter between a context and an option is not counted.
    accuracy_per_char: float | None
    accuracy_per_char_standard_error: float | None
    accuracy_per_byte: float | None  # the same with nats per byte of the scored text
    accuracy_per_byte_standard_error: float | None
    num_tokens: int  # scored tokens; task: of the correct options
    num_bytes: int  # bytes of the scored text; task: of the correct options
    n: int  # documents, or items of a task


# A dataclass takes the fields of its last base first, so the bases are in reverse order of the columns.
@dataclass(frozen=True)
class LossRow(SetScore, SetFacts, CheckpointFacts):
    """A row of the losses table: one checkpoint on one evaluation set."""


COLUMNS = tuple(field.name for field in dataclasses.fields(LossRow))
LOSS_COLUMNS = tuple(
    name
    for name in COLUMNS
    if name.startswith(("nats_per", "bits_per", "accuracy")) and not name.endswith("_standard_error")
)
