"""config.json of a Hugging Face folder to our model config and back, without jax."""

from dataclasses import dataclass
from typing import Any

from etils import epath

from lossline_jax.config.model import ModelConfig, max_context_length
from lossline_jax.config.validate import check_config
from lossline_jax.errors import LosslineError
from lossline_jax.weights.huggingface.fields import Fields, read_object
from lossline_jax.weights.huggingface.gpt2 import GPT2
from lossline_jax.weights.huggingface.gpt_neox import GPT_NEOX
from lossline_jax.weights.huggingface.llama import LLAMA
from lossline_jax.weights.huggingface.mamba import MAMBA
from lossline_jax.weights.huggingface.mamba2 import MAMBA2
from lossline_jax.weights.huggingface.mapping import HFArchitecture

ARCHITECTURES: dict[str, HFArchitecture] = {
    architecture.model_type: architecture for architecture in (LLAMA, MAMBA, MAMBA2, GPT2, GPT_NEOX)
}


@dataclass(frozen=True)
class HFModel:
    """What a config.json says."""

    config: ModelConfig  # computes in float32; every width is written out
    vocab_size: int  # rows of the embedding, at least the tokens of the tokenizer
    context_length: int | None  # that it was made for; None where the architecture has no such number
    bos_id: int | None
    eos_id: int | None  # the first, where there are several


def read_config(folder: epath.PathLike) -> HFModel:
    """Read and check `config.json`, with the names of transformers 4 or 5.

    Args:
        folder: of a causal language model of `ARCHITECTURES`.

    Raises:
        LosslineError: no such file, another architecture, or a field whose value is unknown or not supported.
    """
    path = epath.Path(folder) / "config.json"
    values = read_object(path)
    architecture = _architecture(values, str(path))
    fields = Fields(values, str(path))
    config = architecture.read(fields)
    vocab_size = fields.integer("vocab_size")
    context_length = fields.integer(architecture.context_field, None) if architecture.context_field else None
    bos_id, eos_id = fields.token_id("bos_token_id"), fields.token_id("eos_token_id")
    fields.finish()
    try:
        check_config(config)
    except LosslineError as error:
        raise LosslineError(f"{path}: {error}") from error
    return HFModel(config, vocab_size, max_context_length(config) or context_length, bos_id, eos_id)


def check_vocabulary(hf: HFModel, tokenizer_vocab_size: int, where: str) -> None:
    """Raise LosslineError where the tokenizer has more tokens than the model; fewer are padding."""
    if hf.vocab_size < tokenizer_vocab_size:
        raise LosslineError(
            f"{where}: config.json has vocab_size={hf.vocab_size}, but the tokenizer has {tokenizer_vocab_size} "
            "tokens; give the tokenizer.json that the model was trained with"
        )


def hf_architecture_of(config: ModelConfig) -> HFArchitecture:
    """How Hugging Face writes models of this config."""
    return next(each for each in ARCHITECTURES.values() if isinstance(config, each.config_class))


def config_json(config: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """The fields of a config.json that say what the model computes; the inverse of `read_config`.

    Written with the names of transformers 4, which 5 reads too.

    Raises:
        LosslineError: transformers has no such model.
    """
    architecture = hf_architecture_of(config)
    return {
        "architectures": [architecture.class_name],
        "model_type": architecture.model_type,
        "vocab_size": vocab_size,
        **architecture.write(config),
    }


def _architecture(values: dict[str, Any], where: str) -> HFArchitecture:
    known = ", ".join(f"{each.model_type} ({each.class_name})" for each in ARCHITECTURES.values())
    model_type, classes = values.get("model_type"), values.get("architectures")
    if model_type is None:
        raise LosslineError(f"{where}: field model_type is missing; supported: {known}")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise LosslineError(f"{where}: field model_type={model_type!r}: not supported; supported: {known}")
    architecture = ARCHITECTURES[model_type]
    if classes and classes != [architecture.class_name]:
        raise LosslineError(
            f"{where}: field architectures={classes!r}: not supported; supported for {model_type}: "
            f"{[architecture.class_name]}"
        )
    return architecture
