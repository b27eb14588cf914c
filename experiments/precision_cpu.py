"""Find whether training with rounded weights moves the loss-to-loss line.

Question   A model whose matrices are rounded in every forward pass has less capacity. Is it a smaller model on the same
           line, or does it leave the line? The losses also fit the law of precision (Kumar et al. 2024, arXiv
           2411.04330).
Command    lossline-jax run experiments/precision_cpu.py
Cost       36 runs of 600k tokens, 5 of them twice as wide and 10 half as wide; no accelerator, no download
Expect     Weights of 6 and 8 bits lose almost nothing, and 3 bits lose most. A loss of capacity stays on the line.
"""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig

CORPORA = ("wiki", "speeches", "code", "techdoc", "wiki_fr")
LLAMA = LlamaConfig(d_model=64, num_layers=4, num_heads=4)
BITS = (None, 3, 4, 6, 8)


def study(
    tokens: int = 600_000, seeds: int = 5, mild_seeds: int = 3, narrow_seeds: int = 2, wide_seeds: int = 1
) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        seeds: runs without rounding, and with 3 and 4 bits.
        mild_seeds: runs with 6 and 8 bits.
        narrow_seeds: runs of width 32, of every precision.
        wide_seeds: runs of width 128, of every precision.
    """
    base = RunConfig(
        model=LLAMA,
        data=DataConfig(mixture=(("wiki", 1.0),)),
        tokenizer=TrainedTokenizer("wiki", 512),
        context_length=128,
        batch_size=16,
        tokens=tokens,
        checkpoint_spacing="log",
    )
    counts = {64: lambda bits: mild_seeds if bits in (6, 8) else seeds}
    counts |= {32: lambda _: narrow_seeds, 128: lambda _: wide_seeds}
    runs = [
        dataclasses.replace(base, seed=seed, model=dataclasses.replace(LLAMA, d_model=width, weight_bits=bits))
        for width, count in counts.items()
        for bits in BITS
        for seed in range(count(bits))
    ]
    return StudyConfig(
        name="precision_cpu",
        question="Does training with rounded weights move the loss-to-loss line?",
        corpora=tuple(BuiltinCorpus(name) for name in CORPORA),
        runs=tuple(runs),
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=60, max_document_bytes=800) for name in CORPORA),
            cloze=tuple(
                ClozeTask(name, num_items=100, context_bytes=100, continuation_bytes=50)
                for name in ("wiki", "techdoc", "code")
            ),
            context_length=128,
            overlap=32,
        ),
        x="wiki",
        y="techdoc",
    )
