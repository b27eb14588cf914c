"""Does the tokenizer move the line, or only the unit? The two versions of "LLMs on the Line" disagree.

Question   The paper's first version says that data and tokenizer determine the line. The published version says that
           data determine it. Between the two, nats/token may have become bits/byte. On the same data, how far does a
           tokenizer move the line in each unit?
Command    lossline-jax run experiments/tokenizer_units.py
Cost       18 runs, 10.8M tokens; about 15 minutes on two cores; no accelerator, no download
Expect     In nats/token every tokenizer has its own line. The more the length of its tokens differs from the base, the
           further away is the line. In bits/byte, which count the same text for all tokenizers, the lines are nearer to
           each other or equal.

All models are equal except for the embedding. At equal tokens they have read different amounts of text, which moves a
point along its line. The losses of two tokenizers may overlap in a small range of nats/token only. With a small
--tokens they may not overlap at all, and the report says so.
"""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, ByteTokenizer, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig

SCORED = ("wiki", "speeches", "techdoc")
TOKENIZERS = (
    TrainedTokenizer("wiki", 512),  # the tokenizer of the base
    TrainedTokenizer("wiki", 1024),
    TrainedTokenizer("wiki", 4096),
    TrainedTokenizer("wiki", 512, kind="unigram"),
    TrainedTokenizer("techdoc", 512),  # as many tokens, trained on other text
    ByteTokenizer(),
)


def study(tokens: int = 600_000, seeds: int = 3) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        seeds: runs of every tokenizer.
    """
    base = RunConfig(
        model=LlamaConfig(d_model=64, num_layers=4, num_heads=4),
        data=DataConfig(mixture=(("wiki", 1.0),)),
        tokenizer=TOKENIZERS[0],
        context_length=256,  # more than the bytes of an item of the task, for the byte tokenizer
        batch_size=8,
        tokens=tokens,
        checkpoint_spacing="log",
    )
    return StudyConfig(
        name="tokenizer_units",
        question="Does the tokenizer move the line in bits/byte as it does in nats/token?",
        corpora=tuple(BuiltinCorpus(name) for name in SCORED),
        runs=tuple(
            dataclasses.replace(base, tokenizer=tokenizer, seed=seed)
            for seed in range(seeds)
            for tokenizer in TOKENIZERS
        ),
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=60, max_document_bytes=2000) for name in SCORED),
            cloze=tuple(
                ClozeTask(name, num_items=100, context_bytes=100, continuation_bytes=50) for name in ("wiki", "techdoc")
            ),
            context_length=256,
            overlap=64,
        ),
        x="wiki",
        y="techdoc_cloze",
    )
