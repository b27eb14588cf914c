"""A compact torch Llama in the style of nanoGPT: fused projections, SDPA, and rotary tables that are computed once."""

import torch
import torch.nn.functional as F
from torch import nn

from lossline_jax.config.model import LlamaConfig


class _Norm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _Block(nn.Module):
    def __init__(self, config: LlamaConfig):
        super().__init__()
        d, self.num_heads, self.head_dim = config.d_model, config.num_heads, config.head_dim
        self.attention_norm, self.mlp_norm = _Norm(d, config.norm_eps), _Norm(d, config.norm_eps)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.attention_out = nn.Linear(d, d, bias=False)
        self.gate_up = nn.Linear(d, 2 * config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, d, bias=False)

    def forward(self, x_BTD: torch.Tensor, cosine_TH: torch.Tensor, sine_TH: torch.Tensor) -> torch.Tensor:
        batch, length, width = x_BTD.shape
        qkv = self.qkv(self.attention_norm(x_BTD)).view(batch, length, 3, self.num_heads, self.head_dim)
        q_BNTH, k_BNTH, v_BNTH = qkv.permute(2, 0, 3, 1, 4)
        q_BNTH, k_BNTH = _rotate(q_BNTH, cosine_TH, sine_TH), _rotate(k_BNTH, cosine_TH, sine_TH)
        out_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)
        x_BTD = x_BTD + self.attention_out(out_BNTH.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.mlp_norm(x_BTD)).chunk(2, dim=-1)
        return x_BTD + self.down(F.silu(gate) * up)


class CompactLlama(nn.Module):
    """A Llama that maps tokens [B, T] to logits [B, T, V].

    It has as many key/value heads as query heads, and its embedding and unembedding are not tied.
    """

    def __init__(self, config: LlamaConfig, vocab_size: int, length: int):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.d_model)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.final_norm = _Norm(config.d_model, config.norm_eps)
        self.unembed = nn.Linear(config.d_model, vocab_size, bias=False)
        frequencies = config.rope_theta ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
        self.register_buffer("cosine_TH", angles.cos())
        self.register_buffer("sine_TH", angles.sin())

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        x_BTD = self.embed(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, self.cosine_TH, self.sine_TH)
        return self.unembed(self.final_norm(x_BTD))

    def load_hugging_face(self, state_dict: dict[str, torch.Tensor]) -> "CompactLlama":
        """Load the weights from the state dict of a `LlamaForCausalLM` of this shape."""
        weights = {
            "embed.weight": state_dict["model.embed_tokens.weight"],
            "final_norm.weight": state_dict["model.norm.weight"],
            "unembed.weight": state_dict["lm_head.weight"],
            "cosine_TH": self.cosine_TH,
            "sine_TH": self.sine_TH,
        }
        for k in range(len(self.blocks)):
            layer = {
                name.removeprefix(f"model.layers.{k}.").removesuffix(".weight"): value
                for name, value in state_dict.items()
                if name.startswith(f"model.layers.{k}.")
            }
            parts = {
                "attention_norm": layer["input_layernorm"],
                "mlp_norm": layer["post_attention_layernorm"],
                "qkv": torch.cat([layer[f"self_attn.{c}_proj"] for c in "qkv"]),
                "attention_out": layer["self_attn.o_proj"],
                "gate_up": torch.cat([layer["mlp.gate_proj"], layer["mlp.up_proj"]]),
                "down": layer["mlp.down_proj"],
            }
            weights |= {f"blocks.{k}.{name}.weight": value for name, value in parts.items()}
        self.load_state_dict(weights)
        return self


def _rotate(x_BNTH: torch.Tensor, cosine_TH: torch.Tensor, sine_TH: torch.Tensor) -> torch.Tensor:
    first, second = x_BNTH.chunk(2, dim=-1)
    return x_BNTH * cosine_TH + torch.cat((-second, first), dim=-1) * sine_TH
