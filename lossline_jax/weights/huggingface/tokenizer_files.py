"""Make the tokenizer_config.json with which AutoTokenizer loads a tokenizer.json unchanged."""

import json
from typing import Any

from lossline_jax.errors import LosslineError


def tokenizer_config_json(tokenizer_json: bytes, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Return the fields of a tokenizer_config.json.

    Without this file transformers chooses a tokenizer class by the model type.
    Some of those classes rebuild the tokenizer differently.

    Args:
        tokenizer_json: content of the tokenizer.json.
        bos_id: the token that begins a text; the result has its text. None: there is no such token.
        eos_id: the token that ends a text; the result has its text. None: there is no such token.

    Raises:
        LosslineError: the content is not a tokenizer.json, or has no token with such an id.
    """
    try:
        description = json.loads(tokenizer_json)
        vocabulary = description["model"]["vocab"]
        added = {token["id"]: token["content"] for token in description.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise LosslineError("tokenizer.json: it has no model with a vocabulary; download it again") from error
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for field, index in (("bos_token", bos_id), ("eos_token", eos_id)):
        if index is not None:
            config[field] = added[index] if index in added else _text(vocabulary, index, field)
    return config


def _text(vocabulary: Any, index: int, field: str) -> str:
    """Return the text of a token. A vocabulary is a mapping from text to id, or a list of [text, score] (Unigram)."""
    if isinstance(vocabulary, dict):
        texts = [text for text, at in vocabulary.items() if at == index]
    else:
        texts = [text for text, _ in vocabulary[index : index + 1]]
    if not texts:
        raise LosslineError(f"tokenizer.json: has no token {index}, the {field}; give the tokenizer of the model")
    return texts[0]
