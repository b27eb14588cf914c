"""The configs of the optimiser and the learning-rate schedule. This module does not import jax."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, or Adam with the L2 penalty in the gradient. The defaults are the base run of arXiv 2502.12120."""

    name: Literal["adamw", "adam_l2"] = "adamw"
    learning_rate: float = 3e-3  # at the peak of the schedule
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.033
    clip_norm: float = 1.0  # bound of the global gradient norm; 0 switches clipping off


@dataclass(frozen=True)
class ScheduleConfig:
    """A linear warm-up, followed by a cosine decay (cosine) or by a stable part and a linear decay (wsd)."""

    name: Literal["cosine", "wsd"] = "cosine"
    warmup_fraction: float = 0.05  # fraction of the run's steps
    final_fraction: float = 1e-6  # learning rate at the last step, as a fraction of the peak
    decay_fraction: float = 0.2  # fraction of the run's steps, at the end of the run; wsd only
