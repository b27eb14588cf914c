"""Reader of the sweep of "Loss-to-Loss Prediction" (arXiv 2411.12925).

The table has one row for the last checkpoint of each of 529 models, and one column for each loss.
"""

import re

import pandas as pd

from lossline_jax.losses.published.rows import Meaning, PublishedSet, counts, numbers, rows_of_ours, words

NEEDS = ("id", "data", "n_layers", "d_model", "params", "tokens", "steps", "eval/c4_val/CrossEntropyLoss")

# The same for all runs. The source is the runs' configuration, because the table does not have these values.
ARCHITECTURE = "olmo"
CONTEXT_LENGTH = 512  # tokens
# Rows of the one tied embedding matrix: params = 12 L d^2 + 4 L d + 64001 d in every row of the table.
EMBEDDING_ROWS = 64_000

_VALIDATION = re.compile(r"eval/(?P<set>\w+)_val/CrossEntropyLoss")
_TASK = re.compile(r"eval/downstream_ce_loss/(?P<set>\w+)_ce_loss")
_SAME_TASK = {"openbook_qa": "openbookqa"}  # the authors' name -> the name in lossline


def read(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the published table in the schema of the losses table.

    Args:
        frame: the published table.

    Returns:
        The columns that `rows_of_ours` returns.

    Raises:
        LosslineError: a cell is not a number. The message names the row and the column.
    """
    facts = pd.DataFrame(
        {
            "study": "loss-to-loss",
            "run_id": words(frame, "id"),
            "data": words(frame, "data"),
            "architecture": ARCHITECTURE,
            "size": "d" + words(frame, "d_model") + "-L" + words(frame, "n_layers"),
            "context_length": CONTEXT_LENGTH,
            "params_total": counts(frame, "params"),
            "params_embedding": EMBEDDING_ROWS * counts(frame, "d_model"),
            "params_non_embedding": counts(frame, "params") - EMBEDDING_ROWS * counts(frame, "d_model"),
            "train_flops": numbers(frame, "iso_flop"),
            "step": counts(frame, "steps"),
            "tokens_seen": counts(frame, "tokens"),
        },
        index=frame.index,
    )
    return rows_of_ours(frame, facts, [*_validation_sets(frame), *_tasks(frame)], _meaning)


def _validation_sets(frame: pd.DataFrame) -> list[PublishedSet]:
    matches = filter(None, map(_VALIDATION.fullmatch, frame.columns))
    return [PublishedSet(match["set"], "validation", loss=match[0]) for match in matches]


def _tasks(frame: pd.DataFrame) -> list[PublishedSet]:
    sets = []
    for match in filter(None, map(_TASK.fullmatch, frame.columns)):
        stem, name = f"eval/downstream/{match['set']}", match["set"].removesuffix("_test")
        sets.append(
            PublishedSet(
                _SAME_TASK.get(name, name),
                "task",
                loss=match[0],
                accuracy=f"{stem}_acc",
                accuracy_per_char=f"{stem}_len_norm",
            )
        )
    return sets


def _meaning(published_set: PublishedSet) -> Meaning:
    if published_set.kind == "validation":
        # All sequences are of one length, so their mean over sequences is the mean over tokens.
        return Meaning(f"token-weighted; sequences of {CONTEXT_LENGTH} tokens", "nats_per_token")
    shots = "; 5-shot, the options as letters" if published_set.name.endswith("_mc_5shot") else ""
    return Meaning(f"correct option after its context, nats/token; how items are weighted is not stated{shots}")
