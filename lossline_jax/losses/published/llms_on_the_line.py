"""The table of "LLMs on the Line" (arXiv 2502.12120): a row a checkpoint, two definitions in columns of one name.

What the columns are is read from the authors' `process_data.py` and `main.py`, which write them. Rows of the
models that they trained and rows of public models were scored by different programs: see `_own` and `_public`.
"""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.published.rows import Meaning, PublishedSet, counts, numbers, row_name, rows_of_ours, words

NEEDS = ("Name", "Architecture", "Pretraining Data", "Tokenizer", "Steps", "Size", "Tokens")

# What a run may differ in without our factors saying so; empty unless its configuration names it.
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

_NO_SETS = {"Train Loss", "Test Loss"}  # the second is the run's own validation loss once more
_SAME_SET = {  # as the authors write it -> as a set of that name is called here
    "the_pile_uc": "pile_uc",
    "fineweb_edu_100bt": "fineweb_edu",
    "slimpajama_shuffled": "slimpajama",
    "commonsenseqa": "commonsense_qa",
}
_OPTIMISERS = {"adam": "adam_l2"}  # theirs adds the penalty to the gradient
_MMLU = {"mmlu", "mmlu_stem", "mmlu_humanities", "mmlu_social_sciences", "mmlu_other"}
_PUBLIC_WINDOW = {"slimpajama": 16}  # tokens; their batch size, by which they cut the sequence
_PUBLIC_WINDOW_ELSE = 50


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Their rows in our schema; `rows_of_ours` says what it returns.

    Raises:
        LosslineError: a row that belongs to nobody, a cell that is not a number, or two columns of one set.
    """
    places = pd.Series(range(1, len(frame) + 1), index=frame.index)  # of all rows of theirs, without the header
    frame = frame.dropna(how="all").drop_duplicates()
    if (nameless := frame["Name"].isna()).any():
        raise LosslineError(f"{row_name(frame, int(np.argmax(nameless)))}: no Name")
    public = _is_public(frame)
    facts, sets = _facts(frame, public, places[frame.index]), _sets(frame)
    parts = [
        rows_of_ours(frame[mask], facts[mask], sets, meaning)
        for mask, meaning in ((~public, _own(frame[~public])), (public, _public))
        if mask.any()
    ]
    return pd.concat(parts, ignore_index=True)


def _is_public(frame: pd.DataFrame) -> pd.Series:
    """Which rows are of models that others trained. The authors' script keeps no run of theirs without Train Loss."""
    if "Hugging Face" not in frame.columns:
        if "Train Loss" not in frame.columns:
            raise LosslineError("neither a column 'Hugging Face' nor 'Train Loss': which losses are these?")
        return frame["Train Loss"].isna()
    flags = frame["Hugging Face"].astype("string").str.lower().map({"true": True, "false": False})
    if (unknown := flags.isna()).any():
        row = int(np.argmax(unknown))
        value = frame["Hugging Face"].iloc[row]
        raise LosslineError(f"{row_name(frame, row)}: 'Hugging Face' is {value!r}, not True or False")
    return flags.astype(bool)


def _facts(frame: pd.DataFrame, public: pd.Series, places: pd.Series) -> pd.DataFrame:
    run_id, tokens = _identities(frame, public, places)
    return pd.DataFrame(
        {
            "study": np.where(public, "llms-on-the-line-public", "llms-on-the-line"),
            "run_id": run_id,
            "data": words(frame, "Pretraining Data"),
            "tokenizer": words(frame, "Tokenizer"),
            "architecture": words(frame, "Architecture").str.lower(),
            "size": _label(frame, "d{Dimensions}-L{# Layers}"),
            "context_length": counts(frame, "Context Length"),
            "optimiser": _optimisers(frame),
            "params_total": counts(frame, "Size"),
            "step": counts(frame, "Steps"),
            "tokens_seen": tokens,
            "variant": _variants(frame),
        },
        index=frame.index,
    )


def _identities(frame: pd.DataFrame, public: pd.Series, places: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Run ids that are unique with the step, and tokens seen where they can be true.

    A public model's step is parsed from its revision, and the tokens are filled in by name and step. Of revisions
    without a step that parses, all got the tokens of the last.
    """
    names, tokens = words(frame, "Name").str.strip(), counts(frame, "Tokens")
    checkpoints = pd.DataFrame({"name": names, "step": numbers(frame, "Steps"), "tokens": tokens})
    repeated = checkpoints.duplicated(["name", "step"], keep=False)
    levels = checkpoints.groupby(["name", "step"], dropna=False)["tokens"].transform("nunique")
    run_ids = names.where(~repeated, names + " (row " + places.astype("string") + ")")
    return run_ids, tokens.mask(repeated & public & (levels == 1))


def _label(frame: pd.DataFrame, pattern: str) -> pd.Series:
    """The pattern filled in from whole-number columns; null where one of them is."""
    label = pd.Series("", index=frame.index, dtype="string")
    for text, column in re.findall(r"([^{]*)\{([^}]*)\}", pattern):
        label = label + text + counts(frame, column).astype("string")
    return label


def _optimisers(frame: pd.DataFrame) -> pd.Series:
    """`adamw-cosine-lr0.003-wd0.033`; null where one of the four is."""
    rate, decay = (
        numbers(frame, column).map(lambda v: f"{v:g}", na_action="ignore").astype("string")
        for column in ("Learning Rate", "Weight Decay")
    )
    name = words(frame, "Optimizer").str.lower().replace(_OPTIMISERS)
    return name + "-" + words(frame, "Scheduler").str.lower() + "-lr" + rate + "-wd" + decay


def _variants(frame: pd.DataFrame) -> pd.Series:
    """The settings that a row states, `Rope=True; Bias=False`; null where it states none."""
    present = [name for name in SETTINGS if name in frame.columns]
    texts = [
        "; ".join(f"{name}={value}" for name, value in zip(present, row, strict=True) if pd.notna(value))
        for row in frame[present].itertuples(index=False)
    ]
    return pd.Series(texts, index=frame.index, dtype="string").replace("", pd.NA)


def _sets(frame: pd.DataFrame) -> list[PublishedSet]:
    """Every set that the columns name, validation sets first."""
    validation, losses, accuracies = [], {}, {}
    for column in frame.columns:
        if column.endswith(" Validation Loss"):
            validation.append(PublishedSet(_set_name(column, " Validation Loss"), "validation", loss=column))
        elif column.endswith(" Loss") and column not in _NO_SETS:
            losses[column] = _set_name(column, " Loss")
        elif column.endswith(" Accuracy"):
            accuracies[column] = _set_name(column, " Accuracy")
    for names in (Counter(each.name for each in validation), Counter(losses.values()), Counter(accuracies.values())):
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


def _own(frame: pd.DataFrame) -> Callable[[PublishedSet], Meaning]:
    """What the losses are of the models that the authors trained."""
    context = counts(frame, "Context Length").astype("string").fillna("its training context of unstated") + " tokens"
    context = context.mask(words(frame, "Architecture").str.lower() == "mamba", "16k tokens")
    documents = "mean over up to 5000 documents of each one's nats/token; each cut after " + context

    def meaning(each: PublishedSet) -> Meaning:
        if each.kind == "validation":
            return Meaning(documents, "nats_per_token_document_mean")
        subjects = "; subjects weighted by their test items" if each.name in _MMLU else ""
        return Meaning(
            f"mean over all options, right and wrong, nats/token; one eighth of the items; 0-shot{subjects}",
            "nats_per_token_all_options",
        )

    return meaning


def _public(each: PublishedSet) -> Meaning:
    """What the losses are of public models."""
    if each.kind == "validation":
        window = _PUBLIC_WINDOW.get(each.name, _PUBLIC_WINDOW_ELSE)
        return Meaning(
            f"token-weighted; windows of {window} tokens without context, the first token of each not scored; up to "
            "5000 documents, each cut after the model's own context or 2048 tokens",
            "nats_per_token",
        )
    if each.name in _MMLU:
        return Meaning("mean over items of the correct option's nats, not divided by its tokens; 0-shot")
    return Meaning("mean over items of the correct option's nats divided by its tokens less one (at least 1); 0-shot")
