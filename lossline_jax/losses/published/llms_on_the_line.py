"""Reader of the table of "LLMs on the Line" (arXiv 2502.12120), which has one row for each checkpoint.

The meaning of a column is taken from the authors' `process_data.py` and `main.py`, which write the table.
The authors scored their own models and public models with different programs, so one column has two definitions.
See `_own_meaning` and `_public_meaning`.
"""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.published.rows import Meaning, PublishedSet, counts, numbers, row_name, rows_of_ours, words

NEEDS = ("Name", "Architecture", "Pretraining Data", "Tokenizer", "Steps", "Size", "Tokens")

# Settings of a run that the factors of lossline do not cover. A cell is empty if the run's configuration has no value.
SETTINGS = (
    "Layer Norm",
    "Rope",
    "Attention Type",
    "Position Embedding",
    "FFN Activation",
    "Dropout",
    "GPT Init",
    "Bias",
    "Weight Tying",
    "Llama Linear",
)

# Columns that are no evaluation set. "Test Loss" repeats the run's own validation loss.
_NO_SETS = {"Train Loss", "Test Loss"}
_SAME_SET = {  # the authors' name -> the name in lossline
    "the_pile_uc": "pile_uc",
    "fineweb_edu_100bt": "fineweb_edu",
    "slimpajama_shuffled": "slimpajama",
    "commonsenseqa": "commonsense_qa",
}
_OPTIMISERS = {"adam": "adam_l2"}  # the authors' Adam adds the weight penalty to the gradient
_MMLU = {"mmlu", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other"}
# Tokens of a window of a public model. It is the authors' batch size, because their program cuts the sequence by it.
_PUBLIC_WINDOW = {"slimpajama": 16}
_PUBLIC_WINDOW_ELSE = 50


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the published table in the schema of the losses table.

    Args:
        frame: the published table.

    Returns:
        The columns that `rows_of_ours` returns.

    Raises:
        LosslineError: a row has no name, a cell does not fit its column, or two columns are of one set.
    """
    row_numbers = pd.Series(range(1, len(frame) + 1), index=frame.index)  # of the published table, from 1, no header
    frame = frame.dropna(how="all").drop_duplicates()
    nameless = frame.loc[:, "Name"].isna().to_numpy(bool)
    if nameless.any():
        raise LosslineError(f"{row_name(frame, int(np.argmax(nameless)))}: no Name")
    is_public = _is_public(frame)
    facts, sets = _facts(frame, is_public, row_numbers.loc[frame.index]), _sets(frame)
    parts = [
        rows_of_ours(frame.loc[mask], facts.loc[mask], sets, meaning)
        for mask, meaning in ((~is_public, _own_meaning(frame.loc[~is_public])), (is_public, _public_meaning))
        if mask.any()
    ]
    return pd.concat(parts, ignore_index=True)


def _is_public(frame: pd.DataFrame) -> pd.Series:
    """Return which rows are of models that the authors did not train.

    The column `Hugging Face` has the answer. Without it, a row without `Train Loss` is public: the authors' script
    keeps no own run without one.
    """
    if "Hugging Face" not in frame.columns:
        if "Train Loss" not in frame.columns:
            raise LosslineError(
                "it has neither a column 'Hugging Face' nor 'Train Loss', so own and public models look the same; "
                "use the authors' complete table"
            )
        return frame.loc[:, "Train Loss"].isna()
    flags = frame.loc[:, "Hugging Face"].astype("string").str.lower().map({"true": True, "false": False})
    if (unknown := flags.isna().to_numpy(bool)).any():
        row = int(np.argmax(unknown))
        value = frame["Hugging Face"].iloc[row]
        raise LosslineError(f"{row_name(frame, row)}: 'Hugging Face' is {value!r}, not True or False")
    return flags.astype(bool)


def _facts(frame: pd.DataFrame, is_public: pd.Series, row_numbers: pd.Series) -> pd.DataFrame:
    run_id, tokens = _identities(frame, is_public, row_numbers)
    width, depth = (counts(frame, column).astype("string") for column in ("Dimensions", "# Layers"))
    return pd.DataFrame(
        {
            "study": np.where(is_public, "llms-on-the-line-public", "llms-on-the-line"),
            "run_id": run_id,
            "data": words(frame, "Pretraining Data"),
            "tokenizer": words(frame, "Tokenizer"),
            "architecture": words(frame, "Architecture").str.lower(),
            "size": "d" + width + "-L" + depth,
            "context_length": counts(frame, "Context Length"),
            "optimiser": _optimisers(frame),
            "params_total": counts(frame, "Size"),
            "step": counts(frame, "Steps"),
            "tokens_seen": tokens,
            "variant": _variants(frame),
        },
        index=frame.index,
    )


def _identities(frame: pd.DataFrame, is_public: pd.Series, row_numbers: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return run ids that are unique together with the step, and the tokens seen, null where they are not credible.

    The authors parse a public model's step from its revision, and fill in the tokens by name and step. All revisions
    of one model whose step cannot be parsed have the tokens of the last revision.
    """
    names, tokens = words(frame, "Name").str.strip(), counts(frame, "Tokens")
    checkpoints = pd.DataFrame({"name": names, "step": numbers(frame, "Steps"), "tokens": tokens})
    repeated = checkpoints.duplicated(["name", "step"], keep=False)
    levels = checkpoints.groupby(["name", "step"], dropna=False)["tokens"].transform("nunique")
    run_ids = names.where(~repeated, names + " (row " + row_numbers.astype("string") + ")")
    return run_ids, tokens.mask(repeated & is_public & (levels == 1))


def _optimisers(frame: pd.DataFrame) -> pd.Series:
    """Return the optimisers as `adamw-cosine-lr0.003-wd0.033`. The label is null if one of the four parts is null."""
    rate, decay = (
        numbers(frame, column).map(lambda v: f"{v:g}", na_action="ignore").astype("string")
        for column in ("Learning Rate", "Weight Decay")
    )
    name = words(frame, "Optimizer").str.lower().replace(_OPTIMISERS)
    return name + "-" + words(frame, "Scheduler").str.lower() + "-lr" + rate + "-wd" + decay


def _variants(frame: pd.DataFrame) -> pd.Series:
    """Return the `SETTINGS` of each row as `Rope=True; Bias=False`, or null if the row has none."""
    present = [name for name in SETTINGS if name in frame.columns]
    texts = [
        "; ".join(f"{name}={value}" for name, value in zip(present, row, strict=True) if pd.notna(value))
        for row in frame[present].itertuples(index=False)
    ]
    return pd.Series(texts, index=frame.index, dtype="string").replace("", pd.NA)


def _sets(frame: pd.DataFrame) -> list[PublishedSet]:
    """Return every set that the columns name, validation sets first."""
    validation, losses, accuracies = [], {}, {}
    for column in frame.columns:
        if column.endswith(" Validation Loss"):
            validation.append(PublishedSet(_set_name(column, " Validation Loss"), "validation", loss=column))
        elif column.endswith(" Loss") and column not in _NO_SETS:
            losses[column] = _set_name(column, " Loss")
        elif column.endswith(" Accuracy"):
            accuracies[column] = _set_name(column, " Accuracy")
    for names in (
        Counter(published_set.name for published_set in validation),
        Counter(losses.values()),
        Counter(accuracies.values()),
    ):
        if twice := [name for name, times in names.items() if times > 1]:
            raise LosslineError(f"two columns have the same number of set {twice[0]!r}; remove one")
    loss_of, accuracy_of = (
        {name: column for column, name in name_of_column.items()} for name_of_column in (losses, accuracies)
    )
    tasks = [
        PublishedSet(name, "task", loss=loss_of.get(name), accuracy=accuracy_of.get(name))
        for name in dict.fromkeys((*loss_of, *accuracy_of))
    ]
    return validation + tasks


def _set_name(column: str, ending: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", column.removesuffix(ending).lower()).strip("_")
    return _SAME_SET.get(plain, plain)


def _own_meaning(frame: pd.DataFrame) -> Callable[[PublishedSet], Meaning]:
    """Return the function that defines the losses of the models that the authors trained, for the rows of `frame`."""
    context = counts(frame, "Context Length").astype("string").fillna("its training context of unstated") + " tokens"
    context = context.mask(words(frame, "Architecture").str.lower() == "mamba", "16k tokens")
    documents = "mean over up to 5000 documents of each one's nats/token; each cut after " + context

    def meaning(published_set: PublishedSet) -> Meaning:
        if published_set.kind == "validation":
            return Meaning(documents, "nats_per_token_document_mean")
        subjects = "; subjects weighted by their test items" if published_set.name in _MMLU else ""
        return Meaning(
            f"mean over all options, right and wrong, nats/token; one eighth of the items; 0-shot{subjects}",
            "nats_per_token_all_options",
        )

    return meaning


def _public_meaning(published_set: PublishedSet) -> Meaning:
    """Return the definition of a loss of public models."""
    if published_set.kind == "validation":
        window = _PUBLIC_WINDOW.get(published_set.name, _PUBLIC_WINDOW_ELSE)
        return Meaning(
            f"token-weighted; windows of {window} tokens without context, the first token of each not scored; up to "
            "5000 documents, each cut after the model's own context or 2048 tokens",
            "nats_per_token",
        )
    if published_set.name in _MMLU:
        return Meaning("mean over items of the correct option's nats, not divided by its tokens; 0-shot")
    return Meaning("mean over items of the correct option's nats divided by its tokens less one (at least 1); 0-shot")
