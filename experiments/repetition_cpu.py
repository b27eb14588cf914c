"""Find whether repeated data moves the line, and whether dropout brings it back.

Question   A run that reads few texts many times learns them by heart. Does it leave the loss-to-loss line of runs that
           read each text once, from how many epochs on, and does dropout bring it back?
Command    lossline-jax run experiments/repetition_cpu.py
Cost       37 runs of 600k tokens, 8 of them of another width; no accelerator, no download
Expect     Up to about four epochs cost almost nothing (Muennighoff et al. 2023, arXiv 2305.16264). With 16 epochs the
           loss on held-out text of the corpus rises, and the loss on other text need not follow. Dropout helps where
           data repeat, and costs a little where they do not (Xue et al. 2023, arXiv 2305.13230).
"""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig

CORPORA = ("wiki", "speeches", "code", "techdoc", "wiki_fr")
LLAMA = LlamaConfig(d_model=64, num_layers=4, num_heads=4)
UNIQUE = (37_500, 75_000, 150_000, 300_000)  # tokens: 16, 8, 4 and 2 epochs of 600k tokens


def wiki(unique_tokens: int | None) -> DataConfig:
    """Return Wikipedia with a cap on distinct tokens. A smaller cap of the same seed reads a part of the larger one."""
    return DataConfig(mixture=(("wiki", 1.0),), unique_tokens=unique_tokens)


def study(tokens: int = 600_000, seeds: int = 3, base_seeds: int = 5, size_seeds: int = 2) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        seeds: runs of every repetition and of every dropout.
        base_seeds: runs of the base, which reads each text once.
        size_seeds: runs of the other widths.
    """
    base = RunConfig(
        model=LLAMA,
        data=wiki(None),
        tokenizer=TrainedTokenizer("wiki", 512),
        context_length=128,
        batch_size=16,
        tokens=tokens,
        checkpoint_spacing="log",
    )
    few = UNIQUE[0]
    repeated = [{"data": wiki(unique)} for unique in UNIQUE]
    dropped = [
        {"data": wiki(unique), "model": dataclasses.replace(LLAMA, dropout=rate)}
        for rate in (0.1, 0.2)
        for unique in (few, None)
    ]
    resized = [
        {"data": wiki(unique), "model": dataclasses.replace(LLAMA, d_model=width)}
        for width in (32, 128)
        for unique in (few, None)
    ]
    changes = [(base_seeds, {}), *((seeds, change) for change in repeated + dropped)]
    changes += [(size_seeds, change) for change in resized]
    runs = [dataclasses.replace(base, seed=seed, **change) for count, change in changes for seed in range(count)]
    return StudyConfig(
        name="repetition_cpu",
        question="Does repeated data move the loss-to-loss line, and does dropout bring it back?",
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
