"""Measure the time to score one checkpoint of a large model on a suite of 15 sets, on this machine's accelerator.

    python benchmarks/large_suite.py make FOLDER --data DATA      # once, on any machine: writes the suite
    python benchmarks/large_suite.py score FOLDER                 # on the accelerator; needs FOLDER alone

The weights are start values, because the time does not depend on them.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
from etils import epath

from lossline_jax.config.data import FilesCorpus, HuggingFaceTokenizer
from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.presets import PRESETS, preset
from lossline_jax.data.corpora.files import read_files
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import shardings
from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.suite import load_suite, prepare_suite
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.models.model import build_model

TEXTS = {  # corpus: its file under DATA/corpora
    "c4": "c4/c4_val.jsonl.gz",
    "openwebtext": "openwebtext/owt_a_first1000.jsonl.gz",
    "pile_cc": "pile_test/pile_cc.jsonl.gz",
    "github": "pile_test/github.jsonl.gz",
    "math": "math/stackexchange_math.jsonl.gz",
}
TASKS = {  # the ten tasks of the study: their files under DATA/tasks
    "hellaswag": "hellaswag.validation",
    "arc_easy": "arc_easy.validation",
    "arc_challenge": "arc_challenge.validation",
    "piqa": "piqa.validation",
    "copa": "copa.validation",
    "winogrande": "winogrande.validation",
    "openbookqa": "openbookqa.validation",
    "mmlu": "mmlu.test",
    "commonsense_qa": "commonsense_qa.validation",
    "social_iqa": "social_iqa.validation",
}


@dataclasses.dataclass(frozen=True)
class Texts:
    """A corpus whose documents are those of one file, all of them held out."""

    file: str
    fingerprint: str

    def validation_texts(self):
        return (document.text for document in read_files(FilesCorpus(self.fingerprint, globs=(self.file,))))


def make(folder: str, data: Path, context_length: int) -> None:
    """Write the suite to `folder`, in tokens of GPT-2."""
    corpora = {name: Texts(str(data / "corpora" / file), name) for name, file in TEXTS.items()}
    tokenizer_file = str(data / "tokenizers" / "gpt2" / "tokenizer.json")
    tokenizer = prepare_tokenizer(
        HuggingFaceTokenizer(tokenizer_file, bos_id=50256, eos_id=50256), corpora, epath.Path(folder)
    )
    config = SuiteConfig(
        validation=tuple(ValidationSet(name, max_documents=None) for name in TEXTS),
        choice=tuple(ChoiceTask(name, str(data / "tasks" / f"{file}.jsonl.gz")) for name, file in TASKS.items()),
        context_length=context_length,
        overlap=context_length // 2,
    )
    suite = prepare_suite(config, tokenizer, corpora, epath.Path(folder))
    for name, problem in suite.problems.items():
        print(f"left out: {name}: {problem}")
    print(f"{folder}/{suite.fingerprint}: {len(suite.sets)} sets")


def score(folder: str, model_name: str, tokens_per_batch: int | None, attention: str) -> None:
    """Score the suite three times with a model at its start values, and print sizes and seconds as JSON."""
    manifests = sorted(Path(folder).glob("*/manifest.json"))
    suite = load_suite(epath.Path(next(path for path in manifests if (path.parent / "rows.npz").exists()).parent))
    config, vocab_size = preset(model_name), PRESETS[model_name].vocab_size
    model, mesh = build_model(config, vocab_size, attention=attention), make_mesh(ExecutionConfig())
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    placed = shardings(model.axes(), mesh, shapes)
    params = jax.jit(model.init, out_shardings=placed)(jax.random.key(0))
    evaluator = Evaluator(model, mesh, suite, tokens_per_batch=tokens_per_batch)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        scores = evaluator.score(params)
        seconds.append(time.perf_counter() - start)
    assert all(np.isfinite(score.nats_per_token) for score in scores.values())
    computed = sum(block.ids_BT.size for block in suite.blocks)
    flops = computed * train_flops_per_token(config, vocab_size, suite.context_length) / 3
    result = {
        "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "model": model_name,
        "parameters": count_parameters(config, vocab_size).total,
        "sets": len(suite.sets),
        "requests": len(suite.requests.item_Q),
        "tokens computed": computed,
        "tokens scored, all options": int(suite.requests.tokens_Q.sum()),
        "rows": [[len(block.ids_BT), block.row_length] for block in suite.blocks],
        "fill": round(suite.fill, 3),
        "seconds, compiled before": round(min(seconds[1:]), 2),
        "seconds, first": round(seconds[0], 2),
        "TFLOP/s, logits of every token counted": round(flops / min(seconds[1:]) / 1e12, 1),
    }
    print(json.dumps(result, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("make", "score"))
    parser.add_argument("folder")
    parser.add_argument("--data", type=Path, help="folder with corpora/, tasks/ and tokenizers/gpt2/")
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--model", default="study-llama-1024x12")
    parser.add_argument("--tokens-per-batch", type=int)
    parser.add_argument("--attention", default="xla")
    options = parser.parse_args()
    if options.verb == "make":
        if options.data is None:
            parser.error("make needs --data")
        make(options.folder, options.data, options.context_length)
    else:
        score(options.folder, options.model, options.tokens_per_batch, options.attention)


if __name__ == "__main__":
    main()
