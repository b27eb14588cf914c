"""Scores equal a slow computation in numpy, and do not depend on batches, devices, or order."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from etils import epath

from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.distributed.mesh import build_mesh
from lossline_jax.evaluate.evaluator import Evaluator, RowScorer, score_rows
from lossline_jax.evaluate.packing.rows import Request, Requests, pack_sets
from lossline_jax.evaluate.packing.windows import Text
from lossline_jax.evaluate.scores import ratio_of_sums, score_set
from lossline_jax.evaluate.suite import prepare_suite
from lossline_jax.evaluate.tasks.cloze import cloze_items
from lossline_jax.evaluate.tokenised_set import tokenise_documents, tokenise_items
from lossline_jax.losses.loss_row import COLUMNS, SetScore
from lossline_jax.models.model import build_model
from tests.support.scoring_stand_ins import (
    BOS,
    MemoryModel,
    PairTokenizer,
    one_text_a_row,
    sentences,
    sharpen,
    slow_logits,
    slow_nats,
)

CORPORA = {"a": sentences(0, 20, 20), "b": sentences(1, 12, 40)}
TOKENIZER = PairTokenizer((b"th", b"he", b" t", b"in"))
MODEL = MemoryModel(TOKENIZER.vocab_size)
ITEMS = [
    {"context": "all of the", "choices": [" words", " th", " one of them"], "gold": 1},
    {"context": "she", "choices": [" said so", " is"], "gold": 0},
    {"context": "", "choices": ["it", "was", "there", "then"], "gold": 3},
]
LAST_WORDS = [
    {"context": "one of them said that it was", "continuation": "not"},
    {"context": "if they", "continuation": "do"},
    {"context": "she", "continuation": "is"},
]


def mesh(num_devices):
    return build_mesh(jax.devices()[:num_devices], data=num_devices)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for name, items in (("task", ITEMS), ("last_word", LAST_WORDS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return SuiteConfig(
        validation=(ValidationSet("a"), ValidationSet("b")),
        cloze=(ClozeTask("b", num_items=10, context_bytes=40, continuation_bytes=20),),
        choice=tuple(ChoiceTask(name, str(folder / f"{name}.jsonl")) for name in ("task", "last_word")),
        context_length=64,
        overlap=32,
    )


@pytest.fixture(scope="module")
def suite(config, tmp_path_factory):
    return prepare_suite(config, TOKENIZER, CORPORA, epath.Path(tmp_path_factory.mktemp("suites")))


@pytest.fixture(scope="module")
def scores(suite, params):
    return Evaluator(MODEL, mesh(1), suite).score(params)


def assert_same(scores, expected_scores, rtol=1e-6):
    assert scores.keys() == expected_scores.keys()
    for name, score in scores.items():
        for field, value in dataclasses.asdict(score).items():
            expected = getattr(expected_scores[name], field)
            assert (value is None) == (expected is None)
            assert value is None or math.isclose(value, expected, rel_tol=rtol), (name, field, value, expected)


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
    spread = np.std(np.array(nats) / num_tokens, ddof=1) / math.sqrt(12)
    assert score.nats_per_token_document_mean_standard_error == pytest.approx(spread, rel=1e-5)
    assert (score.accuracy, score.accuracy_per_byte, score.nats_per_token_all_options) == (None, None, None)


def slow_option(params, context, option):
    context_ids, option_ids = TOKENIZER.encode(context), TOKENIZER.encode(option)
    return slow_nats(params, np.concatenate([[BOS], context_ids, option_ids]))[len(context_ids) :].sum()


def test_task_score_is_the_slow_one(scores, params):
    nats = [[slow_option(params, item["context"], option) for option in item["choices"]] for item in ITEMS]
    gold_nats = sum(item_nats[item["gold"]] for item_nats, item in zip(nats, ITEMS, strict=True))
    gold = [item["choices"][item["gold"]] for item in ITEMS]
    score = scores["task"]
    assert score.n == 3
    assert score.num_bytes == sum(len(text) for text in gold)
    assert score.num_tokens == sum(len(TOKENIZER.encode(text)) for text in gold)
    assert score.nats_sum == pytest.approx(gold_nats, rel=2e-6)
    assert score.nats_per_token == pytest.approx(gold_nats / score.num_tokens, rel=2e-6)
    assert score.bits_per_byte == pytest.approx(gold_nats / score.num_bytes / math.log(2), rel=2e-6)

    def compute_accuracy(size):
        costs = [
            np.array(item_nats) / [size(option) for option in item["choices"]]
            for item_nats, item in zip(nats, ITEMS, strict=True)
        ]
        return np.mean([np.argmin(cost) == item["gold"] for cost, item in zip(costs, ITEMS, strict=True)])

    assert score.accuracy == compute_accuracy(lambda option: 1)
    assert score.accuracy_per_byte == compute_accuracy(len)
    assert score.accuracy_per_char == compute_accuracy(lambda option: len(option.lstrip()))
    nats_of_options = [
        cost / len(TOKENIZER.encode(option))
        for costs, item in zip(nats, ITEMS, strict=True)
        for cost, option in zip(costs, item["choices"], strict=True)
    ]
    assert score.nats_per_token_all_options == pytest.approx(np.mean(nats_of_options), rel=2e-6)
    assert score.nats_per_token_document_mean is None


def test_greedy_options_are_those_that_the_model_would_generate(params):
    greedy_ids = [BOS, *TOKENIZER.encode("all of the")]
    start = len(greedy_ids)
    while len(greedy_ids) < start + 5:
        greedy_ids.append(int(slow_logits(params, greedy_ids)[-1].argmax()))
    wrong = [
        [*greedy_ids[: start + k], (greedy_ids[start + k] + 1) % 256, *greedy_ids[start + k + 1 :]] for k in range(5)
    ]
    options = [greedy_ids, *wrong, greedy_ids[: start + 1]]
    sets = [[Request((Text(np.array(ids), start - 1),), 0, k, k == 0, 1, 1) for k, ids in enumerate(options)]]
    requests, blocks = pack_sets(sets, context_length=64)
    scores = RowScorer(MODEL, mesh(1), blocks, len(options))(params)
    assert scores.greedy_Q.tolist() == [True, False, False, False, False, False, True]
    nats = [slow_nats(params, np.array(ids))[start - 1 :].sum() for ids in options]
    np.testing.assert_allclose(scores.nats_Q, nats, rtol=2e-6, atol=1e-6)
    last_words = requests.take(np.array([0, 1, 6]))
    last_words = dataclasses.replace(last_words, item_Q=np.arange(3), gold_Q=np.ones(3, bool))
    score = score_set("task", last_words, scores.nats_Q[[0, 1, 6]], scores.greedy_Q[[0, 1, 6]])
    assert score.accuracy == pytest.approx(2 / 3)
    assert (score.accuracy_per_char, score.accuracy_per_byte, score.nats_per_token_all_options) == (None, None, None)


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 500])
def test_batch_size_does_not_matter(suite, params, scores, tokens_per_batch):
    assert_same(Evaluator(MODEL, mesh(1), suite, tokens_per_batch=tokens_per_batch).score(params), scores)


@pytest.mark.parametrize("num_devices", [2, 3, 8])
def test_number_of_devices_does_not_matter(suite, params, scores, num_devices):
    assert_same(Evaluator(MODEL, mesh(num_devices), suite, tokens_per_batch=300).score(params), scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    [
        LlamaConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32),
        Mamba2Config(d_model=16, num_layers=1, num_heads=2, d_state=8, d_inner=32, chunk_size=24),
    ],
    ids=lambda config: config.architecture,
)
def test_real_models_score_packed_rows_on_many_devices_as_single_texts_on_one(architecture):
    suite = SuiteConfig(context_length=64, overlap=32)
    items = cloze_items(ClozeTask("b", num_items=10, context_bytes=30, continuation_bytes=10), CORPORA["b"].texts)
    validation = tokenise_documents(ValidationSet("b", max_documents=4), CORPORA["b"].texts, TOKENIZER, suite)
    sets = [validation.requests, tokenise_items("cloze", items, TOKENIZER, suite).requests]
    requests, blocks = pack_sets(sets, context_length=64)
    assert {block.has_branches for block in blocks} == {True, False}
    model = build_model(architecture, TOKENIZER.vocab_size)
    params = sharpen(model.init(jax.random.key(0)))
    assert requests.duplicate_of_Q.tolist() == list(range(len(requests.item_Q)))  # no two options are equal
    packed = RowScorer(model, mesh(4), blocks, len(requests.item_Q), tokens_per_batch=150)(params)
    single = RowScorer(model, mesh(1), one_text_a_row(sets), len(requests.item_Q))(params)
    np.testing.assert_allclose(packed.nats_Q, single.nats_Q, rtol=2e-5)  # rounding errors, which average out over a set
    sums = [np.bincount(requests.dataset_Q, weights=scores.nats_Q) for scores in (packed, single)]
    np.testing.assert_allclose(*sums, rtol=1e-6)
    np.testing.assert_array_equal(packed.greedy_Q, single.greedy_Q)


@pytest.mark.slow
def test_parameters_split_over_devices_score_as_whole_ones():
    suite = SuiteConfig(context_length=64, overlap=32)
    items = cloze_items(ClozeTask("b", num_items=6, context_bytes=30, continuation_bytes=10), CORPORA["b"].texts)
    validation = tokenise_documents(ValidationSet("b", max_documents=4), CORPORA["b"].texts, TOKENIZER, suite)
    sets = [validation.requests, tokenise_items("cloze", items, TOKENIZER, suite).requests]
    requests, blocks = pack_sets(sets, context_length=64)
    model = build_model(LlamaConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32), TOKENIZER.vocab_size)
    params = sharpen(model.init(jax.random.key(0)))
    split, whole = (
        RowScorer(model, mesh(4), blocks, len(requests.item_Q), tokens_per_batch=150, fsdp=fsdp)(params)
        for fsdp in (True, False)
    )
    np.testing.assert_allclose(split.nats_Q, whole.nats_Q, rtol=2e-5)
    np.testing.assert_array_equal(split.greedy_Q, whole.greedy_Q)


def test_order_of_sets_does_not_matter(config, params, scores, tmp_path):
    turned = dataclasses.replace(config, validation=config.validation[::-1])
    suite = prepare_suite(turned, TOKENIZER, CORPORA, epath.Path(tmp_path))
    reversed_scores = Evaluator(MODEL, mesh(2), suite).score(params)
    assert list(reversed_scores) == ["b", "a", "b_cloze", "task", "last_word"]
    assert_same({name: reversed_scores[name] for name in scores}, scores)


def test_a_set_alone_scores_the_same_so_padding_and_company_do_not_matter(config, params, scores, tmp_path):
    for name in ("a", "b"):
        alone = SuiteConfig(validation=(ValidationSet(name),), context_length=64, overlap=32)
        suite = prepare_suite(alone, TOKENIZER, CORPORA, epath.Path(tmp_path))
        assert_same(Evaluator(MODEL, mesh(1), suite).score(params), {name: scores[name]})


def test_order_of_rows_does_not_matter(suite, params, scores):
    rng = np.random.Generator(np.random.PCG64(0))
    shuffled = []
    for block in suite.blocks:
        order = rng.permutation(len(block.ids_BT))
        new_place = np.argsort(order)
        row_S, position_S = np.divmod(block.source_S, block.row_length)
        slots = rng.permutation(len(row_S))
        shuffled.append(
            dataclasses.replace(
                block,
                ids_BT=block.ids_BT[order],
                visible_until_BT=block.visible_until_BT[order],
                length_B=block.length_B[order],
                source_S=(new_place[row_S] * block.row_length + position_S)[slots],
                target_S=block.target_S[slots],
                request_S=block.request_S[slots],
            )
        )
    suite = dataclasses.replace(suite, blocks=tuple(shuffled))
    assert_same(Evaluator(MODEL, mesh(2), suite, tokens_per_batch=300).score(params), scores)


def test_one_program_for_all_sets_checkpoints_and_runs(suite):
    score_rows.clear_cache()
    for seed in range(2):  # two runs of one model shape, three checkpoints each
        evaluator = Evaluator(MemoryModel(TOKENIZER.vocab_size), mesh(2), suite)
        for step in range(3):
            params = MODEL.init(jax.random.key(10 * seed + step))
            evaluator.score(params)
            evaluator.score(jax.device_get(params))
    assert score_rows._cache_size() == 1
    assert {block.has_branches for block in suite.blocks} == {True, False}


def test_other_kernels_give_way_to_the_one_that_reads_masks(suite, params, scores):
    splash = dataclasses.replace(MODEL, attention="splash")
    assert_same(Evaluator(splash, mesh(1), suite).score(params), scores, rtol=0)


def test_non_finite_parameters_show_in_the_scores_of_the_sets_that_meet_them(suite, params):
    poisoned = params | {"table": params["table"].at[ord("q")].set(np.nan)}
    scores = Evaluator(MODEL, mesh(1), suite).score(poisoned)
    assert all(math.isfinite(score.nats_per_token) for score in scores.values())
    poisoned = params | {"table": params["table"].at[ord("e")].set(np.nan)}
    scores = Evaluator(MODEL, mesh(1), suite).score(poisoned)
    assert math.isnan(scores["a"].nats_per_token)
    assert math.isnan(scores["task"].accuracy)


def test_a_uniform_model_costs_log_v(suite, params):
    flat = jax.tree.map(np.zeros_like, params)
    for score in Evaluator(MODEL, mesh(1), suite).score(flat).values():
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
    # With equal sizes it is the standard error of a mean.
    ratio, error = ratio_of_sums(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
    assert (ratio, error) == (2.0, pytest.approx(np.std([1, 3], ddof=1) / math.sqrt(2)))


def test_task_numbers_by_hand():
    requests = Requests(
        dataset_Q=np.zeros(5, np.int32),
        item_Q=np.array([0, 0, 1, 1, 1]),
        option_Q=np.array([0, 1, 0, 1, 2]),
        gold_Q=np.array([True, False, False, False, True]),
        tokens_Q=np.array([2, 1, 1, 1, 4]),
        bytes_Q=np.array([4, 4, 2, 3, 12]),
        chars_Q=np.array([3, 10, 2, 2, 4]),
        duplicate_of_Q=np.arange(5),
    )
    score = score_set("task", requests, np.array([1.0, 2.0, 3.0, 4.0, 6.0]), np.zeros(5, bool))
    assert (score.accuracy, score.accuracy_per_byte, score.accuracy_per_char) == (0.5, 1.0, 0.0)
    assert score.nats_sum == 7.0
    assert score.nats_per_token == pytest.approx(7 / 6)
    assert score.bits_per_byte == pytest.approx(7 / 16 / math.log(2))
    assert score.accuracy_standard_error == pytest.approx(np.std([1, 0], ddof=1) / math.sqrt(2))
    assert (score.accuracy_per_byte_standard_error, score.accuracy_per_char_standard_error) == (0.0, 0.0)
    mean = (0.5 + 2.0 + 3.0 + 4.0 + 1.5) / 5
    assert score.nats_per_token_all_options == pytest.approx(mean)
    # The residual of an item is its sum less its number of options times the mean.
    residuals = np.array([2.5 - 2 * mean, 8.5 - 3 * mean])
    spread = math.sqrt(2 * np.square(residuals).sum()) / 5
    assert score.nats_per_token_all_options_standard_error == pytest.approx(spread)
    assert (score.num_tokens, score.num_bytes, score.n) == (6, 16, 2)


def test_the_first_of_equal_options_counts(params):
    """Like in commonsense_qa, an item has the same option twice, and one of the two is the gold option."""
    items = [
        [[3, 4, 5], [3, 4, 5]] if item % 2 else [[6, item], [3, 4, 5], [7, 8, 9, 10], [3, 4, 5]] for item in range(40)
    ]
    sets = [
        [
            Request((Text(np.array([BOS, 20 + item, *option]), 1),), item, k, k == len(options) - 1, 1, 1)
            for item, options in enumerate(items)
            for k, option in enumerate(options)
        ]
    ]
    requests, blocks = pack_sets(sets, context_length=24)
    scores = RowScorer(
        MODEL, mesh(2), blocks, len(requests.item_Q), tokens_per_batch=50, duplicate_of_Q=requests.duplicate_of_Q
    )(params)
    slow = [slow_nats(params, request.texts[0].ids)[1:].sum() for request in sets[0]]
    np.testing.assert_allclose(scores.nats_Q, slow, rtol=2e-6)
    for item in range(40):
        nats = scores.nats_Q[requests.item_Q == item]
        assert nats[-1] == nats[-3 if len(nats) == 4 else -2]  # equal bit for bit
    assert score_set("task", requests, *scores).accuracy == 0.0


def test_a_request_without_rows_has_no_score(params):
    sets = [[Request((Text(np.array([BOS, 5, k]), 1),), k, 0, True, 1, 1) for k in range(3)]]
    _, blocks = pack_sets(sets, context_length=8)
    scores = RowScorer(MODEL, mesh(1), blocks, 4)(params)
    assert np.isnan(scores.nats_Q).tolist() == [False, False, False, True]
    assert not scores.greedy_Q[3]


@pytest.mark.parametrize("names", [{"b"}, {"task", "a"}, {"b_cloze", "last_word"}], ids=sorted)
def test_some_sets_score_as_they_do_among_all(suite, params, scores, names):
    evaluator = Evaluator(MODEL, mesh(2), suite, names=frozenset(names))
    assert_same(evaluator.score(params), {name: score for name, score in scores.items() if name in names})
    placed = sum(block.ids_GBT.size for block in evaluator._score_rows._placed)
    assert placed < sum(block.ids_GBT.size for block in Evaluator(MODEL, mesh(2), suite)._score_rows._placed)


@pytest.mark.parametrize("names", [{"c"}, {"a", "c"}, set()])
def test_sets_that_are_not_there_cannot_be_scored(suite, names):
    with pytest.raises(ValueError, match="the suite has"):
        Evaluator(MODEL, mesh(1), suite, names=frozenset(names))


def test_the_first_of_equally_cheap_options_is_the_answer():
    rng = np.random.Generator(np.random.PCG64(0))
    num_requests = 4_000
    requests = Requests(
        dataset_Q=np.zeros(num_requests, np.int32),
        item_Q=np.arange(num_requests, dtype=np.int32) // 4,
        option_Q=np.arange(num_requests, dtype=np.int32) % 4,
        gold_Q=np.arange(num_requests) % 4 == 1,
        tokens_Q=rng.integers(1, 9, num_requests),
        bytes_Q=rng.integers(1, 9, num_requests),
        chars_Q=rng.integers(1, 9, num_requests),
        duplicate_of_Q=np.arange(num_requests, dtype=np.int32),
    )
    nats_Q, greedy_Q = rng.integers(1, 9, num_requests).astype(float), np.zeros(num_requests, bool)  # many are equal
    score = score_set("task", requests, nats_Q, greedy_Q)
    cheapest = nats_Q.reshape(-1, 4).argmin(axis=1)  # numpy also takes the first of equal numbers
    assert score.accuracy == np.mean(cheapest == 1)
    assert score.nats_per_token_all_options == pytest.approx(np.mean(nats_Q / requests.tokens_Q), rel=1e-12)


def test_every_number_of_a_score_is_a_column_of_the_table():
    assert {f.name for f in dataclasses.fields(SetScore)} <= set(COLUMNS)
