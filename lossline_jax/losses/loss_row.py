"""The columns of the losses table: one row for each checkpoint and evaluation set."""

import dataclasses
from dataclasses import dataclass

FACTOR_COLUMNS = ("data", "tokenizer", "architecture", "size", "context_length", "optimiser", "seed")


@dataclass(frozen=True)
class CheckpointFacts:
    """The columns that are equal in all rows of one checkpoint."""

    study: str
    run_id: str
    # factors of the study
    data: str
    tokenizer: str
    architecture: str
    size: str
    context_length: int
    optimiser: str
    seed: int
    # sizes and position
    params_total: int
    params_embedding: int  # input and output embedding matrices, learned positions
    params_non_embedding: int
    vocab_size: int
    step: int
    tokens_seen: int | None  # None: not known, of an imported model
    train_flops: float | None  # by accounting.train_flops_per_token x tokens_seen: attention and scan included


@dataclass(frozen=True)
class SetFacts:
    """The columns that describe an evaluation set."""

    eval_set: str
    eval_kind: str  # "validation" or "task"
    eval_fingerprint: str  # of the tokenised rows that were scored
    loss_definition: str  # in words: what is averaged over what, in which context


@dataclass(frozen=True)
class SetScore:
    """The columns of one checkpoint on one set. Losses that do not apply are None.

    For a task the losses are those of the correct options. Standard errors are clustered by document or item.
    """

    nats_per_token: float  # validation: token-weighted; task: the correct option, per token
    bits_per_byte: float  # over exactly the bytes of the scored text
    nats_sum: float  # of all scored tokens; task: of the correct options
    nats_per_token_standard_error: float
    bits_per_byte_standard_error: float
    nats_per_token_document_mean: float | None  # validation: mean over documents of each one's nats/token
    nats_per_token_document_mean_standard_error: float | None
    nats_per_token_all_options: float | None  # task: mean over all options, right and wrong, of each one's nats/token
    nats_per_token_all_options_standard_error: float | None
    accuracy: float | None  # task: the option with the lowest nats sum is the correct one
    accuracy_standard_error: float | None
    accuracy_per_char: float | None  # the same by nats a character; the delimiter that joins an option is not counted
    accuracy_per_char_standard_error: float | None
    accuracy_per_byte: float | None  # the same by nats a byte of the scored text
    accuracy_per_byte_standard_error: float | None
    num_tokens: int  # scored; task: of the correct options
    num_bytes: int  # of the scored text
    n: int  # documents, or items of a task


@dataclass(frozen=True)
class LossRow(SetScore, SetFacts, CheckpointFacts):  # a dataclass takes the fields of its last base first
    """One checkpoint on one evaluation set."""


COLUMNS = tuple(field.name for field in dataclasses.fields(LossRow))
LOSS_COLUMNS = tuple(
    name
    for name in COLUMNS
    if name.startswith(("nats_per", "bits_per", "accuracy")) and not name.endswith("_standard_error")
)
