"""The allowed range of every number of an experiment, in one table. This module does not import jax."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lossline_jax.config.custom import CUSTOM, CustomOptimiser, SourceFile
from lossline_jax.config.data import (
    BuiltinCorpus,
    DataConfig,
    FilesCorpus,
    HuggingFaceCorpus,
    HuggingFaceTokenizer,
    TrainedTokenizer,
)
from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig, ProcessesConfig
from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    Llama3RopeScaling,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
)
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError

MOST = 2**31 - 1  # the largest value of a number that becomes an index or a shape: the largest int32
MOST_TOKENS = 10**18  # tokens or bytes; far above any experiment, and below the largest int64
MOST_SECONDS = 10**9  # about thirty years; the operating system's waits accept no more


@dataclass(frozen=True)
class Range:
    """A range of numbers from `low` to `high`. An open end is not part of the range."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def holds(self, value: float) -> bool:
        """Return True if `value` is finite and in the range."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        lower = f"greater than {low}" if self.low_open else f"at least {low}"
        if self.high == math.inf:
            return f"a finite number {lower}"
        return f"{lower} and {'less than' if self.high_open else 'at most'} {high}"


NUMBER = Range(-math.inf, math.inf)
COUNT = Range(1, MOST)
SIZE = Range(1, 10**7)  # a dimension of a shape; small enough that its divisors can be searched one by one
LENGTH = Range(1, 2**26)  # tokens per window
SEVERAL = Range(2, MOST)  # documents or items; one alone has no standard error
TOKENS = Range(1, MOST_TOKENS)
PIECE = Range(16, MOST)  # bytes of a piece of text; a piece holds at least one character
SEED = Range(0, 2**32 - 1)  # jax takes seeds modulo 2^32, so larger seeds would repeat smaller ones
POSITIVE = Range(0, math.inf, low_open=True)
NOT_NEGATIVE = Range(0, math.inf)
FRACTION = Range(0, 1)
BELOW_ONE = Range(0, 1, high_open=True)
SECONDS = Range(0, MOST_SECONDS, low_open=True)

_TRAINING = {"dropout": BELOW_ONE, "dropout_from": BELOW_ONE, "weight_bits": Range(2, 24)}  # float32 holds 24 bits
_WIDTHS = dict.fromkeys(("d_model", "num_layers", "num_heads", "d_ff"), SIZE) | {"norm_eps": POSITIVE, **_TRAINING}
_SCAN = dict.fromkeys(("d_model", "num_layers", "d_state", "d_inner", "conv_width", "chunk_size"), SIZE) | (
    dict.fromkeys(("norm_eps", "dt_min", "dt_max"), POSITIVE) | _TRAINING
)
RANGES: dict[type, dict[str, Range]] = {
    StudyConfig: {"validation_fraction": Range(0, 1, low_open=True, high_open=True)},
    RunConfig: {
        "context_length": LENGTH,
        "batch_size": SIZE,
        "tokens": TOKENS,
        "seed": SEED,
        "num_checkpoints": Range(1, 1_000_000),
    },
    OptimConfig: {
        "learning_rate": NOT_NEGATIVE,
        "beta1": BELOW_ONE,
        "beta2": BELOW_ONE,
        "eps": BELOW_ONE,
        "weight_decay": NOT_NEGATIVE,
        "clip_norm": NOT_NEGATIVE,
        "muon_momentum": BELOW_ONE,
        "sam_radius": NOT_NEGATIVE,
        "mup_base_width": SIZE,
    },
    CustomOptimiser: {"learning_rate": NOT_NEGATIVE},
    SourceFile: {"gradients_per_step": COUNT},
    ScheduleConfig: dict.fromkeys(("warmup_fraction", "final_fraction", "decay_fraction"), FRACTION),
    ExecutionConfig: {
        **dict.fromkeys(("data_parallel", "model_parallel", "slices", "microbatch_size"), COUNT),
        **dict.fromkeys(("log_every", "keep_checkpoints", "keep_moments"), COUNT),
        "cpu_devices": Range(1, 4096),
        "stall_seconds": SECONDS,
    },
    ProcessesConfig: {
        "count": COUNT,
        "index": Range(0, MOST),
        "heartbeat_seconds": Range(1, MOST_SECONDS),
        "wait_seconds": Range(1, MOST_SECONDS),
    },
    SuiteConfig: {"context_length": LENGTH, "overlap": Range(0, MOST)},
    ValidationSet: {"max_documents": SEVERAL, "max_document_bytes": COUNT},
    ClozeTask: {
        "num_items": SEVERAL,
        "context_bytes": COUNT,
        "continuation_bytes": COUNT,
        "num_choices": Range(2, 100_000),
        "seed": SEED,
    },
    ChoiceTask: {"max_items": SEVERAL},
    BuiltinCorpus: {"max_bytes": TOKENS},
    FilesCorpus: {"max_bytes": TOKENS, "split": PIECE},
    HuggingFaceCorpus: {"max_bytes": TOKENS},
    TrainedTokenizer: {"vocab_size": SIZE, "max_bytes": TOKENS},
    HuggingFaceTokenizer: dict.fromkeys(("bos_id", "eos_id"), Range(0, MOST)),
    DataConfig: {"mixture": POSITIVE, "unique_tokens": TOKENS, "max_epochs": POSITIVE},
    LlamaConfig: {**_WIDTHS, "num_kv_heads": SIZE, "rope_theta": POSITIVE},
    Llama3RopeScaling: {
        **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor"), POSITIVE),
        "original_context_length": COUNT,
    },
    GPT2Config: {**_WIDTHS, "max_positions": COUNT},
    GPTNeoXConfig: {**_WIDTHS, "rotary_fraction": Range(0, 1, low_open=True), "rope_theta": POSITIVE},
    Mamba2Config: {**_SCAN, "num_heads": SIZE, "num_groups": SIZE},
    MambaConfig: {**_SCAN, "dt_rank": SIZE},
}


def check_ranges(config: Any, where: str = "") -> None:
    """Refuse a number outside its range anywhere in a tree of configs.

    Args:
        config: a dataclass of this package, which may contain more dataclasses.
        where: start of the field's path in the error message.

    Raises:
        LosslineError: a number is out of its range. The message names the field by its path, and the range.
    """
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), f"{where}.{field.name}" if where else field.name
        for item_path, item in _items(value, path):
            if dataclasses.is_dataclass(item):
                check_ranges(item, item_path)
            elif isinstance(item, (int, float)) and not isinstance(item, bool):
                allowed = _range_of(type(config), field.name)
                if not allowed.holds(item):
                    raise LosslineError(f"{item_path}: {item} is out of range; give {allowed}")


def _range_of(kind: type, name: str) -> Range:
    """Return the range of a field. A class of a study's own has those of its base class, and any finite number."""
    ranges = next((ranges for base in kind.__mro__ if name in (ranges := RANGES.get(base, {}))), None)
    if ranges is not None:
        return ranges[name]
    if issubclass(kind, CUSTOM):
        return NUMBER
    raise TypeError(f"{kind.__name__}.{name}: add its range to RANGES of config/ranges.py")


def _items(value: Any, path: str) -> list[tuple[str, Any]]:
    """Return (path, item) for each item of a tuple at any depth, or for the value itself if it is no tuple."""
    if not isinstance(value, tuple):
        return [(path, value)]
    return [pair for k, item in enumerate(value) for pair in _items(item, f"{path}[{k}]")]
