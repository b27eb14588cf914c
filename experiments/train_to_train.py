"""Does the loss of one training set predict that of another? "Loss-to-Loss Prediction" (arXiv 2411.12925) on a laptop.

Question   Two models of equal size and tokens, trained on two sets: is the loss of the one, on its own set, a function
           of the loss of the other on its own? And is the line of the small sizes right about the largest?
Command    lossline-jax run experiments/train_to_train.py
           lossline-jax table fit studies/train_to_train/losses/losses.parquet --x wiki --y speeches \\
               --across data --on params_total tokens_seen seed --cluster run_id
Cost       24 runs, 14.4M tokens; about 15 minutes on two cores; no accelerator, no download
Expect     One line for all sizes from each set to each other; in the report, where x and y are of one model, a line a
           set.

`--across data` fits every pair of sets; in the one from wiki to speeches each model is scored on its own. Tokens are
those of the checkpoint, and so the learning rate of two that make a pair is the same too.
"""

import itertools

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig

SETS = ("wiki", "speeches", "code")
WIDTHS = (64, 32, 48, 96)  # the base's first


def study(tokens: int = 600_000, vocab_size: int = 512, seeds: int = 2) -> StudyConfig:
    """The study.

    Args:
        tokens: training tokens of each run.
        vocab_size: of the tokenizer, which is trained on wiki and is that of all.
        seeds: runs of every size on every set.
    """
    runs = tuple(
        RunConfig(
            model=LlamaConfig(d_model=width, num_layers=4, num_heads=4),
            data=DataConfig(mixture=((name, 1.0),)),
            tokenizer=TrainedTokenizer("wiki", vocab_size),
            context_length=128,
            batch_size=16,
            tokens=tokens,
            seed=seed,
            checkpoint_spacing="log",
        )
        for seed, name, width in itertools.product(range(seeds), SETS, WIDTHS)
    )
    return StudyConfig(
        name="train_to_train",
        question="Does the loss on one training set predict the loss on another, at equal size and tokens?",
        corpora=tuple(BuiltinCorpus(name) for name in SETS),
        runs=runs,
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=60, max_document_bytes=800) for name in SETS),
            context_length=128,
            overlap=32,
        ),
        x="wiki",
        y="speeches",
    )
