"""Define a study to test the whole pipeline: three runs of a few dozen steps on real text, in under a minute."""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, ByteTokenizer, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig


def study(
    tokens: int = 40 * 8 * 32,
    max_bytes: int = 400_000,
    corpus: str = "wiki",
    other_rate: float = 3e-3,
    quiz: str = "",
) -> StudyConfig:
    """Return a study for the tests.

    Args:
        tokens: training tokens of each run.
        max_bytes: bytes of text in each corpus.
        corpus: the corpus of the base run.
        other_rate: peak learning rate of the run on other data; 1e30 makes it diverge.
        quiz: a file of multiple choice to score too. Empty: none.
    """
    base = RunConfig(
        model=LlamaConfig(d_model=32, num_layers=2, num_heads=2, d_ff=64),
        data=DataConfig(mixture=((corpus, 1.0),)),
        tokenizer=TrainedTokenizer("wiki", 400),
        context_length=32,
        batch_size=8,
        tokens=tokens,
        num_checkpoints=5,
    )
    interventions = (
        {"data": DataConfig(mixture=(("wiki_fr", 1.0),)), "optim": OptimConfig(learning_rate=other_rate)},
        {
            "model": Mamba2Config(d_model=32, num_layers=2, num_heads=2, d_state=8, d_inner=64, chunk_size=16),
            "tokenizer": ByteTokenizer(),
        },
    )
    return StudyConfig(
        name="tiny",
        question="Does the road hold?",
        corpora=(BuiltinCorpus("wiki", max_bytes=max_bytes), BuiltinCorpus("wiki_fr", max_bytes=max_bytes)),
        runs=(base, *(dataclasses.replace(base, **change) for change in interventions)),
        suite=SuiteConfig(
            validation=tuple(
                ValidationSet(name, max_documents=8, max_document_bytes=500) for name in ("wiki", "wiki_fr")
            ),
            cloze=(ClozeTask("wiki", num_items=8, context_bytes=60, continuation_bytes=30),),
            choice=(ChoiceTask("quiz", quiz),) if quiz else (),
            context_length=64,
            overlap=16,
        ),
        x="wiki",
        y="wiki_cloze",
    )
