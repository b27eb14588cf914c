"""Named models: the models of "LLMs on the Line" (arXiv 2502.12120) and the shapes of some public checkpoints."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lossline_jax.config.model import (
    GPT2Config,
    GPTNeoXConfig,
    Llama3RopeScaling,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    ModelConfig,
)
from lossline_jax.errors import LosslineError, suggestion

LLAMA3_VOCAB_SIZE, GPT2_VOCAB_SIZE = 128_256, 50_257


@dataclass(frozen=True)
class Preset:
    """A model and the vocabulary size of its authors. The vocabulary of a run comes from the run's tokenizer."""

    config: ModelConfig
    vocab_size: int


def preset(name: str, **changes: Any) -> ModelConfig:
    """Return the config of a named model, with some of its fields changed.

    Args:
        name: a key of `PRESETS`.
        **changes: new values of fields of the config, by field name.

    Raises:
        LosslineError: there is no preset or no field of that name.
    """
    if name not in PRESETS:
        raise LosslineError(f"preset {name!r} is not one of {', '.join(PRESETS)}{suggestion(name, PRESETS)}")
    config = PRESETS[name].config
    fields = [field.name for field in dataclasses.fields(config)]
    for field in changes:
        if field not in fields:
            raise LosslineError(f"preset {name!r} has no field {field!r}{suggestion(field, fields)}")
    return dataclasses.replace(config, **changes)


def _study() -> Iterator[tuple[str, Preset]]:
    """Yield every model of the paper, in bfloat16 as in the paper.

    The Mamba of the paper is Mamba-2, because it has heads, groups and a scalar decay.
    """
    llama = LlamaConfig(compute_dtype="bfloat16")
    mamba2 = Mamba2Config(compute_dtype="bfloat16")
    with_llama3 = [(llama, (12, 8, 4)), (mamba2, (24, 16, 8))]
    shapes = [(base, LLAMA3_VOCAB_SIZE, d, n) for base, layers in with_llama3 for d in (1024, 512, 256) for n in layers]
    shapes += [(llama, GPT2_VOCAB_SIZE, 1024, n) for n in (25, 20, 17)]
    shapes += [(mamba2, GPT2_VOCAB_SIZE, 1360, n) for n in (24, 19, 15)]
    for base, vocab_size, d_model, num_layers in shapes:
        config = dataclasses.replace(base, d_model=d_model, num_layers=num_layers)
        yield f"study-{base.architecture}-{d_model}x{num_layers}", Preset(config, vocab_size)


def _smollm2(d_model: int, num_layers: int, *, num_heads: int, num_kv_heads: int, d_ff: int) -> LlamaConfig:
    return LlamaConfig(d_model, num_layers, num_heads, num_kv_heads, d_ff, tied_embeddings=True, rope_theta=100_000.0)


_LLAMA_32_1B = LlamaConfig(
    2048, 16, 32, 8, 8192, tied_embeddings=True, rope_theta=500_000.0, rope_scaling=Llama3RopeScaling(factor=32.0)
)
_MAMBA2_130M = Mamba2Config(768, 24, num_heads=24, conv_width=4, conv_bias=True, dt_bias=True, tied_embeddings=True)

# The public shapes compute in float32, the default of every config. Change it with
# `preset(name, compute_dtype="bfloat16")`.
PRESETS: dict[str, Preset] = {
    **dict(_study()),
    "gpt2": Preset(GPT2Config(), 50_257),
    "gpt2-medium": Preset(GPT2Config(1024, 24, 16), 50_257),
    "pythia-70m": Preset(GPTNeoXConfig(512, 6, 8), 50_304),
    "pythia-160m": Preset(GPTNeoXConfig(768, 12, 12), 50_304),
    "pythia-410m": Preset(GPTNeoXConfig(1024, 24, 16), 50_304),
    "mamba-130m": Preset(MambaConfig(768, 24), 50_280),
    "mamba-370m": Preset(MambaConfig(1024, 48), 50_280),
    "mamba2-130m": Preset(_MAMBA2_130M, 50_288),
    "smollm2-135m": Preset(_smollm2(576, 30, num_heads=9, num_kv_heads=3, d_ff=1536), 49_152),
    "smollm2-360m": Preset(_smollm2(960, 32, num_heads=15, num_kv_heads=5, d_ff=2560), 49_152),
    "llama-3.2-1b": Preset(_LLAMA_32_1B, 128_256),
}
