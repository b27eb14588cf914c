"""The built-in task specs give the prompts of lm-evaluation-harness. A bad spec or row is refused by name."""

import gzip
import json
import tomllib

import pytest

from lossline_jax.config.evaluation import ChoiceTask
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.evaluate.tasks.specs import BUILT_IN, TaskSpec, load_spec, spec_items
from tests.support.paths import ROOT
from tests.support.raw_rows import BY_HAND, raw_row
from tests.support.shared_data import shared_path

HARNESS_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "copa": "super_glue/copa/default.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "mmlu": "mmlu/default/mmlu_high_school_us_history.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "sciq": "sciq/sciq.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
}


@pytest.mark.parametrize("name", HARNESS_FILES)
def test_prompts_are_those_of_the_harness_character_by_character(name):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from tests.support.harness_tasks import harness_requests, harness_task

    spec = load_spec(name)
    task = harness_task(HARNESS_FILES[name], BY_HAND[name])
    reference_requests = harness_requests(task)
    assert len(reference_requests) == len(BY_HAND[name])
    for row, (pairs, gold) in zip(BY_HAND[name], reference_requests, strict=True):
        (item,) = spec_items(spec, row, "here")
        assert list(zip(item.contexts, item.options, strict=True)) == pairs
        assert item.gold == gold
        if spec.scoring == "choice":  # the harness divides by these numbers in acc_norm
            (doc,) = (d for d in task.eval_docs if task.fewshot_context(d, 0) == pairs[0][0])
            assert list(item.num_chars) == [len(choice) for choice in task.doc_to_choice(doc)]


def test_mmlu_has_the_harness_line_about_every_subject():
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from tests.support.harness_tasks import TASKS, load_yaml

    files = sorted((TASKS / "mmlu/default").glob("mmlu_*.yaml"))
    assert len(files) == 57
    for file in files:
        config = load_yaml(file, recursive=False)
        row = BY_HAND["mmlu"][0] | {"subject": config["dataset_name"]}
        assert spec_items(load_spec("mmlu"), row, "here")[0].contexts[0].startswith(config["description"] + "Find x.")


@pytest.mark.parametrize(
    ("name", "file", "num_different"),
    [
        ("arc_easy", "arc_easy.validation", 0),
        ("arc_challenge", "arc_challenge.validation", 0),
        ("piqa", "piqa.validation", 0),
        ("winogrande", "winogrande.validation", 6),  # two spaces after the gap, where the harness has one
        ("openbookqa", "openbookqa.validation", 0),
        ("social_iqa", "social_iqa.validation", 0),
        ("commonsense_qa_cloze", "commonsense_qa.validation", 0),
        ("mmlu_cloze", "mmlu.validation", 0),
        ("boolq", "boolq.validation", 0),
        ("lambada_openai", "lambada_openai.test", 0),
        ("hellaswag", "hellaswag.validation", 14),  # they have brackets, which the harness removes
        ("sciq", "sciq.validation", 113),  # they have no support text, for which the harness writes an empty line
    ],
)
def test_specs_give_the_shared_tasks_again(name, file, num_different):
    path = shared_path(f"data/tasks/{file}.jsonl.gz")
    items = read_items(ChoiceTask(name, str(path)))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        raw_rows = [raw_row(name, json.loads(line)) for line in lines]
    spec = load_spec(name)
    same = [
        raw is not None and spec_items(spec, raw, item.where) == [item]
        for item, raw in zip(items, raw_rows, strict=True)
    ]
    assert len(items) - sum(same) == num_different


def as_published(name, row):
    """Return the same row as it is in the JSONL files of its authors."""
    if name == "hellaswag":
        return row | {"label": int(row["label"])}
    if name == "boolq":
        return {"passage": row["passage"], "question": row["question"], "answer": bool(row["label"])}
    texts, labels = row["choices"]["text"], row["choices"]["label"]
    choices = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    stem = row["question_stem"] if name == "openbookqa" else row["question"]
    return {"question": {"stem": stem, "choices": choices}, "answerKey": row["answerKey"]}


@pytest.mark.parametrize(
    "name", ["arc_easy", "openbookqa", "commonsense_qa", "commonsense_qa_cloze", "hellaswag", "boolq"]
)
def test_the_files_of_the_authors_give_the_same_items(name):
    for row in BY_HAND[name.removesuffix("_cloze")]:
        spec = load_spec(name)
        assert spec_items(spec, as_published(name, row), "here") == spec_items(spec, row, "here")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hellaswag", {"label": ""}, "`gold` of its task spec fails (invalid literal for int() with base 10: '')"),
        ("hellaswag", {"label": "4"}, "`gold` gives 4; it must be an index 0 .. 3"),
        ("piqa", {"label": -1}, "`gold` gives -1"),
        ("piqa", {"sol1": None}, "`options` of its task spec fails ('sol1' is null); fix the row"),
        ("piqa", {"sol1": 3}, "`options` gives [3, 'use a cup ']; it must list at least 2 texts"),
        ("piqa", {"goal": None}, "`context` of its task spec fails ('goal' is null)"),
        ("winogrande", {"option1": None}, "`options` of its task spec fails ('option1' is null)"),
        ("hellaswag", {"ctx_a": None}, "`context` of its task spec fails ('ctx_a' is null)"),
        ("arc_easy", {"choices": {"text": ["so", None], "label": ["1", "2"]}}, "('text[1]' is null)"),
        ("mmlu", {"choices": ["1", None, "3", "4"]}, "`context` of its task spec fails ('choices[1]' is null)"),
        ("hellaswag", {"label": True}, "`gold` of its task spec fails (True is not an integer)"),
        ("hellaswag", {"label": 1.5}, "`gold` of its task spec fails (1.5 is not an integer)"),
        ("mmlu", {"answer": True}, "`gold` gives True; it must be an index"),
        ("mmlu", {"answer": 1.5}, "`gold` gives 1.5; it must be an index"),
        ("boolq", {"label": None, "answer": "yes"}, "`gold` of its task spec fails"),
        ("piqa", {"sol1": " "}, "option 0 is '  ', which holds nothing to score"),
        ("arc_easy", {"answerKey": "5"}, "`gold` gives '5', which is not among its labels ['1', '2']"),
        ("arc_easy", {"choices": {"text": ["so"], "label": ["1"]}}, "must list at least 2 texts"),
        ("winogrande", {"sentence": "No gap."}, "`continuation` of its task spec fails"),
        ("copa", {"question": "why"}, "`context` of its task spec fails"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(name, change, message):
    with pytest.raises(LosslineError) as error:
        spec_items(load_spec(name), BY_HAND[name][0] | change, "rows.jsonl:7")
    assert str(error.value).startswith("rows.jsonl:7: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_true_is_no_label_one():
    spec = TaskSpec("us", "choice", context="?", options='["a", "b"]', gold="right", labels="[1, 2]")
    assert spec_items(spec, {"right": 1}, "here")[0].gold == 0
    for right in (True, 1.0):
        with pytest.raises(LosslineError, match=f"`gold` gives {right}, which is not among its labels"):
            spec_items(spec, {"right": right}, "here")


def test_an_expression_without_a_value_is_no_text():
    spec = TaskSpec("us", "continuation", context='{{ {"a": "b"}.get(q) }}', continuation="x")
    assert spec_items(spec, {"q": "a"}, "here")[0].contexts == ("b",)
    with pytest.raises(LosslineError, match="`context` of its task spec fails"):
        spec_items(spec, {"q": "c"}, "here")


def test_a_field_that_a_row_lacks_is_named():
    # The message has the name from the files of the authors.
    instead = {("boolq", "label"): "answer", ("openbookqa", "question_stem"): "question"}
    for name, rows in BY_HAND.items():
        for lacking in rows[0]:
            row = {field: value for field, value in rows[0].items() if field != lacking}
            with pytest.raises(LosslineError) as error:
                spec_items(load_spec(name), row, "rows:1")
            assert f"'{instead.get((name, lacking), lacking)}' is undefined" in str(error.value)


CHOICE = {"source": "us", "scoring": "choice", "context": "{{ q }}", "options": '["yes", "no"]', "gold": "right"}


def spec_file(folder, **fields):
    file = folder / "mine.toml"
    file.write_text("[mine]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    return f"{file}:mine"


def test_a_spec_of_ones_own(tmp_path):
    rows = [{"q": "Is it?", "right": "no", "split": k % 2} for k in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = spec_file(tmp_path, **CHOICE, labels='["yes", "no"]', delimiter="\n", filter="split == 1")
    items = read_items(ChoiceTask("t", str(tmp_path / "rows.jsonl"), spec=spec))
    assert [item.where.rpartition(":")[2] for item in items] == ["2", "4", "6"]
    assert (items[0].contexts, items[0].options, items[0].gold) == (("Is it?",) * 2, ("\nyes", "\nno"), 1)
    assert items[0].num_chars == (3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scoring": "chance"}, "mine.toml: mine.scoring: 'chance' is not one of"),
        ({"gold": None}, "mine.toml: mine: scoring 'choice' needs ['gold']"),
        ({"continuation": "x"}, "mine.toml: mine: scoring 'choice' does not use ['continuation']"),
        ({"optoins": "x"}, "mine.toml: mine: TaskSpec has no field 'optoins'; did you mean 'options'?"),
        ({"options": '["yes", '}, "mine.toml: mine.options: not Jinja"),
        ({"context": "{{ q | shout }}"}, "mine.toml: mine.context: not Jinja (No filter named 'shout'"),
        ({"source": 3}, "mine.toml: mine.source: expected str, got 3"),
    ],
)
def test_a_bad_spec_is_named_by_file_and_field(tmp_path, change, message):
    fields = {name: value for name, value in (CHOICE | change).items() if value is not None}
    with pytest.raises(LosslineError) as error:
        load_spec(spec_file(tmp_path, **fields))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_file_of_specs_is_one_clear_line(tmp_path):
    (tmp_path / "broken.toml").write_text("[mine\n")
    (tmp_path / "empty.toml").write_text("")
    for name, message in (
        ("broken.toml:mine", "broken.toml: not TOML"),
        ("empty.toml:mine", "empty.toml: has no task spec 'mine'"),
        ("absent.toml:mine", "absent.toml: no such file of task specs"),
    ):
        with pytest.raises(LosslineError) as error:
            load_spec(f"{tmp_path}/{name}")
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(LosslineError, match="no built-in task spec 'arc'; there are .*my_tasks.toml:name"):
        load_spec("arc")


def test_a_template_reaches_nothing_but_its_row():
    for escape in ("q.__class__.__mro__", "''.__class__.__subclasses__()", "cycler.__init__.__globals__"):
        spec = TaskSpec("us", "continuation", context=f"{{{{ {escape} }}}}", continuation="x")
        with pytest.raises(LosslineError, match="fails .*unsafe"):
            spec_items(spec, {"q": "?"}, "here")


PAGE = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")


def test_the_page_tells_how_to_add_a_spec(tmp_path):
    example = PAGE.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "my_tasks.toml").write_text(example)
    spec, built_in = load_spec(f"{tmp_path}/my_tasks.toml:copa_one_space"), load_spec("copa")
    for row in BY_HAND["copa"]:
        (item,), (expected,) = spec_items(spec, row, "here"), spec_items(built_in, row, "here")
        assert [" " + option for option in item.options] == list(expected.options)
        assert (item.contexts, item.gold) == (expected.contexts, expected.gold)


def test_the_table_of_the_page_lists_every_built_in_spec():
    for name, fields in tomllib.loads(BUILT_IN.read_text()).items():
        load_spec(name)
        row = f"| `{name}` | {fields['source']} |"
        assert row in PAGE, f"docs/tasks.md: add a row that begins with {row}"
