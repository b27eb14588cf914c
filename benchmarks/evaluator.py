"""Compare the speed of scoring with lm-evaluation-harness on transformers: same weights, items and threads, float32.

python benchmarks/evaluator.py requests | checkpoints
"""

import argparse
import contextlib
import gzip
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shapes import SHAPES, Shape
from timing import (
    child_cpu_seconds,
    import_peer,
    interleave,
    median_cost,
    quiet_transformers,
    ratios,
    use_cores,
)

from lossline_jax.config.data import DataConfig, FilesCorpus, TrainedTokenizer
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig, ValidationSet
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.formatting import text_table

if TYPE_CHECKING:  # jax and torch start only after `use_cores`
    from harness_peer import HarnessPeer

    from lossline_jax.evaluate.evaluator import Evaluator
    from lossline_jax.evaluate.harness import HarnessModel

DATA = Path(os.environ.get("LOSSLINE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
TASKS = (
    "hellaswag",
    "arc_easy",
    "arc_challenge",
    "piqa",
    "copa",
    "winogrande",
    "openbookqa",
    "social_iqa",
    "commonsense_qa",
    "mmlu",
)
TEXTS = {  # validation sets: their files under DATA/corpora
    "c4": "c4/c4_val.jsonl.gz",
    "openwebtext": "openwebtext/owt_a_first1000.jsonl.gz",
    "wikipedia": "pile_test/wikipedia.jsonl.gz",
    "github": "pile_test/github.jsonl.gz",
    "math": "math/stackexchange_math.jsonl.gz",
}
TRAINED_ON = "c4/c4_train.jsonl.gz"
# Tokens. Every item fits, because the harness would cut off BOS of a longer one, and lossline would not.
CONTEXT_LENGTH = 1024
MAX_GAP = 2e-4  # nats, between two log-probabilities of one option
# Row of the table: whether the harness runs without its index of tasks and its bootstrap.
SPARED = {"lm_eval run": False, "simple_evaluate, spared its index of tasks and its bootstrap": True}


def main() -> None:
    modes = {"requests": requests_table, "checkpoints": checkpoints_table}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=modes)
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=SHAPES,
        default=["S", "M"],
        help="shapes of the models; checkpoints takes the first",
    )
    parser.add_argument("--models", nargs="+", choices=("llama", "mamba2", "mamba"), default=["llama"])
    parser.add_argument("--items", type=int, default=60, help="items of each task")
    parser.add_argument("--threads", type=int, default=2, help="cores; 1 leaves no waiting in the CPU-seconds")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; a ratio is the median over them")
    parser.add_argument("--seconds", type=float, default=0.5, help="least seconds of a turn")
    parser.add_argument(
        "--documents", type=int, default=20, help="documents of each validation set, about; for checkpoints"
    )
    parser.add_argument(
        "--document-bytes", type=int, default=2000, help="bytes kept from the start of each document; for checkpoints"
    )
    parser.add_argument("--checkpoints", type=int, default=100)
    parser.add_argument("--processes", type=int, default=3, help="processes of the harness to measure; for checkpoints")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"benchmarks: {DATA} is absent; set LOSSLINE_SHARED to the folder of shared data")
    use_cores(options.threads)
    lm_eval, transformers = import_peer("lm_eval"), quiet_transformers()
    print(f"lm-eval {lm_eval.__version__}, transformers {transformers.__version__}", file=sys.stderr)
    print(modes[options.mode](options))


def tasks(num_items: int) -> tuple[ChoiceTask, ...]:
    return tuple(ChoiceTask(name, f"{DATA}/tasks/{name}.validation.jsonl.gz", num_items) for name in TASKS)


def requests_table(options: argparse.Namespace) -> str:
    """Return a table of requests a CPU-second: of lossline, of the harness, and of our model inside the harness."""
    from lossline_jax.config.execution import ExecutionConfig
    from lossline_jax.distributed.devices import configure_devices

    configure_devices(ExecutionConfig())
    rows = [row for name in options.shapes for model in options.models for row in _compare(model, name, options)]
    return text_table(("model", "shape", "requests a CPU-s", "who", "ours x, wall", "ours x, CPU"), rows)


def _compare(architecture: str, name: str, options: argparse.Namespace) -> list[tuple[str, ...]]:
    import torch

    from lossline_jax.evaluate.evaluator import score_rows

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(architecture, SHAPES[name], Path(folder), options.items)
        peer, inside = sides.peer, sides.inside
        before = score_rows._cache_size()
        nats_Q = sides.evaluator.request_scores(sides.params).nats_Q
        programs = score_rows._cache_size() - before
        gap = np.abs(nats_Q + peer.log_probabilities()).max()
        print(
            f"{architecture} {name}: {len(nats_Q)} requests, {sides.sizes}; largest |dlogp| {gap:.1e}", file=sys.stderr
        )
        if gap > MAX_GAP:
            sys.exit(f"benchmarks: {architecture} {name}: a log-probability differs by more than {MAX_GAP}")
        inside.loglikelihood(peer.requests)
        programs_before_turns = score_rows._cache_size()
        peer.choose_batch_size(lambda call: min(_cpu_seconds(call) for _ in range(2)))
        calls = {
            "lossline": lambda: sides.evaluator.request_scores(sides.params),
            "lossline inside the harness": lambda: inside.loglikelihood(peer.requests),
            f"HFLM, batch {peer.batch_size}": peer.score,
            "HFLM, tokenised before": peer.score_tokens,
        }
        costs = interleave(calls, options.rounds, options.seconds)
    recompiled = score_rows._cache_size() - programs_before_turns
    print(f"{architecture} {name}: programs compiled: {programs}; in all turns after it: {recompiled}", file=sys.stderr)
    if recompiled:
        sys.exit("benchmarks: something was compiled again")
    rows = []
    for scorer, cost in costs.items():
        wall, cpu = ratios(cost, costs["lossline"])
        rate = f"{len(nats_Q) / median_cost(cost).cpu:,.0f}"
        rows.append((architecture, name, rate, scorer, *(("", "") if scorer == "lossline" else (str(wall), str(cpu)))))
        print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _cpu_seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@dataclass
class _Sides:
    """A prepared comparison: our evaluator, the harness with its own model, and the harness with ours."""

    evaluator: "Evaluator"
    inside: "HarnessModel"
    peer: "HarnessPeer"
    params: Any
    sizes: str  # how much there is to score, in words


def _sides(architecture: str, shape: Shape, folder: Path, num_items: int) -> _Sides:
    import jax
    from etils import epath
    from harness_peer import HarnessPeer

    from lossline_jax.config.execution import ExecutionConfig
    from lossline_jax.data.tokenizers.export import tokenizer_json
    from lossline_jax.data.tokenizers.sentencepiece import SentencePieceTokenizer, train_sentencepiece
    from lossline_jax.distributed.mesh import make_mesh
    from lossline_jax.evaluate.evaluator import Evaluator
    from lossline_jax.evaluate.harness import HarnessModel
    from lossline_jax.evaluate.suite import prepare_suite
    from lossline_jax.evaluate.tasks.multiple_choice import read_items
    from lossline_jax.models.model import build_model
    from lossline_jax.weights.huggingface.save import save_pretrained

    trained = train_sentencepiece(_texts(TRAINED_ON), TrainedTokenizer("c4", shape.vocab_size))
    tokenizer = SentencePieceTokenizer(trained, "c4")
    suite_config = SuiteConfig(choice=tasks(num_items), context_length=CONTEXT_LENGTH, overlap=0)
    suite = prepare_suite(suite_config, tokenizer, {}, epath.Path(folder))
    cut = sum(scored_set.num_truncated for scored_set in suite.sets)
    if suite.problems or cut:
        sys.exit(f"benchmarks: {cut} items do not fit {CONTEXT_LENGTH} tokens; {suite.problems}")
    model, mesh = build_model(shape.config(architecture), shape.vocab_size), make_mesh(ExecutionConfig())
    params = model.init(jax.random.key(0))
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
    content = tokenizer_json(tokenizer)
    save_pretrained(folder / "model", model, params, context_length=CONTEXT_LENGTH, tokenizer_json=content, **ids)
    items = [item for task in suite_config.choice for item in read_items(task)]
    positions = sum(block.ids_BT.size for block in suite.blocks)
    sizes = (
        f"{suite.requests.tokens_Q.sum()} scored tokens, {positions} positions computed, {suite.fill:.0%} of them texts"
    )
    return _Sides(
        evaluator=Evaluator(model, mesh, suite),
        inside=HarnessModel(model, params, tokenizer, mesh, context_length=CONTEXT_LENGTH),
        peer=HarnessPeer(str(folder / "model"), CONTEXT_LENGTH, items),
        params=params,
        sizes=sizes,
    )


def checkpoints_table(options: argparse.Namespace) -> str:
    """Return a table of CPU-seconds to score all checkpoints of a run.

    One row is `lossline-jax evaluate`. The others are one process of the harness for each checkpoint.
    """
    shape = SHAPES[options.shapes[0]]
    with tempfile.TemporaryDirectory() as parent:
        root = Path(parent)
        study = _study(options.models[0], shape, root, options)
        folder = _prepare(study, root)
        _child("train", folder)
        our_seconds = _child("evaluate", folder)
        scored = len(list((folder / "losses" / "losses.csv").open())) - 1
        harness = {label: _harness_processes(study, folder, root, options, spared) for label, spared in SPARED.items()}
    expected = options.checkpoints * len(study.suite.set_names)
    if scored != expected:
        sys.exit(f"benchmarks: {scored} rows in the losses table, not {expected}")
    rows = [("one process: lossline-jax evaluate", f"{our_seconds:.1f}", "measured", "")]
    for label, costs in harness.items():
        total = float(np.mean(costs)) * options.checkpoints
        method = f"{len(costs)} processes of {', '.join(f'{cost:.1f}' for cost in costs)} measured, scaled"
        rows.append((f"a process a checkpoint: {label}", f"{total:.0f}", method, f"{total / our_seconds:.1f}"))
    size = f"{options.checkpoints} checkpoints x {len(study.suite.set_names)} sets"
    title = f"{options.models[0]} {options.shapes[0]}, {size}"
    return text_table((title, "CPU-s", "how", "ours x"), rows)


def _study(architecture: str, shape: Shape, root: Path, options: argparse.Namespace) -> StudyConfig:
    for name, file in TEXTS.items():
        long_texts = (text for text in _texts(file) if len(text.encode()) >= options.document_bytes)
        documents = itertools.islice(long_texts, 2 * options.documents)  # half of them are held out
        starts = [text.encode()[: options.document_bytes].decode("utf-8", "ignore") for text in documents]
        with (root / f"{name}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": text}) + "\n" for text in starts)
    corpora = [FilesCorpus(name, globs=(str(root / f"{name}.jsonl"),)) for name in TEXTS]
    batch_size = 16
    run = RunConfig(
        model=shape.config(architecture),
        data=DataConfig((("train", 1.0),)),
        tokenizer=TrainedTokenizer("train", shape.vocab_size),
        context_length=shape.length,
        batch_size=batch_size,
        tokens=batch_size * shape.length * options.checkpoints,
        num_checkpoints=options.checkpoints,
    )
    return StudyConfig(
        name="evaluation",
        corpora=(FilesCorpus("train", globs=(f"{DATA}/corpora/{TRAINED_ON}",)), *corpora),
        runs=(run,),
        suite=SuiteConfig(
            validation=tuple(ValidationSet(name, max_documents=None) for name in TEXTS),
            choice=tasks(options.items),
            context_length=512,  # the options of MMLU have up to 336 tokens in the vocabulary of S
            overlap=0,  # the harness has no overlap
        ),
        x="c4",
        y="hellaswag",
        validation_fraction=0.5,
    )


def _prepare(study: StudyConfig, root: Path) -> Path:
    from etils import epath

    from lossline_jax.pipeline import study as study_verbs
    from lossline_jax.storage.paths import StudyDir

    with contextlib.redirect_stdout(sys.stderr):
        study_verbs.prepare(study, StudyDir(epath.Path(root) / study.name))
    return root / study.name


def _child(verb: str, folder: Path) -> float:
    return child_cpu_seconds([sys.executable, "-m", "lossline_jax", verb, folder])


def _harness_processes(
    study: StudyConfig, folder: Path, root: Path, options: argparse.Namespace, spared: bool
) -> list[float]:
    """Return the CPU-seconds of a few processes of the harness.

    One process before them fills the harness's caches and is not counted.
    """
    from etils import epath
    from harness_peer import run_process, write_tasks

    from lossline_jax.evaluate.tasks.multiple_choice import read_items
    from lossline_jax.pipeline.prepare import open_corpora
    from lossline_jax.storage.paths import StudyDir

    yaml_folder = root / "harness"
    if not yaml_folder.exists():
        yaml_folder.mkdir()
        corpora = open_corpora(study, StudyDir(epath.Path(folder)))
        texts = {name: list(corpora[name].validation_texts()) for name in TEXTS}
        write_tasks(yaml_folder, {task.name: read_items(task) for task in study.suite.choice}, texts)
    (run,) = study.runs
    steps = run.checkpoint_steps
    chosen_steps = [steps[k] for k in np.linspace(0, len(steps) - 1, options.processes + 1).round().astype(int)]
    costs = []
    for step in chosen_steps:
        out = root / f"step{step}"
        if not out.exists():
            arguments = ("export-weights", folder, "--run", run.run_id, "--step", step, "--out", out)
            child_cpu_seconds([sys.executable, "-m", "lossline_jax", *arguments])
        names, window = study.suite.set_names, study.suite.context_length
        costs.append(run_process(out, yaml_folder, names, window, batch_size=16, spared=spared))
        print(f"harness, step {step}: {costs[-1]:.1f} CPU-s", file=sys.stderr, flush=True)
    return costs[1:]


def _texts(file: str) -> Iterator[str]:
    with gzip.open(DATA / "corpora" / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


if __name__ == "__main__":
    main()
