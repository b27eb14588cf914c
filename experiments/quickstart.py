"""Does a loss-to-loss line show what was changed? Figure 1 of "LLMs on the Line" in miniature, on a laptop's CPU.

Question   A base (Llama on English Wikipedia introductions) is compared with each intervention of "LLMs on the Line"
           (arXiv 2502.12120): data, tokenizer, architecture, size, context, optimiser. Which of them leaves the base's
           line by more than another seed does?
Command    make quickstart        (or: lossline-jax run experiments/quickstart.py)
Cost       10 minutes on two cores, 1.5 GB of memory; no accelerator, no download
Expect     Other data moves the line (by -0.09 and -0.17 nats/token, 4 and 8 times the noise), the tokenizer (+0.14,
           6 times) and Mamba-2 (+0.08, 4 times) do too; size, context and optimiser do not.
"""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig

CORPORA = ("wiki", "speeches", "code", "techdoc", "wiki_fr")


def study(
    tokens: int = 240_000, vocab_size: int = 512, context_length: int = 128, base_seeds: int = 4, seeds: int = 2
) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        vocab_size: number of tokens of the base tokenizer. The tokenizer intervention has twice as many.
        context_length: training context in tokens. The context intervention has twice as many.
        base_seeds: runs of the base.
        seeds: runs of each intervention.
    """
    base = RunConfig(
        model=LlamaConfig(d_model=64, num_layers=4, num_heads=4),
        data=DataConfig(mixture=(("wiki", 1.0),)),
        tokenizer=TrainedTokenizer("wiki", vocab_size),
        context_length=context_length,
        batch_size=16,
        tokens=tokens,
        num_checkpoints=6,
        checkpoint_spacing="log",
    )
    interventions = (
        {"data": DataConfig(mixture=(("speeches", 1.0),))},
        {"data": DataConfig(mixture=(("code", 1.0),))},
        {"tokenizer": TrainedTokenizer("wiki", 2 * vocab_size)},
        {"model": Mamba2Config(d_model=64, num_layers=4, num_heads=4, d_state=32)},
        {"model": LlamaConfig(d_model=32, num_layers=4, num_heads=4)},
        {"context_length": 2 * context_length, "batch_size": 8},
        {"optim": OptimConfig(learning_rate=1e-3)},
    )
    settings = [(seed, {}) for seed in range(base_seeds)]
    settings += [(seed, change) for seed in range(seeds) for change in interventions]
    return StudyConfig(
        name="quickstart",
        question="Which intervention moves a small model off the base run's loss-to-loss line?",
        corpora=tuple(BuiltinCorpus(name) for name in CORPORA),
        runs=tuple(dataclasses.replace(base, seed=seed, **change) for seed, change in settings),
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=60, max_document_bytes=800) for name in CORPORA),
            cloze=tuple(
                ClozeTask(name, num_items=100, context_bytes=100, continuation_bytes=50) for name in ("wiki", "techdoc")
            ),
            context_length=context_length,
            overlap=context_length // 4,
        ),
        x="wiki",
        y="techdoc_cloze",
    )
