"""Score with lm-evaluation-harness and transformers, in this process or in one process for each checkpoint."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from timing import child_cpu_seconds

from lossline_jax.evaluate.tasks.item import Item

BATCH_SIZES = (8, 16, 32)  # sequences; the benchmark compares with the fastest
# A process of the harness without its index of 14000 task files and its bootstrap: its least possible work.
SPARED = """
import sys
import lm_eval
from lm_eval.tasks import TaskManager

arguments, yaml_folder, tasks, batch_size = sys.argv[1:]
results = lm_eval.simple_evaluate(
    model="hf",
    model_args=arguments,
    tasks=tasks.split(","),
    task_manager=TaskManager(include_path=yaml_folder, include_defaults=False),
    batch_size=int(batch_size),
    device="cpu",
    bootstrap_iters=0,
)
assert len(results["results"]) == len(tasks.split(","))
"""


@dataclass
class HarnessPeer:
    """A harness model (HFLM) with the weights of a folder, and requests in the order of ours."""

    folder: str
    context_length: int
    items: list[Item]
    batch_size: int = BATCH_SIZES[0]

    def __post_init__(self):
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        options = {"dtype": "float32", "add_bos_token": True, "max_length": self.context_length}
        self.model = HFLM(pretrained=self.folder, device="cpu", batch_size=self.batch_size, **options)
        self.requests = [
            Instance("loglikelihood", {}, pair, option, ("tasks", number, 1))
            for number, item in enumerate(self.items)
            for option, pair in enumerate(zip(item.contexts, item.options, strict=True))
        ]
        self.tokens = [(request.args, *self.model._encode_pair(*request.args)) for request in self.requests]

    def choose_batch_size(self, cost: Callable[[Callable[[], None]], float]) -> None:
        """Keep the fastest of `BATCH_SIZES`."""
        costs = {}
        for size in BATCH_SIZES:
            self.model.batch_size_per_gpu = size
            costs[size] = cost(self.score_tokens)
        self.batch_size = self.model.batch_size_per_gpu = min(costs, key=costs.get)

    def log_probabilities(self) -> list[float]:
        """Return the log-probability of each request. This call is not timed.

        The sum is in float64, because float32 rounds a sum of 1024 nats to 1.2e-4.
        """
        import torch

        self.model.softmax_dtype = torch.float64
        answers = self.model.loglikelihood(self.requests, disable_tqdm=True)
        self.model.softmax_dtype = None
        return [nats for nats, _ in answers]

    def score(self) -> None:
        """Score the requests from strings, as the harness always does."""
        self.model.loglikelihood(self.requests, disable_tqdm=True)

    def score_tokens(self) -> None:
        """Score the requests from tokens that were made before."""
        self.model._loglikelihood_tokens(self.tokens, disable_tqdm=True)


def write_tasks(folder: Path, items: dict[str, Sequence[Item]], texts: dict[str, Sequence[str]]) -> None:
    """Write the YAML file and the rows of every set for the harness.

    Items become multiple choice, and texts become rolling likelihoods.
    """
    for name, members in items.items():
        shares_context = all(len(set(item.contexts)) == 1 for item in members)
        rows = [
            {"contexts": item.contexts, "context": item.contexts[0], "options": item.options, "gold": item.gold}
            for item in members
        ]
        if shares_context:
            fields = {"doc_to_text": "{{context}}", "doc_to_choice": "options", "doc_to_target": "gold"}
        else:  # partial scoring: many contexts, one continuation
            fields = {"doc_to_text": "gold", "doc_to_choice": "contexts", "doc_to_target": "{{options[0]}}"}
        _write_task(folder, name, rows, {"output_type": "multiple_choice", "target_delimiter": "", **fields})
    for name, members in texts.items():
        rows = [{"text": text} for text in members]
        fields = {"doc_to_text": "", "doc_to_target": "{{text}}"}
        _write_task(folder, name, rows, {"output_type": "loglikelihood_rolling", **fields})


def _write_task(folder: Path, name: str, rows: list[dict], config: dict) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    is_choice = config["output_type"] == "multiple_choice"
    metrics = ("acc", "acc_norm") if is_choice else ("byte_perplexity", "bits_per_byte")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(data)}},
        "validation_split": "validation",
        "metric_list": [{"metric": metric} for metric in metrics],
        **config,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML


def run_process(
    folder: Path, yaml_folder: Path, tasks: Sequence[str], context_length: int, batch_size: int, spared: bool
) -> float:
    """Return the CPU-seconds of one process that scores the model of a folder on every task.

    Args:
        folder: the model, as `save_pretrained` wrote it.
        yaml_folder: the tasks, as `write_tasks` wrote them.
        tasks: names of the tasks.
        context_length: tokens.
        batch_size: sequences.
        spared: run `SPARED` instead of the harness's command line.
    """
    arguments = f"pretrained={folder},dtype=float32,add_bos_token=True,max_length={context_length}"
    names = ",".join(tasks)
    if spared:
        command = [sys.executable, "-c", SPARED, arguments, yaml_folder, names, str(batch_size)]
    else:
        flags = {
            "model": "hf",
            "model_args": arguments,
            "tasks": names,
            "include_path": yaml_folder,
            "batch_size": batch_size,
            "device": "cpu",
            "output_path": folder / "harness_results",
        }
        command_flags = [argument for name, value in flags.items() for argument in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "lm_eval", "run", *command_flags]
    offline = {"HF_HOME": str(yaml_folder / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    return child_cpu_seconds(command, {**os.environ, **offline, **threads})
