"""Start from this file: find what moves the line of a small model that is trained on your own text.

Question   Does mixing in Wikipedia, or halving the width, move a model off the line of the base on my text?
Command    lossline-jax run experiments/own_data.py --glob texts
           (a folder or a pattern such as '~/text/**/*.jsonl.gz'; .txt, .jsonl, .ndjson or .json, also packed as .gz,
           .zst, .xz or .bz2, or .parquet; half a megabyte at least, some megabytes are better)
Cost       5 minutes on two cores
Expect     The result depends on your text. The report says what moved the line and by how much, and the smallest
           change that a study of this size can find.
"""

import dataclasses
from typing import Literal

from lossline_jax.config.data import BuiltinCorpus, DataConfig, FilesCorpus, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig


def study(
    glob: str = "texts/*.txt",
    split: Literal["file", "blank lines"] | int = 2000,
    tokens: int = 600_000,
    vocab_size: int = 512,
    seeds: int = 2,
) -> StudyConfig:
    """Return the study.

    Args:
        glob: your files, or their folder.
        split: the documents of a .txt file: pieces of at most this many bytes, "blank lines" (its paragraphs) or "file"
            (the whole file, for a folder of hundreds of short texts).
        tokens: training tokens of each run.
        vocab_size: number of tokens of the tokenizer, which is trained on your text.
        seeds: runs of each intervention. The base has twice as many, and the differences between them are the noise.
    """
    # The base is the run that every other run is compared with. Its fields are the factors that a study can vary.
    base = RunConfig(
        model=LlamaConfig(d_model=64, num_layers=4, num_heads=4),
        data=DataConfig(mixture=(("mine", 1.0),)),
        tokenizer=TrainedTokenizer("mine", vocab_size),
        context_length=128,
        batch_size=16,
        tokens=tokens,
        checkpoint_spacing="log",  # more checkpoints early, where the losses change fastest
    )
    # Each intervention changes one factor of the base. Add yours: "tokenizer", "optim", "context_length", ...
    interventions = (
        {"data": DataConfig(mixture=(("mine", 0.5), ("wiki", 0.5)))},
        {"model": LlamaConfig(d_model=32, num_layers=4, num_heads=4)},
    )
    # Runs that differ in their seed alone measure the noise, so the base gets twice as many.
    settings = [(seed, {}) for seed in range(2 * seeds)]
    settings += [(seed, change) for seed in range(seeds) for change in interventions]
    return StudyConfig(
        name="own_data",
        question="What moves the line of a small model trained on my text?",
        corpora=(FilesCorpus("mine", globs=(glob,), split=split), BuiltinCorpus("wiki"), BuiltinCorpus("techdoc")),
        runs=tuple(dataclasses.replace(base, seed=seed, **change) for seed, change in settings),
        suite=SuiteConfig(
            # Held-out text of each corpus, and items made from it: the losses that a line can have on its axes.
            validation=tuple(ValidationSet(name, 60, max_document_bytes=800) for name in ("mine", "wiki", "techdoc")),
            cloze=(ClozeTask("techdoc", num_items=100, context_bytes=100, continuation_bytes=50),),
            context_length=128,
            overlap=32,
        ),
        # The line of the report: the loss on the cloze items of techdoc, over the loss on your own text.
        x="mine",
        y="techdoc_cloze",
    )
