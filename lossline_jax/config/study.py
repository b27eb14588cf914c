"""The config of a study: its runs over a grid of factors, the identity of each run, and the evaluation sets."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from lossline_jax.config.custom import CustomObjective, SourceFile
from lossline_jax.config.data import Corpus, DataConfig, TokenizerConfig
from lossline_jax.config.evaluation import SuiteConfig
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.labels import (
    algorithm_label,
    architecture_label,
    data_label,
    objective_label,
    optimiser_label,
    size_label,
    tokenizer_label,
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
from lossline_jax.errors import LosslineError

FIRST_LOG_CHECKPOINT = 1 / 30  # fraction of the run's tokens after which `log` spacing puts the first checkpoint


@dataclass(frozen=True)
class RunConfig:
    """The config of one training run. Every field changes the losses, so every field is part of the run's identity."""

    model: ModelConfig
    data: DataConfig
    tokenizer: TokenizerConfig
    context_length: int  # tokens per training sequence
    batch_size: int  # sequences per step, over all devices
    tokens: int  # training tokens in total; rounded up to whole steps
    optim: Optimiser = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    seed: int = 0
    num_checkpoints: int = 10  # the last one is the last step
    checkpoint_spacing: Literal["linear", "log"] = "linear"  # in tokens; log: starts at `FIRST_LOG_CHECKPOINT`
    algorithm: Algorithm = field(default=DataParallel(), metadata={"since": 2})  # what a step does with a batch
    objective: Objective = field(default=NextToken(), metadata={"since": 2})  # the loss that training lowers

    @property
    def tokens_per_step(self) -> int:
        """The number of training tokens per step, over all devices."""
        return self.batch_size * self.context_length

    @property
    def gradients_per_step(self) -> int:
        """The number of gradients that a step computes, each with a forward and a backward pass over the batch."""
        return self.optim.gradients_per_step * self.algorithm.gradients_per_step

    @property
    def is_random(self) -> bool:
        """True if the loss of a step is random, given its batch."""
        return self.model.dropout > 0 or (isinstance(self.objective, CustomObjective) and self.objective.is_random)

    def tokens_at(self, step: int) -> int:
        """Return the number of training tokens after `step` steps."""
        return step * self.tokens_per_step

    @property
    def num_steps(self) -> int:
        """The number of training steps."""
        return math.ceil(self.tokens / self.tokens_per_step)

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps after which a checkpoint is kept.

        Each is the step nearest to a token count that is the same for all runs with equal `tokens`.
        """
        count = self.num_checkpoints
        if self.checkpoint_spacing == "linear" or count == 1:
            fractions = [(k + 1) / count for k in range(count)]
        else:
            fractions = [FIRST_LOG_CHECKPOINT ** (1 - k / (count - 1)) for k in range(count)]
        steps = (round(fraction * self.tokens / self.tokens_per_step) for fraction in fractions[:-1])
        return tuple(sorted({min(max(step, 1), self.num_steps) for step in steps} | {self.num_steps}))

    @property
    def factors(self) -> dict[str, str | int]:
        """The factors that a line may depend on, as one column each."""
        return {
            "data": data_label(self.data),
            "tokenizer": tokenizer_label(self.tokenizer),
            "architecture": architecture_label(self.model),
            "size": size_label(self.model),
            "context_length": self.context_length,
            "optimiser": optimiser_label(self.optim, self.schedule),
            "batch": self.tokens_per_step,
            "algorithm": algorithm_label(self.algorithm),
            "objective": objective_label(self.objective),
            "seed": self.seed,
        }

    @property
    def run_id(self) -> str:
        """The name of the run: some readable factors and a hash of the whole config. It is safe as a folder name."""
        f = self.factors
        readable = f"{f['architecture']}-{f['size']}-{f['data']}-{f['tokenizer']}-c{self.context_length}"
        slug = re.sub(r"[^A-Za-z0-9.+-]+", "_", readable)[:80]
        return f"{slug}-s{self.seed}-{fingerprint(self)}"


@dataclass(frozen=True)
class StudyConfig:
    """The complete description of a study, from which `lossline-jax run` works."""

    name: str
    corpora: tuple[Corpus, ...]
    runs: tuple[RunConfig, ...]
    suite: SuiteConfig
    x: str  # evaluation set on the horizontal axis of the lines, usually the base corpus' validation set
    y: str  # evaluation set on the vertical axis of the lines: a task or another validation set
    execution: ExecutionConfig = ExecutionConfig()
    question: str = ""  # the question of the study; `plan` prints it and the report begins with it
    validation_fraction: float = 0.05  # fraction of each corpus' documents that is held out, chosen by document hash
    code: tuple[SourceFile, ...] = ()  # sources of the study's own classes, which `validate_study` fills in

    @property
    def base(self) -> RunConfig:
        """The first run, with which every line is compared."""
        return self.runs[0]

    def run_by_id(self, run_id: str) -> RunConfig:
        """Return the run with this id.

        Args:
            run_id: id of the run, as `RunConfig.run_id` gives it.

        Raises:
            LosslineError: the study has no run with this id.
        """
        for run in self.runs:
            if run.run_id == run_id:
                return run
        raise LosslineError(f"run {run_id!r} is not in study {self.name!r}; `lossline-jax plan` lists its runs")

    def find_run(self, name: str) -> RunConfig:
        """Return the run that a user names.

        Args:
            name: id of the run, its number in the plan (from 0), or the start of its id or of the hash at its end.

        Raises:
            LosslineError: no run has this name, or several runs do.
        """
        if name.isdecimal() and str(int(name)) == name and int(name) < len(self.runs):
            return self.runs[int(name)]
        ids = [run.run_id for run in self.runs]
        if name in ids or not name:
            return self.run_by_id(name)
        matches = [run_id for run_id in ids if run_id.startswith(name) or run_id.rsplit("-", 1)[1].startswith(name)]
        if len(matches) > 1:
            raise LosslineError(
                f"run {name!r}: {len(matches)} runs have this name ({matches[0]}, {matches[1]}, ...); "
                "give more of it, or its number in `lossline-jax plan`"
            )
        return self.run_by_id(matches[0] if matches else name)
