"""Our model inside lm-evaluation-harness agrees with its torch model on every request, window and item."""

import shutil

import numpy as np
import pytest
from etils import epath

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.data.tokenizers.huggingface import HuggingFaceTokenizerFile
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.evaluator import score_rows
from lossline_jax.models.model import build_model
from lossline_jax.weights.huggingface.configs import read_config
from lossline_jax.weights.huggingface.load import load_pretrained_params
from tests.support.gguf_to_huggingface import smollm2_gguf, write_smollm2
from tests.support.shared_data import shared_path

pytest.importorskip("lm_eval", reason="the harness is an extra")
STORIES = "data/models/stories260K"
CONTEXT_LENGTH = 64
STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the big, green park. "


def requests(kind, *arguments):
    """Return the instances of one document, one for each option."""
    from lm_eval.api.instance import Instance

    return [
        Instance(kind, {}, request_arguments, index, ("a task", 0, 1))
        for index, request_arguments in enumerate(arguments)
    ]


@pytest.fixture(scope="module")
def stories():
    folder = shared_path(STORIES)
    hf = read_config(folder)
    tokenizer = HuggingFaceTokenizerFile(epath.Path(folder) / "tokenizer.json", hf.bos_id, hf.eos_id)
    model = build_model(hf.config, hf.vocab_size)
    return folder, tokenizer, model, load_pretrained_params(folder, model)


def make_both_models(stories, bos):
    """Return HFLM and our model. With `bos` a BOS precedes every text, without it only a text without context."""
    for name in ("torch", "transformers", "accelerate"):
        pytest.importorskip(name, reason="the harness's own model needs it")
    from lossline_jax.evaluate.harness import HarnessModel
    from tests.support.harness_agreement import torch_model

    folder, tokenizer, model, params = stories
    reference = torch_model(folder, tokenizer, CONTEXT_LENGTH)
    reference.add_bos_token = bos
    return reference, HarnessModel(
        model, params, tokenizer, make_mesh(ExecutionConfig()), context_length=CONTEXT_LENGTH, bos=bos
    )


@pytest.mark.parametrize("bos", [True, False])
def test_every_kind_of_request_has_the_log_probability_of_the_torch_model(stories, bos):
    reference, model = make_both_models(stories, bos)
    instances = requests(
        "loglikelihood",
        ("Once upon a", " time"),
        ("Once upon a", " time, there was a boy"),
        ("Once upon a ", "dog"),  # the space becomes part of the continuation
        ("Once upon", " a dog"),
        ("", "Once upon a time"),
        ("Lily and", " Tom"),
        (STORY * 4, " She was happy."),  # too long, so its beginning is cut off
        ("One day", STORY + "The park was big."),
    )
    # Each request is sent alone, because HFLM 0.4.13 confuses requests that split the same text at two places.
    expected = [reference.loglikelihood([instance], disable_tqdm=True)[0] for instance in instances]
    answers = model.loglikelihood(instances)
    np.testing.assert_allclose([nats for nats, _ in answers], [nats for nats, _ in expected], atol=2e-4)
    assert [greedy for _, greedy in answers] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in answers} == {True, False}


def test_rolling_windows_are_those_of_the_torch_model(stories):
    # With BOS, HFLM adds a BOS to the text and scores it after the first one. So only texts without BOS are compared.
    reference, model = make_both_models(stories, bos=False)
    instances = requests("loglikelihood_rolling", (STORY,), (STORY * 7,), ("",), ("Tom",))
    expected, nats = (
        reference.loglikelihood_rolling(instances, disable_tqdm=True),
        model.loglikelihood_rolling(instances),
    )
    np.testing.assert_allclose(nats, expected, rtol=1e-6, atol=2e-4)
    assert nats[2] == 0.0
    _, with_bos = make_both_models(stories, bos=True)
    assert with_bos.loglikelihood_rolling(instances) == nats


def test_requests_of_other_sizes_meet_the_same_programs(stories):
    _, model = make_both_models(stories, bos=True)
    pairs = [
        (STORY[:end], f" {name} was{tail}") for end in (20, 60, 99) for name, tail in (("Tom", ""), ("It", " red"))
    ]
    model.loglikelihood(requests("loglikelihood", *pairs))
    programs = score_rows._cache_size()
    model.loglikelihood(requests("loglikelihood", *pairs[2:]))
    model.loglikelihood(requests("loglikelihood", *((context[3:], option) for context, option in pairs)))
    assert score_rows._cache_size() == programs


def test_what_cannot_be_scored_is_named(stories):
    _, model = make_both_models(stories, bos=True)
    with pytest.raises(LosslineError, match="'a cat', ''.* has 0 tokens"):
        model.loglikelihood(requests("loglikelihood", ("a cat", "")))
    with pytest.raises(LosslineError, match="1 to context_length=64"):
        model.loglikelihood(requests("loglikelihood", ("a cat", STORY * 4)))
    with pytest.raises(NotImplementedError, match="export-weights"):
        model.generate_until(requests("generate_until", ("a cat", {})))


def check_agreement(folder, max_items):
    for name in ("torch", "transformers", "accelerate", "datasets"):
        pytest.importorskip(name, reason="the harness's own model needs it")
    from tests.support.harness_agreement import TOLERANCE, compare

    for agreement in compare(folder, context_length=512, max_items=max_items):
        assert agreement.largest_gap <= TOLERANCE, agreement.name
        assert agreement.num_unequal == 0, agreement.name


def test_stories260k_answers_the_harness_item_by_item():
    check_agreement(shared_path(STORIES), max_items=10)


@pytest.mark.slow
def test_smollm2_answers_the_harness_item_by_item(tmp_path):
    smollm2_gguf()
    shared_path("data/tasks")
    write_smollm2(tmp_path / "model")
    check_agreement(tmp_path / "model", max_items=3)
    shutil.rmtree(tmp_path / "model")  # it has half a gigabyte
