"""Parameter counts against the study's table and counted leaves; FLOPs against the compiler's count."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from lossline_jax.models import mamba, mamba2
from lossline_jax.models.accounting import (
    count_parameters,
    forward_flops_per_token,
    train_flops_per_token,
)
from lossline_jax.models.base import build_model
from lossline_jax.models.config import LlamaConfig, Mamba2Config, MambaConfig
from lossline_jax.models.decoder import unembedding
from lossline_jax.models.llama import LlamaBlock
from lossline_jax.models.mamba import MambaBlock
from lossline_jax.models.mamba2 import Mamba2Block
from lossline_jax.ops.nll import logits
from lossline_jax.ops.norms import rms_norm
from lossline_jax.ops.selective_scan import selective_scan_reference
from lossline_jax.ops.ssd import ssd_reference

LLAMA3, GPT2 = 128_256, 50_257
TABLE = [  # study A: architecture, vocabulary, width, layers, total parameters, non-embedding in millions
    (LlamaConfig, LLAMA3, 1024, 12, 416_834_560, 154.2),
    (LlamaConfig, LLAMA3, 1024, 8, 365_446_144, 102.8),
    (LlamaConfig, LLAMA3, 1024, 4, 314_057_728, 51.4),
    (LlamaConfig, LLAMA3, 512, 12, 172_241_408, 40.9),
    (LlamaConfig, LLAMA3, 512, 8, 158_605_824, 27.3),
    (LlamaConfig, LLAMA3, 512, 4, 144_970_240, 13.6),
    (LlamaConfig, LLAMA3, 256, 12, 75_897_088, 10.2),
    (LlamaConfig, LLAMA3, 256, 8, 72_487_168, 6.8),
    (LlamaConfig, LLAMA3, 256, 4, 69_077_248, 3.4),
    (LlamaConfig, GPT2, 1024, 25, 424_104_960, 321.2),
    (LlamaConfig, GPT2, 1024, 20, 359_869_440, 256.9),
    (LlamaConfig, GPT2, 1024, 17, 321_328_128, 218.4),
    (Mamba2Config, LLAMA3, 1024, 24, 420_534_016, 157.9),
    (Mamba2Config, LLAMA3, 1024, 16, 367_912_448, 105.2),
    (Mamba2Config, LLAMA3, 1024, 8, 315_290_880, 52.6),
    (Mamba2Config, LLAMA3, 512, 24, 172_524_800, 41.2),
    (Mamba2Config, LLAMA3, 512, 16, 158_794_752, 27.5),
    (Mamba2Config, LLAMA3, 512, 8, 145_064_704, 13.7),
    (Mamba2Config, LLAMA3, 256, 24, 76_831_744, 11.2),
    (Mamba2Config, LLAMA3, 256, 16, 73_110_272, 7.4),
    (Mamba2Config, LLAMA3, 256, 8, 69_388_800, 3.7),
    (Mamba2Config, GPT2, 1360, 24, 421_569_648, 284.9),
    (Mamba2Config, GPT2, 1360, 19, 362_221_888, 225.5),
    (Mamba2Config, GPT2, 1360, 15, 314_743_680, 178.0),
]
VARIANTS = [
    LlamaConfig(64, 3, 8, num_kv_heads=2, d_ff=100, tied_embeddings=True),
    Mamba2Config(64, 3, num_heads=8, num_groups=2, d_state=5, conv_bias=True, dt_bias=True),
    MambaConfig(64, 3),
    MambaConfig(48, 2, d_state=3, d_inner=80, conv_width=3, dt_rank=7, tied_embeddings=False),
]


def counted_leaves(config, vocab_size):
    shapes = jax.eval_shape(build_model(config, vocab_size).init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0].architecture}-{row[1]}-{row[2]}x{row[3]}")
def test_every_row_of_the_study(row):
    make, vocab_size, d_model, num_layers, total, millions = row
    config = make(d_model=d_model, num_layers=num_layers)
    counts = count_parameters(config, vocab_size)
    assert counts.total == total == counted_leaves(config, vocab_size)
    assert counts.embedding == 2 * vocab_size * d_model
    assert counts.non_embedding == total - counts.embedding
    assert abs(counts.non_embedding / 1e6 - millions) < 0.051


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_options_are_counted(config):
    assert count_parameters(config, 100).total == counted_leaves(config, 100)


def compiler_flops(config, vocab_size, batch, length):
    """The compiler's count of one forward pass with the layers unrolled: it counts a scanned body once."""
    block = {LlamaConfig: LlamaBlock, Mamba2Config: Mamba2Block, MambaConfig: MambaBlock}[type(config)]
    layer = block(config, "xla") if block is LlamaBlock else block(config)

    def forward(params, tokens_BT):
        x_BTD = params["embed"][tokens_BT]
        for k in range(config.num_layers):
            x_BTD = layer.apply({"params": jax.tree.map(lambda leaf, k=k: leaf[k], params["blocks"])}, x_BTD)
        return logits(rms_norm(x_BTD, params["final_norm"], config.norm_eps), unembedding(params))

    params = jax.eval_shape(build_model(config, vocab_size).init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    return jax.jit(forward).lower(params, tokens).cost_analysis()["flops"]


def test_llama_flops_are_the_compilers():
    """All terms; eight blocks of queries compute 9/16 of the square where the convention counts half."""
    config = LlamaConfig(128, 2, 4, num_kv_heads=2)
    length = 512
    attention_share = config.num_layers * 4 * 128 * (length + 1) / 2 / forward_flops_per_token(config, 300, length)
    assert attention_share > 0.15  # else the test would not see it
    expected = 2 * length * forward_flops_per_token(config, 300, length) * (1 + attention_share / 8)
    assert compiler_flops(config, 300, 2, length) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("config", [Mamba2Config(64, 2, d_state=64), MambaConfig(64, 2, d_state=64)], ids=str)
def test_state_space_flops_are_the_compilers(config, monkeypatch):
    """All terms, with the recurrence at a single position in place of the chunked scan."""
    monkeypatch.setattr(mamba2, "ssd", lambda *args: ssd_reference(*args[:-1]))
    monkeypatch.setattr(mamba, "selective_scan", lambda *args: selective_scan_reference(*args[:-1]))
    expected = 4 * forward_flops_per_token(config, 300, 1)
    assert compiler_flops(config, 300, 4, 1) == pytest.approx(expected, rel=0.03)


def test_longer_contexts_cost_attention_alone():
    llama, scan = LlamaConfig(64, 2, 4), Mamba2Config(64, 2)
    added = forward_flops_per_token(llama, 100, 301) - forward_flops_per_token(llama, 100, 101)
    assert added == 2 * 4 * 64 * 100
    assert forward_flops_per_token(scan, 100, 301) == forward_flops_per_token(scan, 100, 101)


def test_training_costs_three_forward_passes_and_about_six_flops_a_weight():
    config = LlamaConfig(1024, 12)
    train = train_flops_per_token(config, GPT2, 256)
    assert train == 3 * forward_flops_per_token(config, GPT2, 256)
    weights = count_parameters(config, GPT2).total - GPT2 * 1024  # the embedding is a look-up
    assert train == pytest.approx(6 * weights, rel=0.05)


def test_accounting_does_not_import_jax():
    code = "import sys, lossline_jax.models.accounting; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
