"""Trained weights give their known outputs: stories260K, a tiny Llama of old transformers, and SmolLM2-135M."""

import functools
import gzip
import json
import re
import shutil
from collections import defaultdict

import jax
import numpy as np
import pytest
from etils import epath

from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import check_vocabulary, read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from tests.support.gguf_to_huggingface import smollm2_gguf, write_smollm2
from tests.support.shared_data import shared_path

STORIES = "data/models/stories260K"
WINDOW, NUM_WINDOWS, ROWS = 512, 100, 20


@functools.cache
def load(folder):
    """Return config, model, params and tokenizer of a folder."""
    hf = read_config(folder)
    model = build_model(hf.config, hf.vocab_size)
    tokenizer = HuggingFaceTokenizerFile(epath.Path(folder) / "tokenizer.json")
    check_vocabulary(hf, tokenizer.vocab_size, str(folder))
    return hf, model, load_pretrained_params(folder, model), tokenizer


def text_of(relative):
    with gzip.open(shared_path(relative), "rt", encoding="utf-8") as file:
        return file.read()


def test_stories260k_gives_its_reference_outputs():
    hf, model, params, _ = load(shared_path(STORIES))
    expected = json.loads((shared_path(STORIES) / "reference_outputs.json").read_text())
    ids_BT = np.array(expected["input_ids"], np.int32)[None]
    logits_BTV = jax.jit(model.logits)(params, ids_BT)
    np.testing.assert_allclose(logits_BTV[0, -1], expected["last_logits"], atol=1e-4)
    nll = jax.jit(model.nll)(params, ids_BT[:, :-1], ids_BT[:, 1:])
    np.testing.assert_allclose(nll.mean(), expected["mean_nll"], atol=1e-5)

    greedy = expected["greedy_from_bos"]
    assert greedy[0] == hf.bos_id
    # Each token is the likeliest one after the true tokens before it, so one pass replaces 120.
    logits_BTV = jax.jit(model.logits)(params, np.array(greedy, np.int32)[None])
    assert logits_BTV[0, :-1].argmax(axis=-1).tolist() == greedy[1:]


def tinystories_windows():
    """Return the first 100 windows of 512 tokens, [100, 513], of all stories in a row, each after a BOS.

    The file has no marks between stories. A story begins at "Once" after a blank line, as nearly all stories do.
    """
    hf, _, _, tokenizer = load(shared_path(STORIES))
    text = text_of("data/corpora/tinystories/tinystories_v1_valid_part.txt.gz")[: 4 * WINDOW * NUM_WINDOWS]
    stories = [story.strip() for story in re.split(r"\n\n(?=Once)", text)]
    ids = np.concatenate([np.append(np.int32(hf.bos_id), tokenizer.encode(story)) for story in stories])
    return np.stack([ids[k * WINDOW : (k + 1) * WINDOW + 1] for k in range(NUM_WINDOWS)])


def mean_nll(folder, windows):
    _, model, params, _ = load(folder)
    nll = jax.jit(model.nll)
    parts = [windows[k : k + ROWS] for k in range(0, len(windows), ROWS)]
    return np.mean([nll(params, part[:, :-1], part[:, 1:]) for part in parts], dtype=np.float64)


def test_stories260k_has_its_loss_on_tinystories():
    # The manifest of the data has 1.2966, and 1.2968 was published. Neither states the windows that it used. The loss
    # depends on them: it is 1.27 for separate stories, and 1.37 for all windows before the broken quotes of the file.
    loss = mean_nll(shared_path(STORIES), tinystories_windows())
    assert loss == pytest.approx(1.2986, abs=2e-4)
    assert loss == pytest.approx(1.2966, abs=5e-3)


def test_transformers_finds_the_same_loss_on_tinystories():
    torch = pytest.importorskip("torch", reason="transformers needs it")
    transformers = pytest.importorskip("transformers", reason="the model to compare with")
    reference = transformers.AutoModelForCausalLM.from_pretrained(shared_path(STORIES)).eval()
    windows = tinystories_windows()[:ROWS]
    tokens = torch.tensor(windows).long()
    with torch.no_grad():
        logits = reference(tokens[:, :-1]).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert mean_nll(shared_path(STORIES), windows) == pytest.approx(expected, abs=1e-5)


def test_buffers_of_old_transformers_are_passed_over():
    folder = shared_path("data/models/hf_tiny_llama_random")
    hf = read_config(folder)
    model = build_model(hf.config, hf.vocab_size)
    params = load_pretrained_params(folder, model)
    tokens_BT = np.array([[1, 500, 31999, 7, 7, 2]], np.int32)
    logits_BTV = jax.jit(model.logits)(params, tokens_BT)
    torch = pytest.importorskip("torch", reason="transformers needs it")
    transformers = pytest.importorskip("transformers", reason="the model to compare with")
    with torch.no_grad():
        reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()(torch.tensor(tokens_BT).long())
    np.testing.assert_allclose(logits_BTV, reference.logits.numpy(), atol=1e-4)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    smollm2_gguf()
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    write_smollm2(folder)
    yield folder
    load.cache_clear()  # it has half a gigabyte
    shutil.rmtree(folder)


def length_normalised_accuracy(folder, items):
    """Return the share of items whose gold choice has the least NLL per byte after the context."""
    _, model, params, tokenizer = load(folder)
    by_width = defaultdict(list)  # rows of about equal length share a batch
    for k, item in enumerate(items):
        start = len(tokenizer.encode(item["context"]))
        for c, choice in enumerate(item["choices"]):
            ids = tokenizer.encode(item["context"] + choice)
            by_width[-(-len(ids) // 32) * 32].append((k, c, start, ids))
    nll = jax.jit(model.nll)
    scores = np.zeros((len(items), len(items[0]["choices"])))
    for width, rows in by_width.items():
        for first in range(0, len(rows), ROWS):
            padded = np.zeros((ROWS, width), np.int32)
            for row, (_, _, _, ids) in enumerate(rows[first : first + ROWS]):
                padded[row, : len(ids)] = ids
            nll_BT = np.asarray(nll(params, padded[:, :-1], padded[:, 1:]))
            for row, (k, c, start, ids) in enumerate(rows[first : first + ROWS]):
                scores[k, c] = nll_BT[row, start - 1 : len(ids) - 1].sum() / len(items[k]["choices"][c].encode())
    return np.mean(scores.argmin(axis=1) == [item["gold"] for item in items])


@pytest.mark.slow
def test_smollm2_answers_hellaswag(smollm2):
    lines = text_of("data/tasks/hellaswag.validation.jsonl.gz").splitlines()[:100]
    accuracy = length_normalised_accuracy(smollm2, [json.loads(line) for line in lines])
    assert 0.36 <= accuracy <= 0.56  # published: .41 for all items; chance: .25; one standard error: .05


@pytest.mark.slow
def test_smollm2_knows_wikipedia(smollm2):
    tokenizer = load(smollm2)[3]
    ids = tokenizer.encode(text_of("data/corpora/wikitext2/test.txt.gz")[:30_000])
    windows = np.stack([ids[k * WINDOW : (k + 1) * WINDOW + 1] for k in range(8)])
    assert 3.2 <= mean_nll(smollm2, windows) <= 3.4


@pytest.mark.slow
def test_smollm2_is_transformers_smollm2(smollm2):
    torch = pytest.importorskip("torch", reason="transformers needs it")
    transformers = pytest.importorskip("transformers", reason="the model to compare with")
    _, model, params, tokenizer = load(smollm2)
    tokens_BT = tokenizer.encode("The capital of France is Paris, and the capital of Germany is Berlin.")[None]
    with torch.no_grad():
        reference = transformers.AutoModelForCausalLM.from_pretrained(smollm2).eval()(torch.tensor(tokens_BT).long())
    logits_BTV = jax.jit(model.logits)(params, tokens_BT)
    np.testing.assert_allclose(logits_BTV, reference.logits.numpy(), atol=2e-3)
    assert tokenizer.encode(" Berlin")[0] == logits_BTV[0, -3].argmax()
