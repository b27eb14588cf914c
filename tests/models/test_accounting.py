"""Parameter counts equal the study's table and the sizes of the leaves. FLOPs equal the compiler's count."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from lossline_jax.config.model import GPT2Config, GPTNeoXConfig, LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.config.presets import GPT2_VOCAB_SIZE, PRESETS, preset
from lossline_jax.errors import LosslineError
from lossline_jax.models import mamba, mamba2
from lossline_jax.models.accounting import count_parameters, forward_flops_per_token, train_flops_per_token
from lossline_jax.models.decoder import unembedding
from lossline_jax.models.gpt import GPTBlock
from lossline_jax.models.llama import LlamaBlock
from lossline_jax.models.mamba import MambaBlock
from lossline_jax.models.mamba2 import Mamba2Block
from lossline_jax.models.model import build_model
from lossline_jax.ops.nll import logits
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.selective_scan import selective_scan_reference
from lossline_jax.ops.ssd import ssd_reference

TABLE = [  # study A: total parameters, non-embedding in millions
    ("study-llama-1024x12", 416_834_560, 154.2),
    ("study-llama-1024x8", 365_446_144, 102.8),
    ("study-llama-1024x4", 314_057_728, 51.4),
    ("study-llama-512x12", 172_241_408, 40.9),
    ("study-llama-512x8", 158_605_824, 27.3),
    ("study-llama-512x4", 144_970_240, 13.6),
    ("study-llama-256x12", 75_897_088, 10.2),
    ("study-llama-256x8", 72_487_168, 6.8),
    ("study-llama-256x4", 69_077_248, 3.4),
    ("study-llama-1024x25", 424_104_960, 321.2),
    ("study-llama-1024x20", 359_869_440, 256.9),
    ("study-llama-1024x17", 321_328_128, 218.4),
    ("study-mamba2-1024x24", 420_534_016, 157.9),
    ("study-mamba2-1024x16", 367_912_448, 105.2),
    ("study-mamba2-1024x8", 315_290_880, 52.6),
    ("study-mamba2-512x24", 172_524_800, 41.2),
    ("study-mamba2-512x16", 158_794_752, 27.5),
    ("study-mamba2-512x8", 145_064_704, 13.7),
    ("study-mamba2-256x24", 76_831_744, 11.2),
    ("study-mamba2-256x16", 73_110_272, 7.4),
    ("study-mamba2-256x8", 69_388_800, 3.7),
    ("study-mamba2-1360x24", 421_569_648, 284.9),
    ("study-mamba2-1360x19", 362_221_888, 225.5),
    ("study-mamba2-1360x15", 314_743_680, 178.0),
]
PUBLISHED = {  # parameters that the authors or their model cards state
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mamba2-130m": 128_989_632,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "llama-3.2-1b": 1_235_814_400,
}
VARIANTS = [
    LlamaConfig(64, 3, 8, num_kv_heads=2, d_ff=100, tied_embeddings=True),
    Mamba2Config(64, 3, num_heads=8, num_groups=2, d_state=5, conv_bias=True, dt_bias=True),
    MambaConfig(64, 3),
    MambaConfig(48, 2, d_state=3, d_inner=80, conv_width=3, dt_rank=7, tied_embeddings=False),
    GPT2Config(64, 3, 4, max_positions=33),
    GPT2Config(48, 2, 4, d_ff=70, max_positions=9, tied_embeddings=False),
    GPTNeoXConfig(64, 3, 4, d_ff=96),
]


def counted_leaves(config, vocab_size):
    shapes = jax.eval_shape(build_model(config, vocab_size).init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_every_row_of_the_study(row):
    name, total, millions = row
    config, vocab_size = PRESETS[name].config, PRESETS[name].vocab_size
    counts = count_parameters(config, vocab_size)
    assert counts.total == total == counted_leaves(config, vocab_size)
    assert counts.embedding == 2 * vocab_size * config.d_model
    assert counts.non_embedding == total - counts.embedding
    assert abs(counts.non_embedding / 1e6 - millions) < 0.051


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_presets_have_the_parameters_that_their_authors_state(name):
    assert count_parameters(PRESETS[name].config, PRESETS[name].vocab_size).total == PUBLISHED[name]


def test_every_preset_is_tested_above_and_can_be_changed():
    assert set(PRESETS) == {row[0] for row in TABLE} | set(PUBLISHED)
    assert preset("study-llama-256x4", num_layers=5) == LlamaConfig(256, 5, compute_dtype="bfloat16")
    with pytest.raises(LosslineError, match=r"'study-lama-256x4' is not one of .*did you mean 'study-llama-256x4'"):
        preset("study-lama-256x4")
    with pytest.raises(LosslineError, match="has no field 'layers'"):
        preset("gpt2", layers=3)


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_options_are_counted(config):
    assert count_parameters(config, 100).total == counted_leaves(config, 100)


def compiler_flops(config, vocab_size, batch, length, training=False):
    """Return the compiler's count of FLOPs of a forward pass, or of one with its gradient.

    The layers are unrolled, because the compiler counts the body of a scan once, for any length.
    """
    layer = {
        LlamaConfig: lambda: LlamaBlock(config, "xla"),
        GPTNeoXConfig: lambda: GPTBlock(config, "xla"),
        Mamba2Config: lambda: Mamba2Block(config),
        MambaConfig: lambda: MambaBlock(config),
    }[type(config)]()

    def forward(params, tokens_BT):
        x_BTD = params["embed"][tokens_BT]
        for k in range(config.num_layers):
            x_BTD = layer.apply({"params": jax.tree.map(lambda leaf, k=k: leaf[k], params["blocks"])}, x_BTD)
        return logits(rms_norm(x_BTD, params["final_norm"], config.norm_eps), unembedding(params))

    params = jax.eval_shape(build_model(config, vocab_size).init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    counted = jax.value_and_grad(lambda *args: forward(*args).sum()) if training else forward
    return jax.jit(counted).lower(params, tokens).cost_analysis()["flops"]


@pytest.mark.parametrize("config", [LlamaConfig(128, 2, 4, num_kv_heads=2), GPTNeoXConfig(128, 2, 4)], ids=str)
def test_transformer_flops_are_the_compilers(config, monkeypatch):
    """All terms but GELU count. Eight blocks of queries compute 9/16 of the square, and the convention counts half."""
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: x)
    length = 512
    attention_share = config.num_layers * 4 * 128 * (length + 1) / 2 / forward_flops_per_token(config, 300, length)
    assert attention_share > 0.15  # otherwise the test would not notice an error in this term
    expected = 2 * length * forward_flops_per_token(config, 300, length) * (1 + attention_share / 8)
    assert compiler_flops(config, 300, 2, length) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("config", [LlamaConfig(256, 2, 4), GPTNeoXConfig(256, 2, 4)], ids=str)
def test_training_flops_are_the_compilers(config, monkeypatch):
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: x)
    length = 256
    attention_share = config.num_layers * 4 * 256 * (length + 1) / 2 / forward_flops_per_token(config, 300, length)
    expected = 2 * length * train_flops_per_token(config, 300, length) * (1 + attention_share / 8)
    assert compiler_flops(config, 300, 2, length, training=True) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("config", [Mamba2Config(64, 2, d_state=64), MambaConfig(64, 2, d_state=64)], ids=str)
def test_state_space_flops_are_the_compilers(config, monkeypatch):
    """All terms count. The recurrence at a single position replaces the chunked scan."""
    monkeypatch.setattr(mamba2, "ssd", lambda *arrays, **_: ssd_reference(*arrays))
    monkeypatch.setattr(mamba, "selective_scan", lambda *arrays, **_: selective_scan_reference(*arrays))
    expected = 4 * forward_flops_per_token(config, 300, 1)
    assert compiler_flops(config, 300, 4, 1) == pytest.approx(expected, rel=0.03)


def test_longer_contexts_cost_attention_alone():
    llama, scan = LlamaConfig(64, 2, 4), Mamba2Config(64, 2)
    added = forward_flops_per_token(llama, 100, 301) - forward_flops_per_token(llama, 100, 101)
    assert added == 2 * 4 * 64 * 100
    assert forward_flops_per_token(scan, 100, 301) == forward_flops_per_token(scan, 100, 101)


def test_training_costs_three_forward_passes_and_about_six_flops_a_weight():
    config = LlamaConfig(1024, 12)
    train = train_flops_per_token(config, GPT2_VOCAB_SIZE, 256)
    assert train == 3 * forward_flops_per_token(config, GPT2_VOCAB_SIZE, 256)
    weights = count_parameters(config, GPT2_VOCAB_SIZE).total - GPT2_VOCAB_SIZE * 1024  # the embedding is a look-up
    assert train == pytest.approx(6 * weights, rel=0.05)


def test_accounting_does_not_import_jax():
    code = "import sys, lossline_jax.models.accounting; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
