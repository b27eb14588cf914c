"""A study: runs over a grid of factors, what they are scored on, and who each run is."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from lossline_jax.config.data import (
    ByteTokenizer,
    Corpus,
    DataConfig,
    HuggingFaceTokenizer,
    SentencePieceFile,
    TokenizerConfig,
    TrainedTokenizer,
)
from lossline_jax.config.evaluation import SuiteConfig
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import ModelConfig
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError

FIRST_LOG_CHECKPOINT = 1 / 30  # of the run's tokens


@dataclass(frozen=True)
class RunConfig:
    """One training run. Everything here changes its losses, so everything here is its identity."""

    model: ModelConfig
    data: DataConfig
    tokenizer: TokenizerConfig
    context_length: int  # tokens a training sequence
    batch_size: int  # sequences a step, over all devices
    tokens: int  # trained on in all; rounded up to whole steps
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    seed: int = 0
    num_checkpoints: int = 10  # the last one is the last step
    checkpoint_spacing: Literal["linear", "log"] = "linear"  # in tokens; log: from a thirtieth of them on

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context_length

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after `step` steps."""
        return step * self.tokens_per_step

    @property
    def num_steps(self) -> int:
        return math.ceil(self.tokens / self.tokens_per_step)

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps after which a checkpoint is kept: the steps nearest to the same token counts for every run."""
        count = self.num_checkpoints
        if self.checkpoint_spacing == "linear" or count == 1:
            fractions = [(k + 1) / count for k in range(count)]
        else:
            fractions = [FIRST_LOG_CHECKPOINT ** (1 - k / (count - 1)) for k in range(count)]
        steps = (round(fraction * self.tokens / self.tokens_per_step) for fraction in fractions[:-1])
        return tuple(sorted({min(max(step, 1), self.num_steps) for step in steps} | {self.num_steps}))

    @property
    def factors(self) -> dict[str, str | int]:
        """The factors of the study, one column each: what a line may depend on."""
        return {
            "data": data_label(self.data),
            "tokenizer": tokenizer_label(self.tokenizer),
            "architecture": self.model.architecture,
            "size": size_label(self.model),
            "context_length": self.context_length,
            "optimiser": optimiser_label(self.optim, self.schedule),
            "seed": self.seed,
        }

    @property
    def run_id(self) -> str:
        """Readable parts and a hash of everything that changes the result: safe as a folder name."""
        f = self.factors
        readable = f"{f['architecture']}-{f['size']}-{f['data']}-{f['tokenizer']}-c{self.context_length}"
        slug = re.sub(r"[^A-Za-z0-9.+-]+", "_", readable)[:80]
        return f"{slug}-s{self.seed}-{fingerprint(self)}"


@dataclass(frozen=True)
class StudyConfig:
    """All that `lossline-jax run` needs to know."""

    name: str
    corpora: tuple[Corpus, ...]
    runs: tuple[RunConfig, ...]
    suite: SuiteConfig
    x: str  # eval set on the horizontal axis of the lines: the base corpus' validation set
    y: str  # eval set on their vertical axis: a task or another validation set
    execution: ExecutionConfig = ExecutionConfig()
    question: str = ""  # what the study asks; printed by `plan` and heading the report
    validation_fraction: float = 0.05  # of each corpus' documents, chosen by document hash

    @property
    def base(self) -> RunConfig:
        """The run that every line is compared with: the first."""
        return self.runs[0]

    def run_by_id(self, run_id: str) -> RunConfig:
        """Raises LosslineError where the study has no such run."""
        for run in self.runs:
            if run.run_id == run_id:
                return run
        raise LosslineError(f"run {run_id!r} is not in study {self.name!r}; `lossline-jax plan` lists its runs")


def size_label(model: ModelConfig) -> str:
    """`d1024-L12`."""
    return f"d{model.d_model}-L{model.num_layers}"


def data_label(data: DataConfig) -> str:
    """`wiki`, or `code70+wiki30` for a mixture; what else differs is appended."""
    if len(data.mixture) == 1:
        label = data.mixture[0][0]
    else:
        total = sum(weight for _, weight in data.mixture)
        label = "+".join(f"{name}{round(100 * weight / total)}" for name, weight in data.mixture)
    if data.unique_tokens is not None:
        label = f"{label}-u{data.unique_tokens}"
    return f"{label}-separate" if data.separate_documents else label


def tokenizer_label(tokenizer: TokenizerConfig) -> str:
    """`bpe512-wiki`, `bytes`, or the stem of a file."""
    match tokenizer:
        case TrainedTokenizer():
            return f"{tokenizer.kind}{tokenizer.vocab_size}-{tokenizer.corpus}"
        case ByteTokenizer():
            return "bytes"
        case SentencePieceFile(path=path) | HuggingFaceTokenizer(path=path):
            return re.sub(r"[^A-Za-z0-9]+", "_", "/".join(path.split("/")[-2:]))


def optimiser_label(optim: OptimConfig, schedule: ScheduleConfig) -> str:
    """`adamw-cosine-lr0.003-wd0.033`."""
    return f"{optim.name}-{schedule.name}-lr{optim.learning_rate:g}-wd{optim.weight_decay:g}"
