"""Measure the errors of logits and gradients of our models against transformers, with the same weights.

.venv/bin/python tests/support/huggingface_parity.py prints the table of the errors.
"""

import dataclasses
import pathlib
import shutil
import sys
import tempfile

import jax
import numpy as np
import pytest

from lossline_jax.config.model import Mamba2Config
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from lossline_jax.weights.huggingface.save import save_pretrained

VOCAB, BATCH, LENGTH = 61, 2, 23
QUICK = {"xla_backend_optimization_level": 0}  # halves the time to compile, which is most of the time of the tests
# The model of the study has one group, convolution width 2, no biases, and an inner width other than 2 * d_model.
STUDY = Mamba2Config(16, 2, num_heads=4, d_state=8, d_inner=64, conv_width=2, chunk_size=7)


@dataclasses.dataclass(frozen=True)
class Parity:
    """The errors of one model."""

    logits: float  # largest absolute error
    gradients: float  # largest error of a gradient, relative to the largest entry of its tensor


def their_config(case):
    """Return the config of a case of `TRANSFORMERS_CASES`, which transformers writes."""
    transformers = pytest.importorskip("transformers", reason="parity is measured against transformers")
    llama = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
    }
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 3.0,
        "original_max_position_embeddings": 12,
    }
    neox = {**llama, "rotary_pct": 0.5, "layer_norm_eps": 1e-5}
    neox = {name: value for name, value in neox.items() if name not in ("num_key_value_heads", "rms_norm_eps")}
    ssm = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2}
    mamba2 = {**ssm, "num_heads": 4, "head_dim": 16, "n_groups": 2, "state_size": 8, "chunk_size": 7}
    gpt2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    gpt2 |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}
    makers = {
        "llama": lambda: transformers.LlamaConfig(**llama, tie_word_embeddings=True),
        "llama, llama3 scaling": lambda: transformers.LlamaConfig(**llama, rope_parameters=llama3),
        "mamba": lambda: transformers.MambaConfig(**ssm, state_size=4),
        "mamba2, 2 groups": lambda: transformers.Mamba2Config(**mamba2),
        "gpt2": lambda: transformers.GPT2Config(**gpt2),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**neox),
        "gpt_neox, sequential": lambda: transformers.GPTNeoXConfig(**neox, use_parallel_residual=False),
    }
    return makers[case]()


TRANSFORMERS_CASES = (
    "llama",
    "llama, llama3 scaling",
    "mamba",
    "mamba2, 2 groups",
    "gpt2",
    "gpt_neox",
    "gpt_neox, sequential",
)
CASES = (*TRANSFORMERS_CASES, "mamba2, as in the study")


def write_case(case, folder):
    """Write a random model of the case to `folder`. Its norms and biases are random too."""
    torch = pytest.importorskip("torch", reason="parity is measured against torch")
    if case not in TRANSFORMERS_CASES:
        model = build_model(STUDY, VOCAB)
        save_pretrained(folder, model, model.init(jax.random.key(0)))
    transformers = pytest.importorskip("transformers", reason="parity is measured against transformers")
    torch.manual_seed(0)
    from_config = transformers.AutoModelForCausalLM.from_config
    model = from_config(their_config(case)) if case in TRANSFORMERS_CASES else load_in_transformers(folder)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if case not in TRANSFORMERS_CASES and name.endswith("dt_bias"):
                continue  # this form has no dt_bias: it stays zero
            tensor += 0.2 * torch.randn(tensor.shape)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)


def load_in_transformers(folder):
    """Return the model of a folder as transformers loads it, in float32 without dropout."""
    transformers = pytest.importorskip("transformers", reason="parity is measured against transformers")
    torch = pytest.importorskip("torch", reason="parity is measured against torch")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def random_tokens(seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, (BATCH, LENGTH + 1), dtype=np.int32)


def their_logits(folder, tokens_BT):
    import torch

    with torch.no_grad():
        return load_in_transformers(folder)(torch.tensor(tokens_BT).long()).logits.numpy()


def our_logits(folder, tokens_BT):
    hf = read_config(folder)
    model = build_model(hf.config, hf.vocab_size)
    return np.asarray(jax.jit(model.logits, compiler_options=QUICK)(load_pretrained_params(folder, model), tokens_BT))


def measure(folder, scratch, compiler_options=None):
    """Return the errors of our model of `folder` against that of transformers, on random tokens.

    `scratch` is a folder that this function makes.
    """
    import torch

    tokens_BT = random_tokens()
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    reference = load_in_transformers(folder)
    reference_logits_BTV = reference(torch.tensor(inputs_BT).long()).logits
    torch.nn.functional.cross_entropy(
        reference_logits_BTV.flatten(0, 1), torch.tensor(targets_BT).long().flatten()
    ).backward()

    hf = read_config(folder)
    model = build_model(hf.config, hf.vocab_size)
    params = load_pretrained_params(folder, model)

    def logits_and_gradients(params):
        gradients = jax.grad(lambda params: model.nll(params, inputs_BT, targets_BT).mean())(params)
        return model.logits(params, inputs_BT), gradients

    logits_BTV, gradients = jax.jit(logits_and_gradients, compiler_options=compiler_options)(params)
    expected = load_pretrained_params(_write_gradients(reference, scratch), model)
    return Parity(
        logits=float(np.abs(logits_BTV - reference_logits_BTV.detach().numpy()).max()),
        gradients=max(map(_relative_error, jax.tree.leaves(gradients), jax.tree.leaves(expected))),
    )


def _write_gradients(reference, folder):
    """Write gradients as a folder of weights, so that the loader gives them the layout of our params."""
    import torch

    with torch.no_grad():
        for name, tensor in reference.named_parameters():
            zero = name.endswith("dt_bias") and not getattr(reference.config, "use_dt_bias", True)
            tensor.copy_(torch.zeros_like(tensor) if zero else tensor.grad)
    reference.save_pretrained(folder)
    return folder


def _relative_error(values, reference):
    return float(np.abs(np.asarray(values) - np.asarray(reference)).max() / np.abs(np.asarray(reference)).max())


def main():
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{'case':26} {'logits, max abs error':>22} {'gradients, max relative':>24}")
    with tempfile.TemporaryDirectory() as scratch:
        for k, case in enumerate(CASES):
            folder = pathlib.Path(scratch) / f"case{k}"
            write_case(case, folder)
            parity = measure(folder, pathlib.Path(scratch) / f"gradients{k}")
            print(f"{case:26} {parity.logits:22.1e} {parity.gradients:24.1e}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
