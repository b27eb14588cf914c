"""The labels of a run's factors, as they stand in the losses table and in the names of runs.

Equal labels mean repetitions. `validate_study` refuses two runs that differ and have equal labels. This module does not
import jax.
"""

import dataclasses
import re
from typing import Any

from lossline_jax.config.custom import CustomAlgorithm, CustomObjective, CustomOptimiser
from lossline_jax.config.data import (
    ByteTokenizer,
    DataConfig,
    HuggingFaceTokenizer,
    SentencePieceFile,
    TokenizerConfig,
    TrainedTokenizer,
)
from lossline_jax.config.model import ModelConfig
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.training import (
    Algorithm,
    DataParallel,
    NextToken,
    Objective,
    OptimConfig,
    Optimiser,
    ScheduleConfig,
)


def size_label(model: ModelConfig) -> str:
    """Return the size of a model, for example `d1024-L12`."""
    return f"d{model.d_model}-L{model.num_layers}"


def data_label(data: DataConfig) -> str:
    """Return the label of training data, for example `wiki`, or `code70+wiki30` for a mixture.

    A cap on unique tokens and the separation of documents are appended.
    """
    if len(data.mixture) == 1:
        label = data.mixture[0][0]
    else:
        total = sum(weight for _, weight in data.mixture)
        label = "+".join(f"{name}{round(100 * weight / total)}" for name, weight in data.mixture)
    if data.unique_tokens is not None:
        label = f"{label}-u{data.unique_tokens}"
    return f"{label}-separate" if data.separate_documents else label


def tokenizer_label(tokenizer: TokenizerConfig) -> str:
    """Return the label of a tokenizer: `bpe512-wiki`, `bytes`, or the last two parts of a file's path."""
    match tokenizer:
        case TrainedTokenizer():
            return f"{tokenizer.kind}{tokenizer.vocab_size}-{tokenizer.corpus}"
        case ByteTokenizer():
            return "bytes"
        case SentencePieceFile(path=path) | HuggingFaceTokenizer(path=path):
            return re.sub(r"[^A-Za-z0-9]+", "_", "/".join(path.split("/")[-2:]))


def architecture_label(model: ModelConfig) -> str:
    """Return the label of an architecture: `llama`, or `llama-drop0.1-w4` with dropout and weights of 4 bits."""
    label = model.architecture
    if model.dropout:
        begin = f"from{number_text(model.dropout_from)}" if model.dropout_from else ""
        label += f"-drop{number_text(model.dropout)}{begin}"
    return label if model.weight_bits is None else f"{label}-w{model.weight_bits}"


def algorithm_label(algorithm: Algorithm) -> str:
    """Return the label of an algorithm: `data-parallel`, or class and fields of an algorithm of the study's own."""
    return "data-parallel" if isinstance(algorithm, DataParallel) else _custom_label(algorithm)


def objective_label(objective: Objective) -> str:
    """Return the label of an objective: `next-token`, or class and fields: `LabelSmoothing-epsilon=0.1`."""
    return "next-token" if isinstance(objective, NextToken) else _custom_label(objective)


def _custom_label(value: CustomObjective | CustomAlgorithm | CustomOptimiser) -> str:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return type(value).__name__ + "".join(f"-{name}={value_text(item)}" for name, item in fields.items())


def value_text(value: Any) -> str:
    """Return a text that differs for values that differ. What is no number and no plain word has its fingerprint."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        return number_text(value)
    is_word = isinstance(value, str) and re.fullmatch(r"[a-z]\w*", value) and value not in ("nan", "inf")
    return value if is_word else fingerprint(value)


def optimiser_label(optim: Optimiser, schedule: ScheduleConfig) -> str:
    """Return the label of an optimiser and its schedule, for example `adamw-cosine-lr0.003-wd0.033`.

    Every other constant is appended with four digits if it is not at its default, such as `-beta1=0.8`.
    """
    if isinstance(optim, CustomOptimiser):
        return f"{_custom_label(optim)}-{schedule.name}{_other_constants(schedule)}"
    label = f"{optim.name}-{schedule.name}-lr{number_text(optim.learning_rate)}-wd{number_text(optim.weight_decay)}"
    return label + _other_constants(optim) + _other_constants(schedule)


_IN_LABEL = frozenset({"name", "learning_rate", "weight_decay"})


def _other_constants(config: OptimConfig | ScheduleConfig) -> str:
    changed = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) != field.default]
    without_effect = {"decay_fraction"} if config.name == "cosine" else set()
    names = [name for name in changed if name not in _IN_LABEL | without_effect]
    return "".join(f"-{name}={getattr(config, name):.4g}" for name in names)


def number_text(value: float) -> str:
    """Return the shortest text of a number that gives the same number when it is read back."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
