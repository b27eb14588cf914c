"""The configs of how a run is trained: optimiser, algorithm, objective and learning-rate schedule.

This module does not import jax.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from lossline_jax.config.custom import CustomAlgorithm, CustomObjective, CustomOptimiser


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser of a run. The defaults are the base run of arXiv 2502.12120.

    `adamw`: decoupled weight decay. `adam_l2`: the L2 penalty in the gradient. `lion`: the sign of the momentum.
    `muon`: orthogonalised momentum for the matrices of the blocks, AdamW for the rest. `schedule_free`: AdamW whose
    scored model is an average of its steps. `train/optimisers/` has each with its source.
    """

    name: Literal["adamw", "adam_l2", "lion", "muon", "schedule_free"] = "adamw"
    learning_rate: float = 3e-3  # at the peak of the schedule
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.033
    clip_norm: float = 1.0  # bound of the global gradient norm; 0 switches clipping off
    muon_momentum: float = field(default=0.95, metadata={"since": 2})  # muon only
    # Sharpness-aware minimisation: the distance at which the gradient is taken a second time. 0: it is taken once.
    sam_radius: float = field(default=0.0, metadata={"since": 2})
    # muP: the model width for which `learning_rate` was chosen. Matrices of wider models then have a lower rate. None:
    # one rate for all parameters, at every width.
    mup_base_width: int | None = field(default=None, metadata={"since": 2})

    @property
    def gradients_per_step(self) -> int:
        """The number of gradients that a step asks for, each with a forward and a backward pass over the batch."""
        return 2 if self.sam_radius else 1


Optimiser = OptimConfig | CustomOptimiser


@dataclass(frozen=True)
class DataParallel:
    """One gradient over the global batch, and one update of one set of parameters."""

    gradients_per_step: ClassVar[int] = 1


Algorithm = DataParallel | CustomAlgorithm


@dataclass(frozen=True)
class NextToken:
    """The negative log-likelihood of the next token."""


Objective = NextToken | CustomObjective

# Names of the classes that stand in the same fields of a run as a class of a study's own.
BUILT_IN = frozenset(cls.__name__ for union in (Optimiser, Algorithm, Objective) for cls in get_args(union))


@dataclass(frozen=True)
class ScheduleConfig:
    """A linear warm-up, followed by a cosine decay (cosine) or by a stable part and a linear decay (wsd)."""

    name: Literal["cosine", "wsd"] = "cosine"
    warmup_fraction: float = 0.05  # fraction of the run's steps
    final_fraction: float = 1e-6  # learning rate at the last step, as a fraction of the peak
    decay_fraction: float = 0.2  # fraction of the run's steps, at the end of the run; wsd only
