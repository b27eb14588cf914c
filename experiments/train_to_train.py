"""Does the loss on one set predict the loss on another? "Loss-to-Loss Prediction" (arXiv 2411.12925) on a laptop.

Question   Two models of equal size and tokens are trained on two sets, and each is scored on its own set. Is the loss
           of one model a function of the loss of the other? Does the line of the small sizes predict the largest size?
Command    lossline-jax run experiments/train_to_train.py
           lossline-jax table fit studies/train_to_train/losses/losses.parquet --x wiki --y speeches \\
               --across data --on params_total tokens_seen seed --cluster run_id
Cost       24 runs, 14.4M tokens; about 15 minutes on two cores; no accelerator, no download
Expect     From each set to each other set, one line holds for all sizes. In the report, x and y are losses of one
           model, and each training set has its own line.

`--across data` fits every pair of sets. In the pair from wiki to speeches, each model is scored on its own training
set. A pair has equal tokens at its checkpoints, and so it has equal learning rates too.
"""

import itertools

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig

SETS = ("wiki", "speeches", "code")
WIDTHS = (64, 32, 48, 96)  # the first is the width of the base


def study(tokens: int = 600_000, vocab_size: int = 512, seeds: int = 2) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        vocab_size: number of tokens of the tokenizer, which is trained on wiki and used by all runs.
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
