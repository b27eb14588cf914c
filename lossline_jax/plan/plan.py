"""The plan of a study in numbers: what each run takes, before anything is spent. No jax.

`plan_study` counts parameters, tokens and FLOPs. `plan_mesh` estimates memory, time and cost on named chips.
"""

from dataclasses import dataclass

from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.tokenizers.build import planned_vocab_size
from lossline_jax.distributed.chips import ASSUMED_UTILISATION, SECONDS_PER_HOUR, Chip, chip_hours, chip_named
from lossline_jax.distributed.layout import DeviceLayout
from lossline_jax.errors import LosslineError
from lossline_jax.models.accounting import ParameterCounts, count_parameters, train_flops_per_token
from lossline_jax.plan import choose_layout, estimates
from lossline_jax.plan.estimates import MemoryEstimate

_STATE_BYTES_PER_PARAMETER = 16  # float32 parameter, its gradient and two moments


@dataclass(frozen=True)
class RunPlan:
    """What one run takes."""

    index: int  # its line of a manifest, from 0
    run_id: str
    differs: dict[str, str]  # the factors in which the run differs from the base, with its levels
    parameters: ParameterCounts
    steps: int
    tokens: int  # of training
    flops: float  # of training
    num_checkpoints: int

    @property
    def state_bytes(self) -> int:
        """Bytes of parameters, gradients and two moments in float32."""
        return self.parameters.total * _STATE_BYTES_PER_PARAMETER


@dataclass(frozen=True)
class StudyPlan:
    """What a study takes."""

    name: str
    question: str
    runs: tuple[RunPlan, ...]
    num_sets: int  # evaluation sets
    utilisation: float  # share of a chip's peak FLOPs that training is assumed to reach

    @property
    def tokens(self) -> int:
        """Training tokens of all runs."""
        return sum(run.tokens for run in self.runs)

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs."""
        return sum(run.flops for run in self.runs)

    @property
    def num_checkpoints(self) -> int:
        """Checkpoints of all runs."""
        return sum(run.num_checkpoints for run in self.runs)

    @property
    def num_rows(self) -> int:
        """Rows of the losses table: a checkpoint on an evaluation set each."""
        return self.num_checkpoints * self.num_sets

    def chip_hours(self, chip: Chip) -> float:
        """Return the hours of one chip that training all runs takes at the assumed utilisation."""
        return chip_hours(self.flops, chip, self.utilisation)

    def chip_hours_of_largest_run(self, chip: Chip) -> float:
        """Return the hours of one chip that the most expensive run takes."""
        return chip_hours(max(run.flops for run in self.runs), chip, self.utilisation)


@dataclass(frozen=True)
class MeshRunPlan:
    """What one run takes on a mesh of named chips."""

    index: int  # its line of a manifest, from 0
    run_id: str
    context_length: int
    layout: DeviceLayout
    memory: MemoryEstimate  # bytes of one device
    fits: bool
    seconds_a_step: float
    is_bound_by_computing: bool  # else by sending
    hours: float
    dollars: float
    fewest_devices: int | None  # that hold a run which does not fit; None: it fits, or no number holds it


@dataclass(frozen=True)
class MeshPlan:
    """What the runs of a study take on a mesh of named chips, one run after another."""

    runs: tuple[MeshRunPlan, ...]
    chip: Chip
    devices: int
    utilisation: float  # share of a chip's peak FLOPs that training is assumed to reach

    @property
    def hours(self) -> float:
        """Hours of training, one run after another."""
        return sum(run.hours for run in self.runs)

    @property
    def fillable_bytes(self) -> float:
        """Bytes of a device's memory that an estimate may fill."""
        return self.chip.hbm_bytes * choose_layout.FITTING_SHARE


def plan_study(study: StudyConfig, utilisation: float = ASSUMED_UTILISATION) -> StudyPlan:
    """Return what the runs take, before anything is spent.

    Raises:
        LosslineError: a tokenizer file is missing, or `utilisation` is no share of a chip's peak.
    """
    chip_hours(0, chip_named("v5e"), utilisation)  # raises for a utilisation that is no share
    runs = tuple(_plan_run(index, run, study) for index, run in enumerate(study.runs))
    return StudyPlan(study.name, study.question, runs, len(study.suite.set_names), utilisation)


def _plan_run(index: int, run: RunConfig, study: StudyConfig) -> RunPlan:
    vocab_size = planned_vocab_size(run.tokenizer)
    tokens = run.num_steps * run.tokens_per_step
    return RunPlan(
        index=index,
        run_id=run.run_id,
        differs={name: level for name, level in run.factors.items() if level != study.base.factors[name]},
        parameters=count_parameters(run.model, vocab_size),
        steps=run.num_steps,
        tokens=tokens,
        flops=tokens * train_flops_per_token(run.model, vocab_size, run.context_length),
        num_checkpoints=len(run.checkpoint_steps),
    )


def plan_mesh(study: StudyConfig, chip_name: str, devices: int, utilisation: float = ASSUMED_UTILISATION) -> MeshPlan:
    """Return what the runs take on `devices` chips of a kind: memory of a device, time, cost.

    Raises:
        LosslineError: an unknown chip, a mesh that does not fit the devices, or rows that it does not divide.
    """
    chip = chip_named(chip_name)
    if devices < 1:
        raise LosslineError(f"--devices: {devices} is not a number of chips; give 1 or more")
    runs = tuple(_plan_on_mesh(index, study, chip, devices, utilisation) for index in range(len(study.runs)))
    return MeshPlan(runs, chip, devices, utilisation)


def _plan_on_mesh(index: int, study: StudyConfig, chip: Chip, devices: int, utilisation: float) -> MeshRunPlan:
    run = study.runs[index]
    vocab_size = planned_vocab_size(run.tokenizer)
    layout = choose_layout.choose_layout(run, vocab_size, study.execution, devices, chip)
    memory = estimates.memory(run, vocab_size, layout)
    computing, sending = estimates.step_seconds(run, vocab_size, layout, chip, utilisation)
    seconds = max(computing, sending or 0.0)
    hours = seconds * run.num_steps / SECONDS_PER_HOUR
    fits = memory.total <= chip.hbm_bytes * choose_layout.FITTING_SHARE
    return MeshRunPlan(
        index=index,
        run_id=run.run_id,
        context_length=run.context_length,
        layout=layout,
        memory=memory,
        fits=fits,
        seconds_a_step=seconds,
        is_bound_by_computing=seconds == computing,
        hours=hours,
        dollars=hours * devices * chip.dollars_per_hour,
        fewest_devices=None if fits else choose_layout.smallest_devices(run, vocab_size, study.execution, chip),
    )
