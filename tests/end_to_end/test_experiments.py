"""Each experiment of the repository loads, is a matched design, and has the cost that its docstring states."""

import re
import subprocess
import sys

import pytest

from lossline_jax.config.validate import validate_study
from lossline_jax.data.tokenizers.build import planned_vocab_size
from lossline_jax.distributed.chips import PLANNED_CHIPS, chip_hours
from lossline_jax.fit.tables.settings import FACTORS, SAME_SIZE_TOLERANCE
from lossline_jax.formatting import human_count
from lossline_jax.models.accounting import count_parameters, train_flops_per_token
from lossline_jax.pipeline.experiment import load_study_function
from tests.support.paths import ROOT

FOLDER = ROOT / "experiments"
LEVELS = tuple(name for name in FACTORS if name not in ("batch", "sparsity", "start"))  # a batch may follow the context
FILES = sorted(FOLDER.glob("[!_]*.py"))
# experiments that are expensive, so their docstrings must state every cost
COSTLY = ("llms_on_the_line", "llms_on_the_line_small", "loss_to_loss_isoflop")

# from arXiv 2502.12120: architecture, vocabulary, width x layers, total parameters, sequences a step, steps
MODELS_OF_THE_PAPER = """
llama 128256 1024x12 416834560 256 16021
llama 128256 1024x8 365446144 256 16021
llama 128256 1024x4 314057728 256 16021
llama 128256 512x12 172241408 256 16021
llama 128256 512x8 158605824 256 16021
llama 128256 512x4 144970240 256 16021
llama 128256 256x12 75897088 256 16021
llama 128256 256x8 72487168 256 16021
llama 128256 256x4 69077248 256 16021
llama 50257 1024x25 424104960 224 18310
llama 50257 1024x20 359869440 256 16021
llama 50257 1024x17 321328128 256 16021
mamba2 128256 1024x24 420534016 96 42725
mamba2 128256 1024x16 367912448 96 42725
mamba2 128256 1024x8 315290880 96 42725
mamba2 128256 512x24 172524800 120 34180
mamba2 128256 512x16 158794752 120 34180
mamba2 128256 512x8 145064704 120 34180
mamba2 128256 256x24 76831744 144 28484
mamba2 128256 256x16 73110272 144 28484
mamba2 128256 256x8 69388800 144 28484
mamba2 50257 1360x24 421569648 112 36621
mamba2 50257 1360x19 362221888 96 42725
mamba2 50257 1360x15 314743680 96 42725
"""


def load(name, **knobs):
    path = str(FOLDER / f"{name}.py")
    return validate_study(load_study_function(path)(**knobs), path)


def parameters(run):
    return count_parameters(run.model, planned_vocab_size(run.tokenizer))


def planned(study):
    """Return the numbers of runs, tokens and FLOPs."""
    tokens = [run.num_steps * run.tokens_per_step for run in study.runs]
    flops = sum(
        count * train_flops_per_token(run.model, planned_vocab_size(run.tokenizer), run.context_length)
        for count, run in zip(tokens, study.runs, strict=True)
    )
    return len(study.runs), sum(tokens), flops


def row_of(run, size):
    """Return a run as a row of MODELS_OF_THE_PAPER. `size` has the columns after the parameters."""
    shape = f"{run.model.d_model}x{run.model.num_layers}"
    return (run.model.architecture, planned_vocab_size(run.tokenizer), shape, parameters(run).total, *size)


def same_size(run, other_run):
    run_counts, other_counts = parameters(run), parameters(other_run)
    ratios = (run_counts.total / other_counts.total, run_counts.non_embedding / other_counts.non_embedding)
    return any(abs(ratio - 1) <= SAME_SIZE_TOLERANCE for ratio in ratios)


def differing(run, other_run):
    """Return the factors in which two runs differ.

    Sizes of different architectures or tokenizers count as equal within the tolerance.
    """
    names = {name for name in LEVELS if run.factors[name] != other_run.factors[name]}
    if names & {"architecture", "tokenizer"} and same_size(run, other_run):
        names.discard("size")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_loads_and_says_what_it_is(path):
    study = load(path.stem)
    assert study.name == path.stem
    doc = path.read_text().split('"""')[1]
    places = [doc.index(f"\n{heading} ") for heading in ("Question", "Command", "Cost", "Expect")]
    assert places == sorted(places)
    assert f"lossline-jax run experiments/{path.name}" in re.sub(" +", " ", doc)
    assert len({run.run_id for run in study.runs}) == len(study.runs)
    assert study.base.seed == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_level_of_a_factor_has_a_run_that_differs_from_the_base_in_it_alone(path):
    study = load(path.stem)
    for name in LEVELS:
        levels = {run.factors[name] for run in study.runs} - {study.base.factors[name]}
        if name == "size":  # sizes of other architectures or tokenizers are no levels of their own
            levels = {
                run.factors["size"]
                for run in study.runs
                if {run.factors[k] for k in ("architecture", "tokenizer")}
                == {study.base.factors[k] for k in ("architecture", "tokenizer")}
            } - {study.base.factors["size"]}
        for level in levels:
            assert any(
                differing(run, other_run) == {name}
                for run in study.runs
                if run.factors[name] == level
                for other_run in study.runs
            ), f"{name}={level} is confounded with another factor"


@pytest.mark.parametrize("name", ["llms_on_the_line", "llms_on_the_line_small", "llms_on_the_line_cpu"])
def test_the_design_has_every_factor_at_the_base_and_repeats_the_base(name):
    study = load(name)
    alone = [differing(run, study.base) for run in study.runs]
    for factor in set(LEVELS) - {"algorithm", "objective"}:
        assert {factor} in alone, f"no run differs from the base in {factor} alone"
    assert sum(not names for names in alone) >= 3  # seeds of the base


@pytest.mark.parametrize("name", ["llms_on_the_line", "llms_on_the_line_small", "llms_on_the_line_cpu"])
def test_data_tokenizer_and_architecture_are_crossed(name):
    study = load(name)
    crossed = ("data", "tokenizer", "architecture")
    cells = {
        tuple(run.factors[k] for k in crossed)
        for run in study.runs
        if differing(run, study.base) <= set(crossed) and run.factors["architecture"] != "gpt2"
    }
    assert len(cells) == 3 * 2 * 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_stated_cost_is_what_the_plan_computes(path):
    doc = path.read_text().split('"""')[1]
    cost = doc[doc.index("\nCost ") : doc.index("\nExpect ")]
    runs, tokens, flops = planned(load(path.stem))
    stated = {
        "runs": re.search(r"(\d+) runs", cost),
        "tokens": re.search(r"([\d.]+[kMGT]) tokens", cost),
        "flops": re.search(r"([\d.]+e\+\d+) FLOPs", cost),
    }
    hours = {chip: re.search(rf"([\d.,]+) {chip}-hours", cost) for chip in ("v5e", "v5p", "H100")}
    if path.stem in COSTLY:
        assert all(stated.values())
        assert all(hours.values())
    if stated["runs"]:
        assert int(stated["runs"][1]) == runs
    if stated["tokens"]:
        is_per_run = f"{runs} runs of " in cost
        assert stated["tokens"][1] == human_count(load(path.stem).base.tokens if is_per_run else tokens)
    if stated["flops"]:
        assert stated["flops"][1] == human_count(flops)
    for chip in PLANNED_CHIPS:
        stated_hours = hours[next(name for name in hours if name in chip.name)]
        if stated_hours:
            text = stated_hours[1].replace(",", "")
            assert float(text) == pytest.approx(chip_hours(flops, chip), rel=0.02)


def test_the_plan_of_the_paper_has_every_row_of_its_table_on_every_corpus():
    rows = {tuple(line.split()) for line in MODELS_OF_THE_PAPER.split("\n") if line}
    for corpus in ("fineweb_edu", "c4", "pile"):
        runs = [run for run in load("llms_on_the_line", matched_batch=False).runs if run.factors["data"] == corpus]
        planned_rows = {tuple(map(str, row_of(run, (run.batch_size, run.num_steps)))) for run in runs}
        assert rows <= planned_rows
        assert {row[0] for row in planned_rows - rows} == {"gpt2"}


def test_matched_batches_change_nothing_but_batches_and_keep_the_base():
    matched, paper = load("llms_on_the_line"), load("llms_on_the_line", matched_batch=False)
    assert matched.base == paper.base
    assert {run.batch_size for run in matched.runs} == {256}
    assert {run.num_steps for run in matched.runs} == {16_021}
    levels = [
        [{name: run.factors[name] for name in LEVELS if name != "optimiser"} for run in study.runs]
        for study in (matched, paper)
    ]
    assert levels[0] == levels[1]
    for run in (*matched.runs, *paper.runs):
        assert run.schedule.warmup_fraction * run.num_steps == pytest.approx(5000)
        assert run.tokens == run.num_steps * run.tokens_per_step
        assert run.tokens == pytest.approx(8.4e9 * run.context_length / 2048, rel=1e-4)
    assert len(matched.base.checkpoint_steps) == 84


def test_the_grids_of_the_paper_are_whole():
    study = load("llms_on_the_line")
    for architecture in ("llama", "mamba2"):
        runs = [run for run in study.runs if run.factors["architecture"] == architecture]
        assert len(runs) - (2 if architecture == "llama" else 0) == 53  # two seeds of the base
        optimisers = {run.factors["optimiser"] for run in runs}
        assert optimisers == {
            f"{name}-{schedule}-lr{rate}-wd{decay}-warmup_fraction=0.3121"
            for name in ("adamw", "adam_l2")
            for schedule in ("cosine", "wsd")
            for rate in ("0.003", "0.0003")
            for decay in ("0.033", "0.1")
        }
        assert {run.context_length for run in runs} == {1024, 2048, 3072}


def test_the_isoflop_grid_spends_its_budgets_and_has_the_sizes_of_its_authors():
    study = load("loss_to_loss_isoflop")
    budgets = (2e17, 4.37e17, 9.56e17, 2.09e18, 4.57e18, 1e19, 2.2e19, 4.84e19)
    for run in study.runs:
        layers, width = run.model.num_layers, run.model.d_model
        assert width == 64 * layers
        assert parameters(run).total == pytest.approx(
            12 * layers * width**2 + 4 * layers * width + 64001 * width, rel=0.005
        )
        spent = 6 * parameters(run).total * run.tokens
        assert min(abs(spent / budget - 1) for budget in budgets) < 1e-3
    assert len({run.factors["data"] for run in study.runs}) == 6
    fewer = load("loss_to_loss_isoflop", budgets=(2e17,))
    assert {run.run_id for run in fewer.runs} <= {run.run_id for run in study.runs}


@pytest.mark.parametrize("name", ["llms_on_the_line_small", "loss_to_loss_isoflop"])
def test_local_text_takes_the_place_of_public_datasets(name):
    knobs = {"folder": "texts", **({"sets": ("a", "b")} if "isoflop" in name else {"data": ("a",), "held_out": ("b",)})}
    study = load(name, **knobs)
    assert [corpus.globs for corpus in study.corpora] == [("texts/a/*",), ("texts/b/*",)]
    assert {corpus for run in study.runs for corpus, _ in run.data.mixture} == (
        {"a", "b"} if "isoflop" in name else {"a"}
    )


def test_planning_the_largest_needs_no_jax():
    code = (
        "import sys; from lossline_jax.cli.main import main; main(['plan', sys.argv[1]]); "
        "assert not {'jax', 'flax', 'orbax', 'datasets', 'tokenizers'} & set(sys.modules)"
    )
    argv = [sys.executable, "-c", code, str(FOLDER / "llms_on_the_line.py")]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "H100" in out


def test_minutes_of_an_experiment_are_the_same_wherever_they_are_stated():
    root = FOLDER.parent
    minutes = {
        name: re.search(r"(\d+) minutes on two cores", (FOLDER / f"{name}.py").read_text())[1]
        for name in ("quickstart", "llms_on_the_line_cpu")
    }
    readme = (root / "README.md").read_text()
    assert f"experiments/quickstart.py: {minutes['quickstart']} minutes" in readme
    for text in (readme, *((root / path).read_text() for path in ("experiments/README.md", "results/README.md"))):
        assert f"{minutes['llms_on_the_line_cpu']} minutes" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_table_of_experiments_says_what_each_costs(path):
    (row,) = re.findall(rf"^\| \[{path.name}\]\({path.name}\) .*$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    runs, tokens, flops = planned(load(path.stem))
    if "minutes" not in row:
        assert f" {runs} runs, {human_count(tokens)} tokens" in row
    if hours := re.search(r"([\d,]+) H100-hours", row):
        assert float(hours[1].replace(",", "")) == pytest.approx(chip_hours(flops, PLANNED_CHIPS[-1]), rel=0.01)
