"""The side of torch in `models.py`: models with our weights, trained by forward, backward, clip, fused AdamW."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from compact_llama import CompactLlama
from ours import OPTIM, Training, synthetic_tokens
from torch import nn
from transformers import AutoModelForCausalLM

from lossline_jax.config.model import LlamaConfig
from lossline_jax.weights.huggingface.save import save_pretrained

HF_SSD_CHUNK = 64  # positions; the fastest of 32 to 256 for HF's Mamba-2 on CPU


@dataclass
class Peer:
    """A torch model, with the one batch that it is trained on and scored with."""

    logits: Callable[[torch.Tensor], torch.Tensor]  # the module, or its compiled form
    module: nn.Module
    optimiser: torch.optim.Optimizer
    ids: torch.Tensor

    def first_loss(self) -> float:
        """Return the loss in nats/token at the start values. Nothing changes."""
        with torch.inference_mode():
            return float(self._loss())

    def train(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self._loss().backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), OPTIM.clip_norm)
        self.optimiser.step()

    def score(self) -> None:
        with torch.inference_mode():
            self._loss()

    def _loss(self) -> torch.Tensor:
        logits_BTV = self.logits(self.ids[:, :-1])
        return F.cross_entropy(logits_BTV.flatten(0, 1), self.ids[:, 1:].flatten())


def peers(names: list[str], run: Training, batch_size: int, length: int, threads: int) -> dict[str, Peer]:
    """Return the named peers with the weights of `run`, which must not have been trained yet.

    Args:
        names: `hf` is transformers, eager. A Llama also has `compact` (SDPA, eager) and `compiled` (torch.compile).
        run: our model at its start values.
        batch_size: sequences.
        length: tokens of a sequence.
        threads: number of threads of torch.
    """
    torch.set_num_threads(threads)
    hugging_face = _hugging_face(run, length)
    ids = torch.from_numpy(synthetic_tokens(run.model.vocab_size, batch_size, length).astype(np.int64))
    built = {}
    for name in names:
        if name == "hf":
            built[name] = _peer(hugging_face, lambda tokens: hugging_face(tokens, use_cache=False).logits, ids)
        else:
            assert isinstance(run.model.config, LlamaConfig)
            compact = CompactLlama(run.model.config, run.model.vocab_size, length)
            compact.load_hugging_face(hugging_face.state_dict())
            built[name] = _peer(compact, torch.compile(compact) if name == "compiled" else compact, ids)
    return built


def _hugging_face(run: Training, length: int) -> nn.Module:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        options = {"context_length": length, "tokenizer_json": None, "bos_id": None, "eos_id": None}
        save_pretrained(folder, run.model, run.state.params, **options)
        chunk = {"chunk_size": HF_SSD_CHUNK} if run.model.config.architecture == "mamba2" else {}
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **chunk)


def _peer(module: nn.Module, logits: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor) -> Peer:
    optimiser = torch.optim.AdamW(
        module.parameters(),
        lr=OPTIM.learning_rate,
        betas=(OPTIM.beta1, OPTIM.beta2),
        eps=OPTIM.eps,
        weight_decay=OPTIM.weight_decay,
        fused=True,
    )
    return Peer(logits, module.train(), optimiser, ids)
