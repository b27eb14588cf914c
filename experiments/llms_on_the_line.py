"""Find which factor moves the line: all of "LLMs on the Line" (arXiv 2502.12120), and seeds, which the paper lacks.

Question   Do data, tokenizer, architecture, size, context or optimiser move a model of up to 424M parameters off the
           line of the base (Llama 1024x12 on FineWeb-Edu)? By how much, and is that more than another seed does?
Command    lossline-jax plan experiments/llms_on_the_line.py     (downloads nothing, needs no accelerator)
           lossline-jax run  experiments/llms_on_the_line.py     (or each run as a job: launch/README.md)
Cost       111 runs, 932G tokens, 1.27e+21 FLOPs of training: 4,479 v5e-hours, 1,922 v5p-hours or 892 H100-hours at 40%
           of peak (measured on an H200: 24% for Llama and 12% for Mamba-2, docs/measurements.md), about a seventh
           more to evaluate; 230 GB of text, streamed, and as many bytes of tokens
Expect     At equal FineWeb-Edu loss, other data move the HellaSwag loss by -0.4 nats/token, the other tokenizer by
           +0.04, the other factors by -0.02 or less. Points scatter by 0.01 about a line. In bits/byte the tokenizer
           should matter less.

The paper has 112 runs (58 Llama, 54 Mamba-2) of the 24 models in TABLE. It does not say how the factors were crossed.
Here, each of the two architectures has 53 runs: every model on every corpus (36), the optimiser grid (15 more), and two
more contexts. The optimiser grid contains the base again, which makes 54. The paper's other 4 Llama runs are not known.
Its configs have a GPT-2-style model, which is trained on every corpus here.

TABLE lists the models of each architecture and tokenizer from large to small. At widths of 1024 or more, the first
(second, third) models of all lists have equal total parameters within 3%. So tokenizers and architectures can be
compared at equal size.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from lossline_jax.config.data import (
    DataConfig,
    HuggingFaceCorpus,
    HuggingFaceTokenizer,
    TokenizerConfig,
    TrainedTokenizer,
)
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import GPT2Config
from lossline_jax.config.presets import GPT2_VOCAB_SIZE, LLAMA3_VOCAB_SIZE, preset
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig

BASE_BATCH = (32, 16_021)
# (architecture, tokenizer): {width x layers: (sequences per step on each of the paper's 8 GPUs, steps)}
TABLE = {
    ("llama", "llama3"): {f"{d}x{n}": BASE_BATCH for d in (1024, 512, 256) for n in (12, 8, 4)},
    ("llama", "gpt2"): {"1024x25": (28, 18_310), "1024x20": BASE_BATCH, "1024x17": BASE_BATCH},
    ("mamba2", "llama3"): {
        **{f"1024x{n}": (12, 42_725) for n in (24, 16, 8)},
        **{f"512x{n}": (15, 34_180) for n in (24, 16, 8)},
        **{f"256x{n}": (18, 28_484) for n in (24, 16, 8)},
    },
    ("mamba2", "gpt2"): {"1360x24": (14, 36_621), "1360x19": (12, 42_725), "1360x15": (12, 42_725)},
    ("gpt2", "llama3"): {"1024x16": BASE_BATCH},
}
GPT2_STYLE = GPT2Config(1024, 16, 8, d_ff=2816, max_positions=2048, tied_embeddings=False, compute_dtype="bfloat16")
VARIED = ((("llama", "llama3"), "1024x12"), (("mamba2", "llama3"), "1024x24"))  # models with other optimisers, contexts
OPTIMISERS = (("adamw", "adam_l2"), ("cosine", "wsd"), (3e-3, 3e-4), (0.033, 0.1))
CONTEXT, WARMUP_STEPS, TOKENS_PER_CHECKPOINT = 2048, 5000, 100e6

TEXT_BYTES = 76_000_000_000  # 6 bytes for each of the 12.6G tokens of the longest run, so that no text is read twice
HELD_OUT, DOCUMENTS, DOCUMENT_BYTES = 0.02, 5000, 8000  # the paper scores the first 2048 tokens of 5000 documents
PRETRAINING = (
    HuggingFaceCorpus("fineweb_edu", "HuggingFaceFW/fineweb-edu", "sample-100BT", max_bytes=TEXT_BYTES),
    HuggingFaceCorpus("c4", "allenai/c4", "en", max_bytes=TEXT_BYTES),
    HuggingFaceCorpus("pile", "monology/pile-uncopyrighted", max_bytes=TEXT_BYTES),
)
CORPORA = (
    *PRETRAINING,
    HuggingFaceCorpus("refinedweb", "tiiuae/falcon-refinedweb", text_field="content", max_bytes=TEXT_BYTES // 50),
    HuggingFaceCorpus("slimpajama", "cerebras/SlimPajama-627B", max_bytes=TEXT_BYTES // 50),
)
TASKS = ("hellaswag", "arc_easy", "arc_challenge", "piqa", "copa", "winogrande", "openbookqa", "social_iqa")
# The answers are scored, not their letters A to E, because models of this size cannot use the letters.
CLOZE_TASKS = ("commonsense_qa", "mmlu")


def study(
    seeds: int = 3,
    matched_batch: bool = True,
    llama3_tokenizer: str = "",
    gpt2_tokenizer: str = "",
    task_files: str = "tasks/{task}.parquet",
    own_form: bool = False,
) -> StudyConfig:
    """Return the study.

    Args:
        seeds: runs of the base.
        matched_batch: every run takes the base's 256 sequences per step, so that runs differ in the model alone.
            False: the paper's 96 to 256 sequences, as many as fitted a GPU. More steps are then needed, and the warm-up
            is a smaller part of them, so no two architectures differ in nothing else.
        llama3_tokenizer: tokenizer.json of Llama 3 (gated). Empty: a BPE of as many tokens is trained on FineWeb-Edu.
        gpt2_tokenizer: tokenizer.json of GPT-2. Empty: a BPE of as many tokens is trained on FineWeb-Edu.
        task_files: the tasks as they are published (docs/tasks.md). {task} becomes hellaswag, arc_easy, ..., mmlu.
        own_form: the task files are in lossline's own form instead.
    """
    tokenizers = {
        "llama3": _tokenizer(llama3_tokenizer, LLAMA3_VOCAB_SIZE),
        "gpt2": _tokenizer(gpt2_tokenizer, GPT2_VOCAB_SIZE),
    }
    specs = {task: task for task in TASKS} | {task: f"{task}_cloze" for task in CLOZE_TASKS}
    return StudyConfig(
        name="llms_on_the_line",
        question="Which factor moves a model off the loss-to-loss line, and is it more than another seed does?",
        corpora=CORPORA,
        runs=tuple(dict.fromkeys(_runs(tokenizers, matched_batch, seeds))),  # the optimiser grid repeats the base
        suite=SuiteConfig(
            validation=tuple(ValidationSet(corpus.name, DOCUMENTS, DOCUMENT_BYTES) for corpus in CORPORA),
            choice=tuple(
                ChoiceTask(task, task_files.format(task=task), spec=None if own_form else spec)
                for task, spec in specs.items()
            ),
            context_length=1024,  # at most the context length of any training
            overlap=256,
        ),
        x="fineweb_edu",
        y="hellaswag",
        validation_fraction=HELD_OUT,
        execution=ExecutionConfig(keep_checkpoints=2),  # up to 5 GB each; each is scored when it is saved
    )


def _runs(tokenizers: dict[str, TokenizerConfig], matched_batch: bool, seeds: int) -> Iterator[RunConfig]:
    def run(family: tuple[str, str], shape: str, corpus: str, context: int = CONTEXT) -> RunConfig:
        architecture, tokenizer = family
        sequences, steps = BASE_BATCH if matched_batch else TABLE[family][shape]
        tokens = 8 * sequences * steps * context
        return RunConfig(
            model=GPT2_STYLE if architecture == "gpt2" else preset(f"study-{architecture}-{shape}"),
            data=DataConfig(mixture=((corpus, 1.0),), max_epochs=1.0),
            tokenizer=tokenizers[tokenizer],
            context_length=context,
            batch_size=8 * sequences,
            tokens=tokens,
            schedule=ScheduleConfig(warmup_fraction=WARMUP_STEPS / steps),
            num_checkpoints=round(tokens / TOKENS_PER_CHECKPOINT),
        )

    for corpus, (family, shapes) in itertools.product(PRETRAINING, TABLE.items()):
        yield from (run(family, shape, corpus.name) for shape in shapes)
    for model in VARIED:
        yield from (run(*model, PRETRAINING[0].name, context) for context in (1024, 3072))
        base = run(*model, PRETRAINING[0].name)
        for name, schedule, learning_rate, weight_decay in itertools.product(*OPTIMISERS):
            yield dataclasses.replace(
                base,
                optim=OptimConfig(name=name, learning_rate=learning_rate, weight_decay=weight_decay),
                schedule=dataclasses.replace(base.schedule, name=schedule),
            )
    base = run(*VARIED[0], PRETRAINING[0].name)
    yield from (dataclasses.replace(base, seed=seed) for seed in range(1, seeds))


def _tokenizer(path: str, vocab_size: int) -> HuggingFaceTokenizer | TrainedTokenizer:
    if path:
        return HuggingFaceTokenizer(path)
    return TrainedTokenizer(PRETRAINING[0].name, vocab_size, max_bytes=200_000_000)
