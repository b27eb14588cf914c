"""How a run is trained, without jax."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, or Adam with the L2 penalty in the gradient. Defaults: the base run of arXiv 2502.12120."""

    name: Literal["adamw", "adam_l2"] = "adamw"
    learning_rate: float = 3e-3  # the peak
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.033
    clip_norm: float = 1.0  # of the global gradient norm; 0 switches clipping off


@dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then cosine decay, or warm-up / stable / decay (linear over the last part)."""

    name: Literal["cosine", "wsd"] = "cosine"
    warmup_fraction: float = 0.05  # of the run's steps
    final_fraction: float = 1e-6  # of the peak, at the last step
    decay_fraction: float = 0.2  # of the run's steps; wsd only
