"""Every command on a page is run here, is run by another test, or is marked as one that needs a cluster.

`test_documented_commands.py` parses all of them. The mark is a line above the command: `grep -rn "Needs a cluster"`.
"""

import ast
import importlib
import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from lossline_jax.cli.main import main
from lossline_jax.cli.verbs import VERBS
from lossline_jax.config.data import FilesCorpus
from lossline_jax.data.corpora.read import read_documents
from tests.support.documented import CLUSTER_MARK, FENCED, PAGES, documented_commands
from tests.support.paths import ROOT, TESTS
from tests.support.shared_data import shared_path

COMMANDS = [command for command in documented_commands() if command.whole and command.where.endswith(".md")]
# These need minutes, a network, a model or the TPU compiler. The test of the verb runs it on something small.
RUN_ELSEWHERE = {
    "run": "end_to_end/test_study.py",
    "prepare": "end_to_end/test_study.py",
    "train": "train/test_profiler.py",
    "evaluate": "weights/test_exchange.py",
    "import-weights": "weights/test_exchange.py",
    "export-weights": "weights/test_exchange.py",
    "check": "plan/test_compiler.py",
}
ON_PUBLISHED_TABLES = {
    "fig1_points.csv": "fit/test_compare.py",
    "sweep.csv": "end_to_end/test_docs_fitting.py",
    "losses.parquet": "end_to_end/test_results.py",
}
FAST = ("laws", "plan", "status", "show", "resubmit")
NEEDS_A_CLUSTER = re.compile(
    r"^(?!.*--dry-run).*(?:launch/(?:skypilot|slurm|tpu_vm|xpk)\.py|gs://|\$M\b)|gcloud |docker |\bsky |\$M\b"
)
OF_OTHER_PEOPLE = {"lm_eval"}  # modules that a page imports, and that are in no environment of the fast tests


def verb_of(words: tuple[str, ...]) -> str:
    return " ".join(words[1:3]) if words[1] == "table" else words[1]


def where_it_runs(command) -> str:
    """Return "here", or the test file that runs such a command."""
    table = command.words[3] if command.words[1] == "table" else ""
    return ON_PUBLISHED_TABLES.get(table) or RUN_ELSEWHERE.get(verb_of(command.words), "here")


OF_LOSSLINE = [
    command
    for command in COMMANDS
    if command.words[0] == "lossline-jax"
    and not command.needs_cluster
    and not {"--help", "--watch"} & set(command.words)
]
HERE = [command for command in OF_LOSSLINE if where_it_runs(command) == "here"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder that has everything the pages name: a checkout, a finished study, and tables of losses."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("experiments", "examples", "results"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "experiments/llms_on_the_line_small.py", folder / "STUDY.py")
    for study in ("studies/quickstart", "studies/own_data", "ROOT/NAME", "STUDY"):
        shutil.copytree(TESTS / "golden/old_study", folder / study)
    (folder / "texts").mkdir()
    shutil.copy(
        TESTS / "golden/old_study/prepared/corpora/docs-c8bed8556d/train.jsonl", folder / "texts/speeches.jsonl"
    )
    table = planted_table()
    for name in ("t.csv", "table.csv", "losses.csv"):
        table.to_csv(folder / name, index=False)
    losses = ["wiki_loss", "code_loss"]
    checkpoints = table.assign(run=table["run_id"], step=table.groupby("run_id").cumcount())
    checkpoints.melt(["run", "step", "data", "size"], losses, var_name="metric").to_csv(
        folder / "long.csv", index=False
    )
    exported = {"run_id": "Name"} | {name: f"eval/{name}" for name in losses}
    table[[*exported, "data", "size"]].rename(columns=exported).to_csv(folder / "wandb.csv", index=False)
    return folder


def planted_table() -> pd.DataFrame:
    """Return losses by a Chinchilla law, with the columns that pages name: two sets of data, four sizes, two seeds."""
    noise = np.random.default_rng(0)
    rows = []
    for data, size, seed in itertools.product(("wiki", "code"), (1e6, 3e6, 1e7, 3e7), (0, 1)):
        for tokens in (2e7, 5e7, 1e8, 2e8, 5e8):
            loss = 1.7 + 0.1 * (data == "code") + 400 / size**0.34 + 410 / tokens**0.28 + noise.normal(0, 0.003)
            row = {"run_id": f"{data}-{size:g}-{seed}", "data": data, "size": f"{size:g}", "seed": seed}
            row |= {"params": size, "tokens": tokens, "loss": loss, "wiki": loss, "wiki_loss": loss}
            other = 0.9 * loss + 0.4 + noise.normal(0, 0.003)
            rows.append(row | dict.fromkeys(("code_loss", "task_loss", "techdoc_cloze", "eval/code"), other))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=str(command), marks=[] if verb_of(command.words) in FAST else pytest.mark.slow)
        for command in HERE
    ],
)
def test_a_command_runs(command, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path if command.words[1] == "import-losses" else folder)  # it writes a table
    words = [
        str(shared_path("reference/loss_to_loss/brandfonbrener_sweep.csv")) if word == "sweep.csv" else word
        for word in command.words[1:]
    ]
    if "ROOT/quickstart" in words:
        main(["plan", "experiments/quickstart.py", "--root", "ROOT", "--manifest"])
        capsys.readouterr()
    main(words)
    assert "".join(capsys.readouterr()).strip()


@pytest.mark.parametrize("command", OF_LOSSLINE, ids=str)
def test_a_command_that_is_not_run_here_has_a_test_that_runs_its_verb(command):
    file = where_it_runs(command)
    if file != "here":
        word = command.words[3] if command.words[1] == "table" else verb_of(command.words)
        assert word.split(".")[0] in (TESTS / file).read_text()


def test_commands_of_every_cheap_verb_run_here():
    assert {verb_of(command.words) for command in HERE} >= VERBS.keys() - RUN_ELSEWHERE.keys()


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_marked_if_and_only_if_it_needs_a_cluster(command):
    needs = bool(NEEDS_A_CLUSTER.search(" ".join(command.words)))
    assert command.needs_cluster == needs, f"put a line {CLUSTER_MARK!r} above it, or take that line away"


PYTHON_BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, (language, block) in enumerate(re.findall(FENCED, page.read_text()))
    if language == "python"
]


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_on_a_page_compiles_and_names_what_exists(block):
    tree = ast.parse(block)
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    for module in imported & OF_OTHER_PEOPLE:
        pytest.importorskip(module)  # the module of ours that the block uses needs it too
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lossline_jax":
            assert all(hasattr(importlib.import_module(node.module), name.name) for name in node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            roots = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            for root in {root.split(".")[0] for root in roots}:
                importlib.import_module(root)
    modules = {"ll": importlib.import_module("lossline_jax"), "fit": importlib.import_module("lossline_jax.fit")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node)).split(".")[0] in modules:
            thing = modules[name.split(".")[0]]
            for part in name.split(".")[1:]:
                assert hasattr(thing, part), name
                thing = getattr(thing, part)


def test_the_code_of_the_tutorial_makes_a_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), flags=re.DOTALL)
    exec(block, {})
    documents = list(read_documents(FilesCorpus("mine", globs=("texts/*.jsonl",))))
    assert len(documents) > 10_000
    assert all(len(document.text) > 200 for document in documents)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lists_and_tables_of_a_page_look_the_same_on_the_site(page):
    """A code host takes them without an empty line above, and nested by two spaces. The site's Markdown does not."""
    lines = re.sub(FENCED, "", page.read_text()).splitlines()
    begins = re.compile(r"(?:[-*]|1\.) |\|")
    for above, line in itertools.pairwise(lines):
        in_list = re.match(r"\s*(?:[-*]|\d+\.) |\s+\S|\||#|$", above)
        assert not (begins.match(line) and not in_list), f"put an empty line above: {line}"
        assert not re.match(r" {1,3}(?:[-*]|\d+\.) ", line), f"indent it by four spaces: {line}"


def test_the_gallery_has_every_figure_of_the_results():
    gallery = (ROOT / "docs/gallery.md").read_text()
    for figure in ROOT.glob("results/**/*.png"):
        assert f"(../{figure.relative_to(ROOT)})" in gallery
