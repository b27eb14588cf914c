"""Runs with equal labels count as repetitions. So labels differ where runs differ, or the study is refused."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossline_jax.config.data import BuiltinCorpus, ByteTokenizer, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.config.labels import architecture_label, optimiser_label, value_text
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.config.training import OptimConfig, ScheduleConfig
from lossline_jax.config.validate import validate_study
from lossline_jax.errors import LosslineError
from tests.support.own_classes import Averaging, Doubled, PlainDescent

FRACTIONS = st.sampled_from([0.0, 0.05, 0.051, 0.1, 0.25, 1e-6, 1e-5])
RATES = st.sampled_from([3e-3, 3.001e-3, 1e-3, 1e-4, 12345e-8])
OPTIMISERS = st.builds(
    OptimConfig,
    name=st.sampled_from(["adamw", "adam_l2"]),
    learning_rate=RATES,
    beta1=st.sampled_from([0.9, 0.95]),
    weight_decay=st.sampled_from([0.033, 0.1]),
    clip_norm=st.sampled_from([0.0, 1.0]),
    sam_radius=st.sampled_from([0.0, 0.05]),
    mup_base_width=st.sampled_from([None, 32, 64]),
)
SCHEDULES = st.builds(
    ScheduleConfig, st.sampled_from(["cosine", "wsd"]), warmup_fraction=FRACTIONS, final_fraction=FRACTIONS
)
MODELS = st.one_of(
    st.builds(
        LlamaConfig,
        d_model=st.sampled_from([32, 64]),
        num_layers=st.just(2),
        num_heads=st.sampled_from([2, 4]),
        norm_eps=st.sampled_from([1e-5, 1e-6]),
        dropout=st.sampled_from([0.1, 0.2]),
        dropout_from=FRACTIONS,
        weight_bits=st.sampled_from([None, 3, 8]),
    ),
    st.builds(Mamba2Config, d_model=st.just(64), num_layers=st.just(2), num_heads=st.just(4)),
)
DATA = st.builds(
    DataConfig,
    mixture=st.sampled_from(
        [
            (("wiki", 1.0),),
            (("wiki", 2.0),),
            (("wiki", 0.7), ("code", 0.3)),
            (("wiki", 0.701), ("code", 0.299)),
            (("code", 0.3), ("wiki", 0.7)),
        ]
    ),
    unique_tokens=st.sampled_from([None, 1000]),
    max_epochs=st.sampled_from([None, 4.0]),
    separate_documents=st.booleans(),
)
RUNS = st.builds(
    RunConfig,
    model=MODELS,
    data=DATA,
    tokenizer=st.sampled_from(
        [ByteTokenizer(), TrainedTokenizer("wiki", 512), TrainedTokenizer("wiki", 512, "unigram")]
    ),
    context_length=st.sampled_from([32, 64]),
    batch_size=st.sampled_from([4, 8]),
    tokens=st.just(10_000),
    optim=st.one_of(OPTIMISERS, st.builds(PlainDescent, RATES)),
    schedule=SCHEDULES,
    objective=st.sampled_from([RunConfig.objective, Doubled(1.0), Doubled(2.0)]),
    algorithm=st.sampled_from([RunConfig.algorithm, Averaging(0.5), Averaging(0.25)]),
)


def validated(*runs):
    return validate_study(
        StudyConfig(
            name="labels",
            corpora=(BuiltinCorpus("wiki"), BuiltinCorpus("code")),
            runs=runs,
            suite=SuiteConfig((ValidationSet("wiki"), ValidationSet("code")), context_length=32, overlap=8),
            x="wiki",
            y="code",
        ),
        "study.py",
    )


@settings(max_examples=300)
@given(RUNS, RUNS)
def test_runs_that_differ_have_other_labels_or_are_refused(first, second):
    if first == second:
        return
    try:
        validated(first, second)
    except LosslineError:
        return
    assert first.factors != second.factors


@settings(max_examples=300)
@given(RUNS, st.data())
def test_a_run_of_another_single_field_is_a_level_of_its_own_or_is_refused_as_hidden(run, data):
    """The two runs are valid each by itself, so the only reason to refuse both is a hidden difference."""
    other = data.draw(RUNS)
    name = data.draw(
        st.sampled_from([f.name for f in dataclasses.fields(RunConfig) if f.name not in ("seed", "tokens")])
    )
    changed = dataclasses.replace(run, **{name: getattr(other, name)})
    try:
        validated(run)
        validated(changed)
    except LosslineError:
        return
    if changed == run:
        return
    if changed.factors == run.factors:
        with pytest.raises(LosslineError, match=f"has the same factors as another run but a different {name}"):
            validated(run, changed)
    else:
        validated(run, changed)


@given(st.tuples(OPTIMISERS, SCHEDULES), st.tuples(OPTIMISERS, SCHEDULES))
def test_optimisers_have_equal_labels_only_if_they_are_equal(first, second):
    assert (optimiser_label(*first) == optimiser_label(*second)) == (first == second)


@given(*[st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5))] * 2)
def test_values_of_own_fields_have_equal_texts_only_if_they_are_equal(first, second):
    same = repr(first) == repr(second) or (isinstance(first, float | int) and first == second)
    if isinstance(first, bool) == isinstance(second, bool):
        assert (value_text(first) == value_text(second)) == same


def test_labels_at_their_defaults_are_those_of_before():
    assert optimiser_label(OptimConfig(), ScheduleConfig()) == "adamw-cosine-lr0.003-wd0.033"
    assert architecture_label(LlamaConfig()) == "llama"
    assert architecture_label(LlamaConfig(dropout=0.1, dropout_from=0.5, weight_bits=4)) == "llama-drop0.1from0.5-w4"
    long = ScheduleConfig(warmup_fraction=5000 / 16021)
    assert optimiser_label(OptimConfig(), long) == "adamw-cosine-lr0.003-wd0.033-warmup_fraction=0.3121"
