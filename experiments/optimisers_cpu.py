"""Find whether the optimiser moves the loss-to-loss line, or only walks along it.

Question   "LLMs on the Line" (arXiv 2502.12120) finds that the optimiser does not move the line. A later paper finds
           equal losses of pretraining with another loss out of distribution (arXiv 2604.09258). Which is it for AdamW,
           Adam with an L2 penalty, Muon, Lion, sharpness-aware minimisation, schedule-free AdamW and muP?
Command    lossline-jax run experiments/optimisers_cpu.py
Cost       36 runs of 600k tokens, 6 of them twice as wide and 5 with two gradients a step; no accelerator, no download
Expect     The lines of Adam's family lie together. Muon and sharpness-aware minimisation are the ones to look at.
"""

import dataclasses

from lossline_jax.config.data import BuiltinCorpus, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig

CORPORA = ("wiki", "speeches", "code", "techdoc", "wiki_fr")
LLAMA = LlamaConfig(d_model=64, num_layers=4, num_heads=4)
WIDE = LlamaConfig(d_model=128, num_layers=4, num_heads=8)  # heads are as wide as those of LLAMA, which muP asks for


def study(tokens: int = 600_000, seeds: int = 5, wide_seeds: int = 3) -> StudyConfig:
    """Return the study.

    Args:
        tokens: training tokens of each run.
        seeds: runs of the base and of every optimiser.
        wide_seeds: runs of the wide model, with the rate of the base and with the rates of muP.
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
    optimisers = (
        {},
        {"optim": OptimConfig("adam_l2")},
        {"optim": OptimConfig("muon")},
        {"optim": OptimConfig("lion", learning_rate=3e-4, beta2=0.99)},  # a tenth of AdamW's rate, as its paper advises
        {"optim": OptimConfig(sam_radius=0.05)},
        {"optim": OptimConfig("schedule_free"), "schedule": ScheduleConfig("wsd", decay_fraction=0.0)},
    )
    wide = ({"model": WIDE}, {"model": WIDE, "optim": OptimConfig(mup_base_width=LLAMA.d_model)})
    changes = [(seeds, change) for change in optimisers] + [(wide_seeds, change) for change in wide]
    runs = [dataclasses.replace(base, seed=seed, **change) for count, change in changes for seed in range(count)]
    return StudyConfig(
        name="optimisers_cpu",
        question="Does the optimiser move the loss-to-loss line?",
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
