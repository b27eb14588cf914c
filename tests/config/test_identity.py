"""A field that is added with `since` changes no id while it has its default, wherever the config is hashed."""

import dataclasses
import json

import pytest
from etils import epath

from lossline_jax.config.data import ByteTokenizer, DataConfig, FilesCorpus, TrainedTokenizer
from lossline_jax.config.evaluation import SuiteConfig, ValidationSet
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import LlamaConfig
from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.batches import BatchSource
from lossline_jax.data.corpora.prepare import prepare_corpus
from lossline_jax.data.token_store import prepare_store
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.suite import prepare_suite
from lossline_jax.pipeline.preflight import claim
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import StudyDir
from tests.support.config_classes import reachable
from tests.support.paths import TESTS

RUN = RunConfig(
    model=LlamaConfig(d_model=64, num_layers=2, num_heads=4),
    data=DataConfig(mixture=(("docs", 1.0),)),
    tokenizer=TrainedTokenizer("docs", 512),
    context_length=64,
    batch_size=8,
    tokens=64 * 8 * 100,
)


def with_later_field(config, value=0):
    """Return the config as an instance of its class with one more field, whose default is 0."""
    later = dataclasses.field(default=0, metadata={"since": 2})
    cls = type(config)
    extended = dataclasses.make_dataclass(cls.__name__, [("later", int, later)], bases=(cls,), frozen=True)
    return extended(**{f.name: getattr(config, f.name) for f in dataclasses.fields(cls)}, later=value)


def test_a_new_field_of_a_config_is_declared_with_since():
    """A field without `since` is part of every id, so a new one would give every existing run another id."""
    first_fields = json.loads((TESTS / "golden/config_fields.json").read_text())
    part_of_no_id = {StudyConfig, ExecutionConfig}
    classes = {kind.__name__: kind for kind in reachable(StudyConfig) - part_of_no_id}
    assert len(classes) > 20
    for name in first_fields.keys() & classes.keys():
        for field in dataclasses.fields(classes[name]):
            message = f'{name}.{field.name}: declare it with field(default=..., metadata={{"since": 2}})'
            assert "since" in field.metadata or field.name in first_fields[name], message
    new_classes = sorted(classes.keys() - first_fields.keys())
    assert not new_classes, f"add the fields of {new_classes} to tests/golden/config_fields.json"


def test_a_later_field_counts_only_where_it_differs_from_its_default():
    assert fingerprint(with_later_field(RUN)) == fingerprint(RUN)
    assert fingerprint(with_later_field(RUN, 1)) != fingerprint(RUN)
    assert with_later_field(RUN).run_id == RUN.run_id


def test_a_later_field_is_left_out_at_every_depth():
    nested = dataclasses.replace(RUN, model=with_later_field(RUN.model))
    assert fingerprint([{"runs": (nested,)}]) == fingerprint([{"runs": (RUN,)}])
    changed = dataclasses.replace(RUN, model=with_later_field(RUN.model, 1))
    assert fingerprint([{"runs": (changed,)}]) != fingerprint([{"runs": (RUN,)}])


def test_a_later_field_is_written_and_read_back():
    written = to_json(with_later_field(RUN.model))
    assert written["later"] == 0
    read = from_json(type(with_later_field(RUN.model)), to_json(RUN.model))  # written before the field existed
    assert read.later == 0
    assert fingerprint(read) == fingerprint(RUN.model)


def test_a_later_field_with_a_made_default_is_compared_with_what_is_made():
    field = dataclasses.field(default_factory=lambda: (1, 2), metadata={"since": 2})
    made = dataclasses.make_dataclass("Made", [("numbers", tuple[int, ...], field)], frozen=True)
    bare = dataclasses.make_dataclass("Made", [], frozen=True)
    assert fingerprint(made()) == fingerprint(bare())
    assert fingerprint(made((1,))) != fingerprint(bare())


def test_a_later_field_needs_a_default():
    field = dataclasses.field(metadata={"since": 2})
    required = dataclasses.make_dataclass("Required", [("later", int, field)], frozen=True)
    with pytest.raises(TypeError, match=r"Required\.later has `since` in its metadata and needs a default"):
        fingerprint(required(1))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("corpus"))
    lines = [json.dumps({"text": f"document {k} has {k % 7} words and some letters " * 5}) for k in range(60)]
    (folder / "docs.jsonl").write_text("\n".join(lines))
    return FilesCorpus("docs", (f"{folder}/docs.jsonl",))


def test_prepared_files_keep_their_names_when_a_field_is_added(corpus, tmp_path):
    folder = epath.Path(tmp_path)
    prepared = prepare_corpus(corpus, folder / "corpora", 0.3)
    assert prepare_corpus(with_later_field(corpus), folder / "corpora", 0.3).folder == prepared.folder

    trained = TrainedTokenizer("docs", 300)
    names = []
    for config in (trained, with_later_field(trained)):
        prepare_tokenizer(config, {"docs": prepared}, folder / "tokenizers")
        names.append(sorted(path.name for path in (folder / "tokenizers").iterdir()))
    assert names[0] == names[1]
    assert len(names[0]) == 1

    tokenizer = prepare_tokenizer(ByteTokenizer(), {}, folder / "tokenizers")
    suite = SuiteConfig(validation=(ValidationSet("docs"),), context_length=32, overlap=0)
    suites = [
        prepare_suite(config, tokenizer, {"docs": prepared}, folder / "suites").fingerprint
        for config in (suite, with_later_field(suite))
    ]
    assert suites[0] == suites[1]

    stores = {"docs": prepare_store(prepared, tokenizer, folder / "tokens")}
    data = DataConfig((("docs", 1.0),))
    batches = [
        BatchSource(stores, tokenizer.vocab_size, config, context_length=16, batch_size=8, seed=0).fingerprint
        for config in (data, with_later_field(data), with_later_field(data, 1))
    ]
    assert batches[0] == batches[1] != batches[2]


def test_a_folder_claimed_before_a_field_existed_is_still_the_runs(tmp_path):
    directory = StudyDir(epath.Path(tmp_path)).run(RUN.run_id)
    directory.root.mkdir(parents=True)
    claim(directory, RUN, "data")
    claimed = read_json(directory.claim_file)
    del claimed["run"]["model"]["rope_scaling"]  # a field with a default stands in for one that came later
    write_json(directory.claim_file, claimed)
    claim(directory, RUN, "data")
    claimed["run"]["model"]["num_layers"] = 3
    write_json(directory.claim_file, claimed)
    with pytest.raises(LosslineError, match="the configuration was changed under an existing run"):
        claim(directory, RUN, "data")
