"""Scores against a slow computation in numpy, and all that they must not depend on."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from etils import epath
from jax.sharding import AxisType
from scoring_stand_ins import BOS, MemoryModel, PairTokenizer, sentences, slow_nats

from lossline_jax.evaluate.config import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.evaluate.evaluator import Evaluator, row_nats
from lossline_jax.evaluate.rows import Requests
from lossline_jax.evaluate.suites import prepare_suite
from lossline_jax.evaluate.sums import ratio_of_sums, score_set
from lossline_jax.models.base import build_model
from lossline_jax.models.config import LlamaConfig, Mamba2Config

CORPORA = {"a": sentences(0, 20, 20), "b": sentences(1, 12, 40)}
TOKENIZER = PairTokenizer((b"th", b"he", b" t", b"in"))
MODEL = MemoryModel(TOKENIZER.vocab_size)
ITEMS = [
    {"context": "all of the", "choices": [" words", " th", " one of them"], "gold": 1},
    {"context": "she", "choices": [" said so", " is"], "gold": 0},
    {"context": "", "choices": ["it", "was", "there", "then"], "gold": 3},
]


def mesh_of(num_devices):
    return jax.make_mesh((num_devices, 1), ("data", "model"), (AxisType.Auto,) * 2, devices=jax.devices()[:num_devices])


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks") / "task.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return SuiteConfig(
        validation=(ValidationSet("a"), ValidationSet("b")),
        cloze=(ClozeTask("b", num_items=10, context_bytes=40, continuation_bytes=20),),
        choice=(ChoiceTask("task", str(path)),),
        context_length=64,
        overlap=32,
    )


@pytest.fixture(scope="module")
def suite(config, tmp_path_factory):
    return prepare_suite(config, TOKENIZER, CORPORA, epath.Path(tmp_path_factory.mktemp("suites")))


@pytest.fixture(scope="module")
def scores(suite, params):
    return Evaluator(MODEL, mesh_of(1), suite).score(params)


def assert_same(left, right, rtol=1e-6):
    assert left.keys() == right.keys()
    for name, score in left.items():
        for field, value in dataclasses.asdict(score).items():
            other = getattr(right[name], field)
            assert (value is None) == (other is None)
            assert value is None or math.isclose(value, other, rel_tol=rtol), (name, field, value, other)


def test_validation_score_is_the_slow_one(scores, params):
    nats, num_tokens, num_bytes = [], [], []
    for text in CORPORA["b"].texts:
        document = np.concatenate([[BOS], TOKENIZER.encode(text)])
        total = slow_nats(params, document[:65]).sum()
        for start in range(32, len(document) - 33, 32):  # windows of 64 that score their last 32
            total += slow_nats(params, document[start : start + 65])[32:].sum()
        nats.append(total)
        num_tokens.append(len(document) - 1)
        num_bytes.append(len(text.encode()))
    score = scores["b"]
    assert score.n == 12
    assert (score.num_tokens, score.num_bytes) == (sum(num_tokens), sum(num_bytes))
    assert score.nats_per_token == pytest.approx(sum(nats) / sum(num_tokens), rel=2e-6)
    assert score.bits_per_byte == pytest.approx(sum(nats) / sum(num_bytes) / math.log(2), rel=2e-6)
    mean = np.mean(np.array(nats) / num_tokens)
    assert score.nats_per_token_document_mean == pytest.approx(mean, rel=2e-6)
    assert score.accuracy is None


def slow_option(params, context, option):
    context_ids, option_ids = TOKENIZER.encode(context), TOKENIZER.encode(option)
    return slow_nats(params, np.concatenate([[BOS], context_ids, option_ids]))[len(context_ids) :].sum()


def test_task_score_is_the_slow_one(scores, params):
    nats = [[slow_option(params, item["context"], option) for option in item["choices"]] for item in ITEMS]
    gold_nats = sum(each[item["gold"]] for each, item in zip(nats, ITEMS, strict=True))
    gold = [item["choices"][item["gold"]] for item in ITEMS]
    score = scores["task"]
    assert score.n == 3
    assert score.num_bytes == sum(len(text) for text in gold)
    assert score.num_tokens == sum(len(TOKENIZER.encode(text)) for text in gold)
    assert score.nats_per_token == pytest.approx(gold_nats / score.num_tokens, rel=2e-6)
    assert score.bits_per_byte == pytest.approx(gold_nats / score.num_bytes / math.log(2), rel=2e-6)
    right = [np.argmin(each) == item["gold"] for each, item in zip(nats, ITEMS, strict=True)]
    by_byte = [
        np.argmin(np.array(each) / [len(option) for option in item["choices"]]) == item["gold"]
        for each, item in zip(nats, ITEMS, strict=True)
    ]
    assert (score.accuracy, score.accuracy_per_byte) == (np.mean(right), np.mean(by_byte))
    assert score.nats_per_token_document_mean is None


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 500])
def test_batch_size_does_not_matter(suite, params, scores, tokens_per_batch):
    assert_same(Evaluator(MODEL, mesh_of(1), suite, tokens_per_batch).score(params), scores)


@pytest.mark.parametrize("num_devices", [2, 3, 8])
def test_number_of_devices_does_not_matter(suite, params, scores, num_devices):
    assert_same(Evaluator(MODEL, mesh_of(num_devices), suite, tokens_per_batch=300).score(params), scores)


@pytest.mark.parametrize(
    "architecture",
    [
        LlamaConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32),
        Mamba2Config(d_model=16, num_layers=1, num_heads=2, d_state=8, d_inner=32, chunk_size=24),
    ],
    ids=lambda config: config.architecture,
)
def test_real_models_score_the_same_on_one_device_and_on_many(config, architecture, tmp_path):
    small = dataclasses.replace(config, validation=(), choice=())
    suite = prepare_suite(small, TOKENIZER, CORPORA, epath.Path(tmp_path))
    suite = dataclasses.replace(suite, blocks=suite.blocks[:1])  # one program to compile a mesh
    model = build_model(architecture, TOKENIZER.vocab_size)
    params = model.init(jax.random.key(0))
    whole = Evaluator(model, mesh_of(1), suite).score(params)
    assert_same(Evaluator(model, mesh_of(4), suite, tokens_per_batch=150).score(params), whole)


def test_order_of_sets_does_not_matter(config, params, scores, tmp_path):
    turned = dataclasses.replace(config, validation=config.validation[::-1])
    suite = prepare_suite(turned, TOKENIZER, CORPORA, epath.Path(tmp_path))
    found = Evaluator(MODEL, mesh_of(2), suite).score(params)
    assert list(found) == ["b", "a", "b_cloze", "task"]
    assert_same({name: found[name] for name in scores}, scores)


def test_a_set_alone_scores_the_same_so_padding_and_company_do_not_matter(config, params, scores, tmp_path):
    for name in ("a", "b"):
        alone = SuiteConfig(validation=(ValidationSet(name),), context_length=64, overlap=32)
        suite = prepare_suite(alone, TOKENIZER, CORPORA, epath.Path(tmp_path))
        assert_same(Evaluator(MODEL, mesh_of(1), suite).score(params), {name: scores[name]})


def test_order_of_rows_does_not_matter(suite, params, scores):
    rng = np.random.Generator(np.random.PCG64(0))
    shuffled = []
    for block in suite.blocks:
        order = rng.permutation(len(block.ids_BT))
        shuffled.append(type(block)(**{name: array[order] for name, array in vars(block).items()}))
    suite = dataclasses.replace(suite, blocks=tuple(shuffled))
    assert_same(Evaluator(MODEL, mesh_of(2), suite, tokens_per_batch=300).score(params), scores)


def test_one_program_a_row_length_for_all_sets_checkpoints_and_runs(suite):
    row_nats.clear_cache()
    for seed in range(2):  # two runs of one model shape, three checkpoints each
        evaluator = Evaluator(MemoryModel(TOKENIZER.vocab_size), mesh_of(2), suite)
        for step in range(3):
            params = MODEL.init(jax.random.key(10 * seed + step))
            evaluator.score(params)
            evaluator.score(jax.device_get(params))
    assert row_nats._cache_size() == len(suite.blocks) <= 3


def test_non_finite_parameters_show_in_the_scores_of_the_sets_that_meet_them(suite, params):
    poisoned = params | {"table": params["table"].at[ord("q")].set(np.nan)}
    scores = Evaluator(MODEL, mesh_of(1), suite).score(poisoned)
    assert all(math.isfinite(score.nats_per_token) for score in scores.values())
    poisoned = params | {"table": params["table"].at[ord("e")].set(np.nan)}
    scores = Evaluator(MODEL, mesh_of(1), suite).score(poisoned)
    assert math.isnan(scores["a"].nats_per_token)
    assert math.isnan(scores["task"].accuracy)


def test_a_uniform_model_costs_log_v(suite, params):
    flat = jax.tree.map(np.zeros_like, params)
    for score in Evaluator(MODEL, mesh_of(1), suite).score(flat).values():
        assert score.nats_per_token == pytest.approx(math.log(TOKENIZER.vocab_size), rel=1e-6)
        assert score.nats_per_token_standard_error == pytest.approx(0.0, abs=1e-6)


def test_standard_error_is_the_spread_over_draws_of_documents():
    rng = np.random.Generator(np.random.PCG64(0))

    def draw():
        tokens = rng.integers(10, 200, size=80)
        nats = tokens * (3.0 + rng.normal(0.0, 0.5, size=80)) + rng.normal(0.0, 5.0, size=80)
        return ratio_of_sums(nats, tokens)

    ratios, errors = np.array([draw() for _ in range(2000)]).T
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.05)


def test_standard_error_by_hand():
    ratio, error = ratio_of_sums(np.array([2.0, 6.0]), np.array([1.0, 3.0]))
    assert (ratio, error) == (2.0, 0.0)
    ratio, error = ratio_of_sums(np.array([1.0, 3.0]), np.array([1.0, 1.0]))  # equal sizes: that of a mean
    assert (ratio, error) == (2.0, pytest.approx(np.std([1, 3], ddof=1) / math.sqrt(2)))


def test_accuracies_by_hand():
    requests = Requests(
        dataset_Q=np.zeros(5, np.int32),
        item_Q=np.array([0, 0, 1, 1, 1]),
        option_Q=np.array([0, 1, 0, 1, 2]),
        gold_Q=np.array([True, False, False, False, True]),
        tokens_Q=np.array([2, 1, 1, 1, 4]),
        bytes_Q=np.array([4, 4, 2, 3, 12]),
    )
    score = score_set("task", requests, np.array([1.0, 2.0, 3.0, 4.0, 6.0]))
    assert (score.accuracy, score.accuracy_per_byte) == (0.5, 1.0)
    assert score.nats_per_token == pytest.approx(7 / 6)
    assert score.bits_per_byte == pytest.approx(7 / 16 / math.log(2))
    assert score.accuracy_standard_error == pytest.approx(np.std([1, 0], ddof=1) / math.sqrt(2))
    assert (score.num_tokens, score.num_bytes, score.n) == (6, 16, 2)
