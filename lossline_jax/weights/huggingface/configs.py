"""Convert the config.json of a Hugging Face folder to a lossline model config and back.

This module does not import jax.
"""

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

ARCHITECTURES: dict[str, HFArchitecture[Any]] = {
    architecture.model_type: architecture for architecture in (LLAMA, MAMBA, MAMBA2, GPT2, GPT_NEOX)
}


@dataclass(frozen=True)
class HFModel:
    """A model as its config.json describes it."""

    config: ModelConfig  # with compute dtype float32 and an explicit value for every width
    vocab_size: int  # rows of the embedding: the number of tokens in the tokenizer, or more
    context_length: int | None  # training context in tokens. None: the architecture or the file has no such number
    bos_id: int | None  # None: the file names no such token
    eos_id: int | None  # the first id of a list. None: the file names no such token


def read_config(folder: epath.PathLike) -> HFModel:
    """Read and check `config.json`, with the field names of transformers 4 or 5.

    Args:
        folder: the folder of a causal language model whose `model_type` is in `ARCHITECTURES`.

    Raises:
        LosslineError: the file is missing, its architecture is not supported, or a field is unknown or not supported.
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
    """Raise LosslineError if the tokenizer has more tokens than the model's embedding has rows.

    An embedding with more rows than tokens is valid, because the remaining rows are padding.

    Args:
        hf: the model.
        tokenizer_vocab_size: the number of tokens in the tokenizer.
        where: the tokenizer file, for the message.
    """
    if hf.vocab_size < tokenizer_vocab_size:
        raise LosslineError(
            f"{where}: config.json has vocab_size={hf.vocab_size}, but the tokenizer has {tokenizer_vocab_size} "
            "tokens; give the tokenizer.json that the model was trained with"
        )


def hf_architecture_of(config: ModelConfig) -> HFArchitecture[Any]:
    """Return the Hugging Face architecture for a lossline model config."""
    return next(known for known in ARCHITECTURES.values() if isinstance(config, known.config_class))


def config_json(config: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """Return the fields of a config.json that define the computation of a model. It is the inverse of `read_config`.

    The fields have the names of transformers 4, which transformers 5 reads too.

    Args:
        config: the model.
        vocab_size: rows of the embedding.

    Raises:
        LosslineError: transformers cannot express the model.
    """
    architecture = hf_architecture_of(config)
    return {
        "architectures": [architecture.class_name],
        "model_type": architecture.model_type,
        "vocab_size": vocab_size,
        **architecture.write(config),
    }


def _architecture(values: dict[str, Any], where: str) -> HFArchitecture[Any]:
    known = ", ".join(f"{supported.model_type} ({supported.class_name})" for supported in ARCHITECTURES.values())
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
