"""Does the loss on one set predict the loss on another? The grid of "Loss-to-Loss Prediction" (arXiv 2411.12925).

Question   Models of equal size and tokens are trained on six sets. Is the loss on one set a shifted power law of the
           loss on another? Does the line of the small budgets hold for the large budgets? What is the best size for
           each budget, on each set?
Command    lossline-jax run experiments/loss_to_loss_isoflop.py --budgets 2e17 4.37e17 9.56e17     (the three smallest)
           lossline-jax table fit studies/loss_to_loss_isoflop/losses/losses.parquet --x fineweb --y fineweb_edu \\
               --across data --on params_total tokens_seen \\
               --e-x law --e-y law --params params_total --tokens tokens_seen
Cost       570 runs, 3.42T tokens, 7.11e+21 FLOPs: 25,061 v5e-hours, 10,756 v5p-hours or 4,992 H100-hours at 40% of
           peak. The smallest budget alone: 7 H100-hours; the three smallest: 72. Up to 213 GB of text of each set
Expect     The authors report kappa of .96 to 1.1 and R2 above .997 from fineweb to any other set. At equal compute the
           best size is the same on all sets. A model of 20 times the largest budget is predicted to 1%.

This grid of 570 models contains all 529 models of the authors. The authors' models have OLMo's layers and a width of
64 x layers. These models have Llama's layers, the same width, the same parameters within half a percent, and a
tokenizer of as many tokens. Only last checkpoints are compared, because their learning rate has decayed. `--across
data` fits every pair of sets. In the pair fineweb to fineweb_edu, each model is scored on its own set.
"""

import dataclasses

from lossline_jax.config.data import (
    Corpus,
    DataConfig,
    FilesCorpus,
    HuggingFaceCorpus,
    HuggingFaceTokenizer,
    TrainedTokenizer,
)
from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError
from lossline_jax.models.accounting import count_parameters

LAYERS = (*range(4, 23), 24, 26, 28, 30, 32)
ISOFLOPS = {  # budget in FLOPs, C = 6 N D: (fewest layers, most layers)
    2e17: (4, 11),
    4.37e17: (4, 13),
    9.56e17: (6, 16),
    2.09e18: (7, 19),
    4.57e18: (9, 22),
    1e19: (11, 24),
    2.2e19: (13, 28),
    4.84e19: (15, 32),
}
VOCAB_SIZE, CONTEXT, SEQUENCES = 64_000, 512, 1024
PUBLIC = {
    "fineweb": HuggingFaceCorpus("fineweb", "HuggingFaceFW/fineweb", "sample-100BT"),
    "fineweb_edu": HuggingFaceCorpus("fineweb_edu", "HuggingFaceFW/fineweb-edu", "sample-100BT"),
    "proof_pile_2": HuggingFaceCorpus("proof_pile_2", "EleutherAI/proof-pile-2", "default"),
    "slimpajama": HuggingFaceCorpus("slimpajama", "cerebras/SlimPajama-627B"),
    "smollm": HuggingFaceCorpus("smollm", "HuggingFaceTB/smollm-corpus", "cosmopedia-v2"),
    "starcoder": HuggingFaceCorpus("starcoder", "bigcode/starcoderdata", text_field="content"),
}


def study(
    budgets: tuple[float, ...] = tuple(ISOFLOPS),
    sets: tuple[str, ...] = tuple(PUBLIC),
    folder: str = "",
    tokenizer: str = "",
) -> StudyConfig:
    """Return the study.

    Args:
        budgets: training FLOPs, some of 2e17 4.37e17 9.56e17 2.09e18 4.57e18 1e19 2.2e19 4.84e19.
        sets: the sets to train on and to score, some of fineweb fineweb_edu proof_pile_2 slimpajama smollm starcoder.
        folder: folder of local text, which has a subfolder of .jsonl or .parquet files for each of `sets`. Empty:
            public datasets are streamed, in the order of their files.
        tokenizer: a tokenizer.json. Empty: a BPE of 64,000 tokens is trained on the first set.
    """
    if unknown := set(budgets) - set(ISOFLOPS):
        raise LosslineError(f"--budgets: {unknown.pop():g} is not one of {' '.join(f'{c:g}' for c in ISOFLOPS)}")
    trained = TrainedTokenizer(sets[0], VOCAB_SIZE, max_bytes=200_000_000)
    grid = [(name, budget, layers) for name in sets for budget in budgets for layers in _layers(budget)]
    runs = tuple(
        RunConfig(
            model=_model(layers),
            data=DataConfig(mixture=((name, 1.0),), max_epochs=2.0),  # SmolLM's corpus has less than 35G tokens
            tokenizer=HuggingFaceTokenizer(tokenizer) if tokenizer else trained,
            context_length=CONTEXT,
            batch_size=SEQUENCES,
            tokens=_tokens(budget, layers),
            optim=OptimConfig(learning_rate=1e-3),
            schedule=ScheduleConfig(warmup_fraction=0.2, final_fraction=0.1),
            num_checkpoints=1,
        )
        for name, budget, layers in grid
    )
    return StudyConfig(
        name="loss_to_loss_isoflop",
        question="Does the loss on one training set predict the loss on another at equal size and tokens?",
        corpora=tuple(_corpus(name, folder, 6 * max(run.tokens for run in runs)) for name in sets),
        runs=runs,
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=5000, max_document_bytes=8000) for name in sets),
            context_length=CONTEXT,
            overlap=CONTEXT // 4,
        ),
        x=sets[0],
        y=sets[1],
        validation_fraction=0.01,
    )


def _layers(budget: float) -> list[int]:
    fewest, most = ISOFLOPS[budget]
    return [layers for layers in LAYERS if fewest <= layers <= most]


def _model(layers: int) -> LlamaConfig:
    """Return a model with 12 d^2 parameters per layer, like the authors'.

    Attention has 4 d^2. SwiGLU with width 8/3 d has 8 d^2, like the authors' MLP with width 4 d.
    """
    width = 64 * layers
    d_ff = 64 * round(8 * layers / 3)
    return LlamaConfig(width, layers, layers, d_ff=d_ff, tied_embeddings=True, compute_dtype="bfloat16")


def _tokens(budget: float, layers: int) -> int:
    return round(budget / (6 * count_parameters(_model(layers), VOCAB_SIZE).total))


def _corpus(name: str, folder: str, max_bytes: int) -> Corpus:
    if folder:
        return FilesCorpus(name, globs=(f"{folder}/{name}/*",), max_bytes=max_bytes)
    if name not in PUBLIC:
        raise LosslineError(f"--sets: {name!r} is not one of {' '.join(PUBLIC)}; name a --folder for text of your own")
    return dataclasses.replace(PUBLIC[name], max_bytes=max_bytes)
