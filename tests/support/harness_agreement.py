"""Compare three ways to score the same items: the harness with torch, the harness with our model, our evaluator.

python tests/support/harness_agreement.py prints the table of the README; --help lists its flags.
"""

import argparse
import gzip
import json
import pathlib
import sys
import tempfile
from dataclasses import dataclass

import numpy as np
from etils import epath

from lossline_jax.config.evaluation import ChoiceTask, SuiteConfig
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.distributed.devices import configure_devices
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.evaluate.evaluator import Evaluator
from lossline_jax.evaluate.suite import prepare_suite
from lossline_jax.formatting import text_table
from lossline_jax.losses.loss_row import SetScore
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from tests.support.harness_tasks import harness_task
from tests.support.raw_rows import raw_row
from tests.support.shared_data import shared_path

YAML_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
}
# Characters of an item. With the smallest vocabulary it then fits the 512 positions of training.
MAX_CHARACTERS = 900
TOLERANCE = 2e-4  # nats, between two log-probabilities of a whole option


@dataclass(frozen=True)
class Answers:
    """A task as one of the three ways scores it: log-probabilities of all options, and which items are right."""

    log_probabilities_Q: np.ndarray
    right_n: np.ndarray  # by the sum over tokens
    right_by_length_n: np.ndarray | None  # by the sum over tokens for each character; None: WinoGrande in the harness
    accuracy: float  # as reported
    accuracy_by_length: float | None


@dataclass(frozen=True)
class Agreement:
    """A task in all three ways, to compare our two with the model of the harness."""

    name: str
    reference: Answers  # the model of the harness
    inside: Answers  # our model inside the harness
    evaluator: Answers  # our evaluator and task spec

    @property
    def largest_gap(self) -> float:
        expected_Q = self.reference.log_probabilities_Q
        return float(np.max([np.abs(way.log_probabilities_Q - expected_Q) for way in (self.inside, self.evaluator)]))

    @property
    def num_unequal(self) -> int:
        """Return the number of items that one way gets right and the other wrong, over both ways and metrics."""
        expected = self.reference
        unequal = round(abs(self.evaluator.accuracy - expected.accuracy) * len(expected.right_n))
        if expected.accuracy_by_length is not None:
            difference = abs(self.evaluator.accuracy_by_length - expected.accuracy_by_length)
            unequal += round(difference * len(expected.right_n))
        for way in (self.inside, self.evaluator):
            unequal += int(np.sum(way.right_n != expected.right_n))
            if expected.right_by_length_n is not None:
                unequal += int(np.sum(way.right_by_length_n != expected.right_by_length_n))
        return unequal


def public_rows(name: str, max_items: int) -> list[dict]:
    """Return rows in the form of the public dataset.

    They are spread evenly over the rows of the shared file that fit 512 tokens.
    """
    with gzip.open(shared_path(f"data/tasks/{name}.validation.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if len(row["context"]) + max(map(len, row["choices"])) <= MAX_CHARACTERS]
    chosen = np.linspace(0, len(rows) - 1, min(max_items, len(rows))).round().astype(int)
    return [raw_row(name, rows[k]) for k in chosen]


def compare(folder: pathlib.Path, context_length: int, max_items: int) -> list[Agreement]:
    """Score every task of `YAML_FILES` on the model of a Hugging Face folder, in all three ways.

    Args:
        folder: config.json, weights and tokenizer.json.
        context_length: tokens. Every item must fit: the harness drops BOS from an item that it cuts, and we keep it.
        max_items: items of each task.
    """
    from lossline_jax.evaluate.harness import HarnessModel

    hf = read_config(folder)
    tokenizer = HuggingFaceTokenizerFile(epath.Path(folder) / "tokenizer.json", hf.bos_id, hf.eos_id)
    model = build_model(hf.config, hf.vocab_size)
    params, mesh = load_pretrained_params(folder, model), make_mesh(ExecutionConfig())
    rows = {name: public_rows(name, max_items) for name in YAML_FILES}
    reference = _inside_harness(torch_model(folder, tokenizer, context_length), rows)
    inside = _inside_harness(HarnessModel(model, params, tokenizer, mesh, context_length=context_length), rows)
    evaluator = _evaluator(model, params, tokenizer, mesh, context_length, rows)
    return [Agreement(name, reference[name], inside[name], evaluator[name]) for name in rows]


def torch_model(folder: pathlib.Path, tokenizer: HuggingFaceTokenizerFile, context_length: int, batch_size: int = 16):
    """Return HFLM, the model of the harness, with a tokenizer that puts BOS before every text as lossline does."""
    import tokenizers
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    with_bos = tokenizers.Tokenizer.from_buffer(tokenizer.content)
    bos, eos = (with_bos.id_to_token(index) for index in (tokenizer.bos_id, tokenizer.eos_id))
    with_bos.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_id)]
    )
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=with_bos, bos_token=bos, eos_token=eos)
    weights = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return HFLM(
        pretrained=weights,
        tokenizer=wrapped,
        device="cpu",
        batch_size=batch_size,
        max_length=context_length,
        # torch's log-softmax in float32 loses 1e-5 nats a token over a vocabulary of 49152, all to one side
        softmax_dtype="float64",
    )


def _inside_harness(model, rows: dict[str, list[dict]]) -> dict[str, Answers]:
    import lm_eval

    tasks = [harness_task(YAML_FILES[name], rows[name]) for name in rows]
    evaluation = lm_eval.simple_evaluate(model=model, tasks=tasks, bootstrap_iters=0)
    samples, results = evaluation["samples"], evaluation["results"]
    answers = {}
    for name in rows:
        documents = sorted(samples[name], key=lambda sample: sample["doc_id"])
        by_length = [sample["acc_norm"] for sample in documents] if "acc_norm" in documents[0] else None
        answers[name] = Answers(
            np.array([response[0][0] for sample in documents for response in sample["resps"]]),
            np.array([sample["acc"] for sample in documents], bool),
            None if by_length is None else np.array(by_length, bool),
            results[name]["acc,none"],
            results[name].get("acc_norm,none"),
        )
    return answers


def _evaluator(model, params, tokenizer, mesh, context_length, rows) -> dict[str, Answers]:
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for name in rows:
            path = pathlib.Path(folder) / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows[name]), encoding="utf-8")
            tasks.append(ChoiceTask(name, str(path), spec=name))
        suite_config = SuiteConfig(choice=tuple(tasks), context_length=context_length, overlap=0)
        suite = prepare_suite(suite_config, tokenizer, {}, epath.Path(folder))
    assert not suite.problems, suite.problems
    assert all(scored_set.num_truncated == 0 for scored_set in suite.sets), "an item does not fit the context"
    evaluator = Evaluator(model, mesh, suite)
    nats_Q, scores = evaluator.request_scores(params).nats_Q, evaluator.score(params)
    return {
        scored_set.name: _answers(suite.requests.take(of_set_Q), nats_Q[of_set_Q], scores[scored_set.name])
        for k, scored_set in enumerate(suite.sets)
        for of_set_Q in [suite.requests.dataset_Q == k]
    }


def _answers(requests, nats_Q: np.ndarray, score: SetScore) -> Answers:
    def find_right_items(cost_Q: np.ndarray) -> np.ndarray:
        items = [np.flatnonzero(requests.item_Q == item) for item in np.unique(requests.item_Q)]
        return np.array([requests.gold_Q[options[np.argmin(cost_Q[options])]] for options in items])

    by_length = find_right_items(nats_Q / requests.chars_Q)
    return Answers(-nats_Q, find_right_items(nats_Q), by_length, score.accuracy, score.accuracy_per_char)


def main() -> None:
    from tests.support.gguf_to_huggingface import write_smollm2

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("stories260K", "smollm2"), default="stories260K")
    parser.add_argument("--items", type=int, default=200, help="items of each task")
    options = parser.parse_args()
    configure_devices(ExecutionConfig())
    with tempfile.TemporaryDirectory() as parent:
        folder = shared_path("data/models/stories260K")
        if options.model == "smollm2":
            folder = pathlib.Path(parent) / "smollm2"
            write_smollm2(folder)
        agreements = compare(folder, context_length=512, max_items=options.items)
    print(text_table(("task", "n", "acc", "acc_norm", "unequal items", "largest |dlogp|"), map(_line, agreements)))
    if any(task.num_unequal or task.largest_gap > TOLERANCE for task in agreements):
        sys.exit("harness_agreement: some answers differ")


def _line(task: Agreement) -> tuple[str, ...]:
    right_n, by_length_n = task.reference.right_n, task.reference.right_by_length_n
    shares = [f"{right_n.mean():.3f}", "" if by_length_n is None else f"{by_length_n.mean():.3f}"]
    return task.name, str(len(right_n)), *shares, str(task.num_unequal), f"{task.largest_gap:.1e}"


if __name__ == "__main__":
    main()
