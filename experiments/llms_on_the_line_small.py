"""Find which factor moves the line: the design of "LLMs on the Line" at sizes for some hours of one accelerator.

Question   Do data, tokenizer, architecture, size, context or optimiser move a model of 10M parameters off the
           loss-to-loss line? By how much, and is that more than another seed does? Every setting has seeds.
Command    lossline-jax run experiments/llms_on_the_line_small.py          (streams its text from Hugging Face)
           lossline-jax run experiments/llms_on_the_line_small.py --folder ~/text --data web c4 books --held-out wiki
Cost       69 runs, 13.8G tokens, 8.61e+17 FLOPs: 3 v5e-hours, 1.3 v5p-hours or 0.6 H100-hours at 40% of peak. Models
           this small do not reach 40%: 4.8 H100-hours at 5% (`--utilisation 0.05`), without evaluation; 5 GB of text
Expect     Data moves the line. The tokenizer moves it in nats/token, and less in bits/byte. Architecture, size, context
           and optimiser move it so little that only the comparison with the seeds shows it.

Differences to llms_on_the_line.py: the optimiser changes in one respect at a time, not in a grid. Only Llama on the
data of the base has several sizes. The task is made from held-out text (--task-files adds the paper's ten tasks).
"""

import dataclasses
import itertools

from lossline_jax.config.data import Corpus, DataConfig, FilesCorpus, HuggingFaceCorpus, TrainedTokenizer
from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import GPT2Config, LlamaConfig, Mamba2Config
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.errors import LosslineError

PUBLIC = {
    "fineweb_edu": HuggingFaceCorpus("fineweb_edu", "HuggingFaceFW/fineweb-edu", "sample-10BT"),
    "c4": HuggingFaceCorpus("c4", "allenai/c4", "en"),
    "pile": HuggingFaceCorpus("pile", "monology/pile-uncopyrighted"),
    "refinedweb": HuggingFaceCorpus("refinedweb", "tiiuae/falcon-refinedweb", text_field="content"),
    "slimpajama": HuggingFaceCorpus("slimpajama", "cerebras/SlimPajama-627B"),
}
LLAMA = LlamaConfig(d_model=256, num_layers=8, num_heads=4, compute_dtype="bfloat16")
MAMBA2 = Mamba2Config(d_model=256, num_layers=15, num_heads=8, compute_dtype="bfloat16")
GPT2 = GPT2Config(256, 10, 4, d_ff=768, max_positions=1024, tied_embeddings=False, compute_dtype="bfloat16")
VOCAB_SIZES = (8192, 4096)  # tokens of the base's tokenizer, and of the other tokenizer
TASKS = ("hellaswag", "arc_easy", "arc_challenge", "piqa", "copa", "winogrande", "openbookqa", "social_iqa")
TASKS += ("commonsense_qa", "mmlu")


def study(
    folder: str = "",
    data: tuple[str, ...] = ("fineweb_edu", "c4", "pile"),
    held_out: tuple[str, ...] = ("refinedweb", "slimpajama"),
    task_files: str = "",
    tokens: int = 200_000_000,
    text_bytes: int = 1_500_000_000,
    seeds: int = 3,
) -> StudyConfig:
    """Return the study.

    Args:
        folder: folder of local text, which has a subfolder of .jsonl(.gz, .zst) or .parquet files for each name in
            `data` and `held_out`. Empty: the names are public datasets, which are streamed.
        data: corpora to train on. The first is the corpus of the base.
        held_out: corpora for scoring only.
        task_files: more tasks to score, in lossline's own form (docs/tasks.md), such as tasks/{task}.jsonl.gz. Empty:
            none.
        tokens: training tokens of each run.
        text_bytes: bytes of each training corpus, at most. A corpus for scoring only has a twentieth.
        seeds: runs of every setting.
    """
    base = RunConfig(
        model=LLAMA,
        data=DataConfig(mixture=((data[0], 1.0),)),
        tokenizer=TrainedTokenizer(data[0], VOCAB_SIZES[0]),
        context_length=512,
        batch_size=64,
        tokens=tokens,
        num_checkpoints=20,
    )
    # Data, tokenizer and architecture are crossed, so that each is compared at every level of the other two.
    crossed = [
        {
            "data": DataConfig(mixture=((corpus, 1.0),)),
            "tokenizer": TrainedTokenizer(data[0], vocab_size),
            "model": model,
        }
        for corpus, vocab_size, model in itertools.product(data, VOCAB_SIZES, (LLAMA, MAMBA2))
    ]
    alone = [
        {"model": GPT2},
        *({"model": dataclasses.replace(LLAMA, num_layers=num_layers)} for num_layers in (4, 16)),
        *({"model": dataclasses.replace(LLAMA, d_model=d_model)} for d_model in (128, 384)),
        {"context_length": 256, "batch_size": 128},  # as many tokens per step as the base
        {"context_length": 1024, "batch_size": 32},
        {"optim": OptimConfig(learning_rate=3e-4)},
        {"optim": OptimConfig(weight_decay=0.1)},
        {"optim": OptimConfig(name="adam_l2")},
        {"schedule": ScheduleConfig(name="wsd")},
    ]
    settings = itertools.product(range(seeds), crossed + alone)
    names = (*data, *held_out)
    return StudyConfig(
        name="llms_on_the_line_small",
        question="Which factor moves a small model off the loss-to-loss line, and is it more than another seed does?",
        corpora=tuple(_corpus(name, folder, text_bytes if name in data else text_bytes // 20) for name in names),
        runs=tuple(dataclasses.replace(base, seed=seed, **change) for seed, change in settings),
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=500, max_document_bytes=4000) for name in names),
            cloze=tuple(ClozeTask(name, num_items=1000) for name in names),
            choice=tuple(ChoiceTask(task, task_files.format(task=task)) for task in TASKS if task_files),
            context_length=256,  # at most the context length of any training
            overlap=64,
        ),
        x=data[0],
        y=f"{held_out[0]}_cloze",
    )


def _corpus(name: str, folder: str, max_bytes: int) -> Corpus:
    if folder:
        return FilesCorpus(name, globs=(f"{folder}/{name}/*",), max_bytes=max_bytes)
    if name not in PUBLIC:
        raise LosslineError(f"corpus {name!r} is not one of {' '.join(PUBLIC)}; name a --folder for text of your own")
    return dataclasses.replace(PUBLIC[name], max_bytes=max_bytes)
