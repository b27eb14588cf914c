"""Refuse impossible model configs in one line, without jax."""

import dataclasses
from typing import Any

from lossline_jax.errors import LosslineError
from lossline_jax.models.config import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, ModelConfig


def check_config(config: ModelConfig) -> None:
    """Raise LosslineError, naming the field, where no model can be built from `config`."""
    _positive(config, "model")
    if isinstance(config, LlamaConfig):
        _check_llama(config)
    elif isinstance(config, (GPT2Config, GPTNeoXConfig)):
        _divides("num_heads", config.num_heads, "model.d_model", config.d_model)
        if isinstance(config, GPTNeoXConfig):
            _check_rotary_part(config)
    else:
        if config.dt_min > config.dt_max:
            raise LosslineError(f"model.dt_min: {config.dt_min} is above model.dt_max={config.dt_max}")
        if isinstance(config, Mamba2Config):
            _divides("num_heads", config.num_heads, "the inner width", config.inner)
            _divides("num_groups", config.num_groups, "model.num_heads", config.num_heads)


def _positive(config: Any, where: str) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and not value > 0:
            raise LosslineError(f"{where}.{field.name}: {value} must be greater than 0")


def _check_llama(config: LlamaConfig) -> None:
    _divides("num_heads", config.num_heads, "model.d_model", config.d_model)
    _divides("num_kv_heads", config.kv_heads, "model.num_heads", config.num_heads)
    if config.head_dim % 2:
        raise LosslineError(
            f"model.num_heads: {config.num_heads} heads of width {config.head_dim} have an odd width, "
            "which rotary positions cannot pair; choose heads of an even width"
        )
    scaling = config.rope_scaling
    if scaling is not None:
        _positive(scaling, "model.rope_scaling")
        if scaling.low_freq_factor >= scaling.high_freq_factor:
            raise LosslineError(
                f"model.rope_scaling.low_freq_factor: {scaling.low_freq_factor:g} is not below "
                f"high_freq_factor={scaling.high_freq_factor:g}"
            )


def _check_rotary_part(config: GPTNeoXConfig) -> None:
    if config.rotary_dim % 2 or not 0 < config.rotary_dim <= config.head_dim:
        raise LosslineError(
            f"model.rotary_fraction: {config.rotary_fraction} of a head of width {config.head_dim} is "
            f"{config.rotary_dim} channels; rotary positions need an even number of them, at most all"
        )


def _divides(field: str, value: int, what: str, whole: int) -> None:
    if whole % value:
        below = next(n for n in range(min(value, whole), 0, -1) if whole % n == 0)
        above = next((n for n in range(value, min(2 * value, whole) + 1) if whole % n == 0), below)
        near = min(below, above, key=lambda n: abs(n - value))
        raise LosslineError(f"model.{field}: {value} does not divide {what} {whole}; {near} would")
