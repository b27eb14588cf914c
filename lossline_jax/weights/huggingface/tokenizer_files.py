"""The tokenizer_config.json that goes with a tokenizer.json, so that AutoTokenizer takes it as it is."""

import json
from typing import Any

from lossline_jax.errors import LosslineError


def tokenizer_config_json(tokenizer_json: bytes, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Fields of a tokenizer_config.json.

    Without it transformers picks a class by the model's type, and some of those classes rebuild the tokenizer
    in their own way.

    Args:
        tokenizer_json: content of the tokenizer.json.
        bos_id, eos_id: special tokens, named in it by their text.

    Raises:
        LosslineError: it is no tokenizer.json, or has no such token.
    """
    try:
        description = json.loads(tokenizer_json)
        vocabulary = description["model"]["vocab"]
        added = {token["id"]: token["content"] for token in description.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise LosslineError("tokenizer.json: it has no model with a vocabulary; fetch it anew") from error
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for field, index in (("bos_token", bos_id), ("eos_token", eos_id)):
        if index is not None:
            config[field] = added[index] if index in added else _text(vocabulary, index, field)
    return config


def _text(vocabulary: Any, index: int, field: str) -> str:
    """Vocabularies are a mapping to ids, or a list of [text, score] (Unigram)."""
    if isinstance(vocabulary, dict):
        texts = [text for text, at in vocabulary.items() if at == index]
    else:
        texts = [text for text, _ in vocabulary[index : index + 1]]
    if not texts:
        raise LosslineError(f"tokenizer.json: has no token {index}, the {field}; give the tokenizer of the model")
    return texts[0]
