"""Facts about each architecture that need no jax: its parameters, and the FLOPs and memory of its blocks.

Read `architecture.py` first. A new architecture needs a config class in `config/model.py`, a file here with an entry
in `ARCHITECTURES`, and a block with an entry in `models/decoder.py`.
"""

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig, ModelConfig
from lossline_jax.models.architectures.architecture import Architecture
from lossline_jax.models.architectures.gpt import GPT
from lossline_jax.models.architectures.llama import LLAMA
from lossline_jax.models.architectures.mamba import MAMBA
from lossline_jax.models.architectures.mamba2 import MAMBA2

ARCHITECTURES: dict[type[ModelConfig], Architecture] = {
    LlamaConfig: LLAMA,
    Mamba2Config: MAMBA2,
    MambaConfig: MAMBA,
    GPT2Config: GPT,
    GPTNeoXConfig: GPT,
}


def architecture_of(config: ModelConfig) -> Architecture:
    """Return the facts about the architecture that a config belongs to."""
    return ARCHITECTURES[type(config)]
