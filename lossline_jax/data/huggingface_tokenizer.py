"""Hugging Face `tokenizer.json` files (extra `hf`): GPT-2, GPT-NeoX, Llama 2 and 3 style."""

import hashlib
import json
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from etils import epath

from lossline_jax.data.surfaces import SurfaceTokenizer, special_ids
from lossline_jax.errors import LosslineError

BOS_NAMES = ("<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", "[CLS]")
EOS_NAMES = ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "[SEP]")


class HuggingFaceTokenizerFile(SurfaceTokenizer):
    """A `tokenizer.json`. BOS and EOS are those that are given, else the first of BOS_NAMES and EOS_NAMES among
    its special tokens; where it has one of them only (`<|endoftext|>` of GPT-2) that one serves as both.

    Text that looks like a special token is encoded as text.

    Attributes:
        content: of the file.
    """

    def __init__(self, path: epath.Path, bos_id: int | None = None, eos_id: int | None = None):
        """Raises LosslineError if the extra or the file is missing, it is no tokenizer, or has no such ids."""
        tokenizers = import_tokenizers(str(path))
        self.content = content = path.read_bytes()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain Exception
            raise LosslineError(f"{path}: not a tokenizer.json ({' '.join(str(error).split())})") from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        description = json.loads(content)
        added = {token["content"]: token for token in description["added_tokens"]}
        stated = [index for index in (bos_id, eos_id) if index is not None]
        if any(index >= self._tokenizer.get_vocab_size() for index in stated):
            raise LosslineError(f"{path}: has no tokens {stated}, which are to be its BOS and EOS")
        named_bos, named_eos = _first_id(BOS_NAMES, added), _first_id(EOS_NAMES, added)
        ids = special_ids(named_bos if bos_id is None else bos_id, named_eos if eos_id is None else eos_id)
        if ids is None:
            raise LosslineError(f"{path}: no special token out of {BOS_NAMES} or {EOS_NAMES}; add one to it")
        surfaces = _surfaces(self._tokenizer, added, _is_byte_level(description))
        begins = b"".join(surfaces[index] for index in self.encode("a"))
        prefix = " " if begins == b" a" else ""
        chosen = f" {bos_id} {eos_id}".encode() if stated else b""
        super().__init__(surfaces, *ids, hashlib.sha256(content + chosen).hexdigest(), prefix)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


def import_tokenizers(where: str) -> ModuleType:
    """The package of the extra. Raises LosslineError, beginning with `where`, if it is missing."""
    try:
        import tokenizers
    except ImportError as error:
        raise LosslineError(f"{where}: needs tokenizers: pip install 'lossline_jax[hf]'") from error
    return tokenizers


def byte_of_character() -> dict[str, int]:
    """The bytes behind the visible characters of a byte-level vocabulary (GPT-2, `encoder.py`)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + k): byte for k, byte in enumerate(hidden)}


def _first_id(names: Sequence[str], added: dict[str, dict[str, Any]]) -> int | None:
    return next((added[name]["id"] for name in names if name in added), None)


def _is_byte_level(description: dict[str, Any]) -> bool:
    return any('"ByteLevel"' in json.dumps(description[part]) for part in ("pre_tokenizer", "decoder"))


def _surfaces(tokenizer: Any, added: dict[str, dict[str, Any]], byte_level: bool) -> list[bytes]:
    bytes_of = byte_of_character()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    surfaces = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        if token in added:
            surfaces[index] = b"" if added[token]["special"] else token.encode("utf-8")
        elif byte_level:
            surfaces[index] = bytes(bytes_of[character] for character in token)
        elif byte := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
            surfaces[index] = bytes.fromhex(byte[1])
        else:
            surfaces[index] = token.replace("\u2581", " ").encode("utf-8")
    return surfaces
