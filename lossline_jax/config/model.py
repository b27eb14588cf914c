"""The configs of the model architectures.

All of them have three fields that leave the shape of a model as it is. Dropout (`dropout`, `dropout_from`) acts after
the embedding and before each sum with the residual stream, in training alone. `weight_bits` rounds the matrices of the
blocks in every forward pass, in training and in evaluation.

This module does not import jax, so `plan` and `--help` start fast. The vocabulary size is not part of a model's
config. It belongs to the tokenizer of the run.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Dtype = Literal["float32", "bfloat16"]
DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Llama3RopeScaling:
    """The rotary scaling of Llama 3.1 for contexts longer than `original_context_length` tokens.

    Wavelengths beyond `original_context_length / low_freq_factor` are stretched by `factor`. Wavelengths below
    `original_context_length / high_freq_factor` are kept. Wavelengths between the two are interpolated smoothly.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192


@dataclass(frozen=True)
class LlamaConfig:
    """A pre-norm Transformer with RoPE, RMSNorm and SwiGLU, without biases (Touvron et al. 2023).

    The defaults are the base model of "LLMs on the Line" (arXiv 2502.12120).
    """

    architecture: ClassVar[str] = "llama"

    d_model: int = 1024
    num_layers: int = 12
    num_heads: int = 8
    num_kv_heads: int | None = None  # None: as many as num_heads
    d_ff: int | None = None  # None: round_up(int(8 d_model / 3), 256)
    tied_embeddings: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: Llama3RopeScaling | None = None  # None: plain RoPE
    norm_eps: float = 1e-5
    compute_dtype: Dtype = "float32"
    dropout: float = field(default=0.0, metadata={"since": 2})  # probability that a value is dropped in training
    dropout_from: float = field(default=0.0, metadata={"since": 2})  # fraction of the run without dropout, at its start
    weight_bits: int | None = field(default=None, metadata={"since": 2})  # of the blocks' matrices; None: not rounded

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.d_model // self.num_heads

    @property
    def kv_heads(self) -> int:
        """The number of key-value heads, with the default of `num_kv_heads` filled in."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def mlp_width(self) -> int:
        """The hidden width of the MLP, with the default of `d_ff` filled in."""
        return round_up(int(8 * self.d_model / 3), 256) if self.d_ff is None else self.d_ff


@dataclass(frozen=True)
class Mamba2Config:
    """Mamba-2 (SSD) blocks with one scalar decay per head, without an MLP (Dao & Gu 2024, arXiv 2405.21060).

    The defaults are the Mamba of "LLMs on the Line": 16 heads, 1 group, state 128, convolution width 2.
    """

    architecture: ClassVar[str] = "mamba2"

    d_model: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    num_groups: int = 1
    d_state: int = 128
    d_inner: int | None = None  # None: round_up(2 d_model, 256)
    conv_width: int = 2
    chunk_size: int | None = None  # positions per chunk of the scan; None: chosen for the backend
    tied_embeddings: bool = False
    norm_eps: float = 1e-5
    conv_bias: bool = False
    dt_bias: bool = False  # a learned bias of the step sizes, which the models of the paper do not have
    dt_min: float = 1e-3  # with `dt_bias`, step sizes are initialised in [dt_min, dt_max]
    dt_max: float = 1e-1
    compute_dtype: Dtype = "float32"
    dropout: float = field(default=0.0, metadata={"since": 2})  # probability that a value is dropped in training
    dropout_from: float = field(default=0.0, metadata={"since": 2})  # fraction of the run without dropout, at its start
    weight_bits: int | None = field(default=None, metadata={"since": 2})  # of the blocks' matrices; None: not rounded

    @property
    def inner(self) -> int:
        """The inner width of a block, with the default of `d_inner` filled in."""
        return round_up(2 * self.d_model, 256) if self.d_inner is None else self.d_inner

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return self.inner // self.num_heads


@dataclass(frozen=True)
class MambaConfig:
    """Mamba-1 blocks: a selective scan with a diagonal state per channel (Gu & Dao 2023, arXiv 2312.00752)."""

    architecture: ClassVar[str] = "mamba"

    d_model: int = 1024
    num_layers: int = 24
    d_state: int = 16
    d_inner: int | None = None  # None: 2 d_model
    conv_width: int = 4
    dt_rank: int | None = None  # None: ceil(d_model / 16)
    chunk_size: int = 8  # positions per chunk of the scan
    tied_embeddings: bool = True
    norm_eps: float = 1e-5
    dt_min: float = 1e-3  # step sizes are initialised in [dt_min, dt_max]
    dt_max: float = 1e-1
    compute_dtype: Dtype = "float32"
    dropout: float = field(default=0.0, metadata={"since": 2})  # probability that a value is dropped in training
    dropout_from: float = field(default=0.0, metadata={"since": 2})  # fraction of the run without dropout, at its start
    weight_bits: int | None = field(default=None, metadata={"since": 2})  # of the blocks' matrices; None: not rounded

    @property
    def inner(self) -> int:
        """The inner width of a block, with the default of `d_inner` filled in."""
        return 2 * self.d_model if self.d_inner is None else self.d_inner

    @property
    def delta_rank(self) -> int:
        """The rank of the step-size projection, with the default of `dt_rank` filled in."""
        return -(-self.d_model // 16) if self.dt_rank is None else self.dt_rank


class _GPTWidths:
    """The widths that both GPT configs derive from their fields."""

    d_model: int
    num_heads: int
    d_ff: int | None

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.d_model // self.num_heads

    @property
    def mlp_width(self) -> int:
        """The hidden width of the MLP, with the default of `d_ff` filled in."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff


@dataclass(frozen=True)
class GPT2Config(_GPTWidths):
    """A pre-norm Transformer with learned positions, LayerNorm, GELU and biases everywhere (Radford et al. 2019).

    The defaults are the smallest GPT-2.
    """

    architecture: ClassVar[str] = "gpt2"

    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int | None = None  # None: 4 d_model
    max_positions: int = 1024  # the longest context that the model can read, in tokens
    tied_embeddings: bool = True
    norm_eps: float = 1e-5
    compute_dtype: Dtype = "float32"
    dropout: float = field(default=0.0, metadata={"since": 2})  # probability that a value is dropped in training
    dropout_from: float = field(default=0.0, metadata={"since": 2})  # fraction of the run without dropout, at its start
    weight_bits: int | None = field(default=None, metadata={"since": 2})  # of the blocks' matrices; None: not rounded


@dataclass(frozen=True)
class GPTNeoXConfig(_GPTWidths):
    """A GPT-NeoX Transformer with partial rotary positions, LayerNorm and biases (Black et al. 2022).

    Attention and MLP run in parallel. The defaults are the shape of Pythia-160m.
    """

    architecture: ClassVar[str] = "gpt_neox"

    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int | None = None  # None: 4 d_model
    rotary_fraction: float = 0.25  # fraction of a head's channels that are rotated
    rope_theta: float = 10_000.0
    parallel_residual: bool = True  # False: the MLP reads the residual stream after attention has added to it
    tied_embeddings: bool = False
    norm_eps: float = 1e-5
    compute_dtype: Dtype = "float32"
    dropout: float = field(default=0.0, metadata={"since": 2})  # probability that a value is dropped in training
    dropout_from: float = field(default=0.0, metadata={"since": 2})  # fraction of the run without dropout, at its start
    weight_bits: int | None = field(default=None, metadata={"since": 2})  # of the blocks' matrices; None: not rounded

    @property
    def rotary_dim(self) -> int:
        """The number of channels of a head that are rotated."""
        return int(self.head_dim * self.rotary_fraction)


ModelConfig = LlamaConfig | Mamba2Config | MambaConfig | GPT2Config | GPTNeoXConfig


def max_context_length(config: ModelConfig) -> int | None:
    """Return the longest context that the model can read, in tokens. None: there is no limit."""
    return config.max_positions if isinstance(config, GPT2Config) else None
