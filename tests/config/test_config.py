"""Configs keep every value in JSON, refuse wrong fields, and have an id that depends on their values."""

import dataclasses
import itertools

import pytest

from lossline_jax.config.data import BuiltinCorpus, ByteTokenizer, DataConfig, TrainedTokenizer
from lossline_jax.config.evaluation import ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.model import LlamaConfig, Mamba2Config
from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.errors import LosslineError


def run(**changes):
    base = RunConfig(
        model=LlamaConfig(d_model=64, num_layers=2, num_heads=4),
        data=DataConfig(mixture=(("wiki", 1.0),)),
        tokenizer=TrainedTokenizer("wiki", 512),
        context_length=64,
        batch_size=8,
        tokens=64 * 8 * 100,
    )
    return dataclasses.replace(base, **changes)


def study():
    return StudyConfig(
        name="tiny",
        corpora=(BuiltinCorpus("wiki"), BuiltinCorpus("code", max_bytes=1000)),
        runs=(run(), run(model=Mamba2Config(d_model=64, num_layers=2), tokenizer=ByteTokenizer())),
        suite=SuiteConfig(validation=(ValidationSet("wiki"),), cloze=(ClozeTask("wiki"),)),
        x="wiki",
        y="wiki_cloze",
    )


def test_json_round_trip_keeps_every_value_and_type():
    assert from_json(StudyConfig, to_json(study())) == study()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contxt_length": 3}, "no field 'contxt_length'; did you mean 'context_length'"),
        ({"seed": "one"}, "config.seed: expected int"),
        ({"seed": True}, "config.seed: expected int"),
        ({"model": {"type": "LamaConfig"}}, "did you mean 'LlamaConfig'"),
        ({"optim": {"type": "OptimConfig", "name": "sgd"}}, "config.optim.name: 'sgd' is not one of"),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(LosslineError, match=message):
        from_json(RunConfig, to_json(run()) | change)


def test_a_missing_field_is_named():
    value = to_json(run())
    del value["tokens"]
    with pytest.raises(LosslineError, match=r"needs \['tokens'\]"):
        from_json(RunConfig, value)


def test_identity_depends_on_everything_that_changes_the_result():
    variants = [
        run(),
        run(seed=1),
        run(batch_size=4),
        run(num_checkpoints=5),
        run(data=DataConfig((("wiki", 1.0),), unique_tokens=1000)),
        run(model=LlamaConfig(d_model=64, num_layers=2, num_heads=4, tied_embeddings=True)),
    ]
    assert len({variant.run_id for variant in variants}) == len(variants)
    assert run().run_id == run().run_id
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})


def test_checkpoints_come_at_the_same_tokens_whatever_the_step():
    long = run(context_length=128, batch_size=8)
    for first, second in zip(run().checkpoint_steps, long.checkpoint_steps, strict=True):
        difference = abs(first * run().tokens_per_step - second * long.tokens_per_step)
        assert difference <= long.tokens_per_step
    assert run().checkpoint_steps[-1] == run().num_steps
    assert run(tokens=64 * 8 * 3, num_checkpoints=10).checkpoint_steps == (1, 2, 3)


def test_the_last_checkpoint_is_the_last_step_and_no_other_stands_beside_it():
    ragged = run(tokens=64 * 8 * 1000 + 1, num_checkpoints=4)
    assert ragged.num_steps == 1001
    assert ragged.checkpoint_steps == (250, 500, 750, 1001)


def test_log_spaced_checkpoints_grow_by_one_ratio():
    steps = run(tokens=64 * 8 * 3000, num_checkpoints=6, checkpoint_spacing="log").checkpoint_steps
    assert (steps[0], steps[-1]) == (100, 3000)
    ratios = [later / earlier for earlier, later in itertools.pairwise(steps)]
    assert ratios == pytest.approx([30**0.2] * 5, rel=0.01)


def test_factor_labels_tell_interventions_apart():
    labels = run(data=DataConfig((("wiki", 3.0), ("code", 1.0)))).factors
    assert labels["data"] == "wiki75+code25"
    assert labels["tokenizer"] == "bpe512-wiki"
    assert labels["optimiser"] == "adamw-cosine-lr0.003-wd0.033"


def test_a_renamed_field_is_read_under_its_former_name_too():
    name = dataclasses.field(metadata={"formerly": "loss"})
    fit = dataclasses.make_dataclass("Fit", [("objective_name", str, name)], frozen=True)
    assert from_json(fit, {"loss": "Huber"}) == from_json(fit, {"objective_name": "Huber"}) == fit("Huber")
    assert to_json(fit("Huber")) == {"type": "Fit", "objective_name": "Huber"}
