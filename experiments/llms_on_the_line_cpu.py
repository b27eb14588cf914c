"""Find which factor moves the line: the design of "LLMs on the Line" on a laptop's CPU, with seeds.

Question   Do data, tokenizer, architecture, size, context or optimiser move a small model off the loss-to-loss line?
           By how much, and is that more than another seed does? (arXiv 2502.12120 answers by eye, from one seed.)
Command    lossline-jax run experiments/llms_on_the_line_cpu.py
Cost       62 runs of 600k tokens; 94 minutes on two cores, 1.5 GB of memory; no accelerator, no download
Expect     Data moves the line. Architecture, size, context and optimiser move it little or not at all. The tokenizer
           moves it in nats/token, and less in bits/byte. results/llms_on_the_line_cpu/ has the results.
"""

import dataclasses
import itertools

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import GPT2Config, LlamaConfig, Mamba2Config
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig

CORPORA = ("wiki", "speeches", "code", "techdoc", "wiki_fr")
LLAMA = LlamaConfig(d_model=64, num_layers=4, num_heads=4)
MAMBA2 = Mamba2Config(d_model=64, num_layers=4, num_heads=4, d_state=32)
GPT2 = GPT2Config(d_model=64, num_layers=4, num_heads=4, max_positions=128, tied_embeddings=False)


def study(tokens: int = 600_000, seeds: int = 3, base_seeds: int = 5) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        seeds: runs of every setting.
        base_seeds: runs of the base. Most other settings are compared with the line of the base.
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
    # Data, tokenizer and architecture are crossed, so that each is compared at every level of the other two.
    crossed = [
        {"data": DataConfig(mixture=((corpus, 1.0),)), "tokenizer": TrainedTokenizer("wiki", vocab), "model": model}
        for corpus, vocab, model in itertools.product(("wiki", "speeches", "code"), (512, 1024), (LLAMA, MAMBA2))
    ]
    alone = [
        {"model": GPT2},
        {"model": dataclasses.replace(LLAMA, d_model=32)},
        {"model": dataclasses.replace(LLAMA, d_model=96)},
        {"context_length": 64, "batch_size": 32},  # as many tokens per step as the base
        {"context_length": 256, "batch_size": 8},
        {"optim": OptimConfig(learning_rate=1e-3)},
        {"optim": OptimConfig(name="adam_l2")},
        {"schedule": ScheduleConfig(name="wsd")},
    ]
    settings = [(seed, change) for seed in range(seeds) for change in crossed + alone]
    settings += [(seed, {}) for seed in range(seeds, base_seeds)]
    return StudyConfig(
        name="llms_on_the_line_cpu",
        question="Which factor moves a small model off the loss-to-loss line, and is it more than another seed does?",
        corpora=tuple(BuiltinCorpus(name) for name in CORPORA),
        runs=tuple(dataclasses.replace(base, seed=seed, **change) for seed, change in settings),
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
        y="techdoc_cloze",
    )
