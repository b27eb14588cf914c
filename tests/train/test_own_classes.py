"""An objective, an algorithm and an optimiser of a study's own train as they say, resume, and keep their source."""

import dataclasses
import importlib.util
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossline_jax as ll
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.labels import algorithm_label, objective_label, optimiser_label
from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.config.training import ScheduleConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.errors import LosslineError
from lossline_jax.models.model import build_model
from lossline_jax.pipeline.experiment import load_study_function
from lossline_jax.train.gradient import make_gradient
from lossline_jax.train.job import TrainingJob
from lossline_jax.train.loop import train_run
from tests.cli.test_main import run_cli
from tests.support.own_classes import Averaging, Doubled, PlainDescent
from tests.support.paths import ROOT
from tests.support.tiny_training import RUN, InterruptingSource, Source, bigram_job

TWO = ExecutionConfig(data_parallel=2, log_every=1)
EXAMPLE = ROOT / "examples" / "label_smoothing.py"


def train(folder, run: RunConfig, source=None):
    """Train in a folder, and return the scored parameters of each checkpoint."""
    scored = {}
    job: TrainingJob = bigram_job(folder, TWO, source or Source(), run)
    train_run(job, show_progress=False, on_checkpoint=lambda step, params: scored.update({step: to_numpy(params)}))
    return scored


def to_numpy(params):
    return jax.tree.map(np.asarray, params)


def logged(folder, name):
    return [json.loads(line)[name] for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_an_own_algorithm_trains_as_it_says_and_resumes_bit_for_bit(tmp_path):
    """The average equals the one that numpy takes of the models of a run without it."""

    run = dataclasses.replace(RUN, algorithm=Averaging(0.5))
    straight = train(tmp_path / "straight", run)
    with pytest.raises(SystemExit):
        train(tmp_path / "stopped", run, InterruptingSource())
    resumed = train(tmp_path / "stopped", run)
    jax.tree.map(np.testing.assert_array_equal, resumed[12], straight[12])
    assert logged(tmp_path / "stopped", "distance") == logged(tmp_path / "straight", "distance")

    plain = train(tmp_path / "plain", dataclasses.replace(RUN, num_checkpoints=12))
    job = bigram_job(tmp_path, TWO, Source(), RUN)
    mean = to_numpy(job.model.init(jax.random.key(RUN.seed)))
    for step in range(1, 13):
        mean = jax.tree.map(lambda old, new: 0.5 * old + 0.5 * new, mean, plain[step])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), straight[12], mean)


def test_own_objective_and_optimiser_take_the_step_of_their_formula(tmp_path):
    """One step of gradient descent on twice the mean loss, with the schedule's first rate."""
    run = dataclasses.replace(
        RUN,
        objective=Doubled(),
        optim=PlainDescent(0.1),
        schedule=ScheduleConfig("cosine", warmup_fraction=0.0),
        num_checkpoints=12,
    )
    scored = train(tmp_path, run)
    model, batch = bigram_job(tmp_path, TWO, Source(), RUN).model, Source().batch(0)

    def mean(params):
        nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT)
        return jnp.sum(nll_BT * batch.weights_BT) / jnp.sum(batch.weights_BT)

    params = model.init(jax.random.key(RUN.seed))
    loss, grads = jax.value_and_grad(mean)(params)
    expected = jax.tree.map(lambda param, grad: param - 0.1 * 2 * grad, params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), scored[1], to_numpy(expected))
    assert logged(tmp_path, "loss_nats_per_token")[0] == pytest.approx(float(loss), rel=1e-5)
    assert logged(tmp_path, "doubled")[0] == pytest.approx(2 * float(loss), rel=1e-5)


def load_class(path, name):
    """Execute a file as an experiment is executed, and return a class of it."""
    spec = importlib.util.spec_from_file_location("experiment_own", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["experiment_own"] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_a_run_is_not_continued_with_another_source(tmp_path):
    file = tmp_path / "own.py"
    shutil.copy(ROOT / "tests" / "support" / "own_classes.py", file)
    with pytest.raises(SystemExit):
        train(tmp_path / "run", dataclasses.replace(RUN, objective=load_class(file, "Doubled")()), InterruptingSource())
    file.write_text(file.read_text() + "# another source\n")
    changed = dataclasses.replace(RUN, objective=load_class(file, "Doubled")())
    assert changed.run_id == dataclasses.replace(RUN, objective=Doubled()).run_id
    with pytest.raises(LosslineError, match=r"begun with another source of Doubled \(SHA-256 .*restore the file"):
        train(tmp_path / "run", changed)


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_label_smoothing_of_the_docs_is_that_of_optax(epsilon):
    smoothing = load_class(EXAMPLE, "LabelSmoothing")(epsilon)
    model = build_model(RUN.model, 32)
    params = model.init(jax.random.key(0))
    rows = Source().batch(0)
    batch = Batch(rows.tokens_BT, rows.targets_BT, rows.weights_BT)
    execution = ExecutionConfig(data_parallel=1)
    mesh = make_mesh(execution)
    gradient = make_gradient(smoothing.loss(model), model.axes(), num_micro=1, execution=execution, mesh=mesh)
    with jax.set_mesh(mesh):
        sums, grads = jax.jit(gradient)(params, batch, None)

    def expected(params):
        labels_BTV = optax.smooth_labels(jax.nn.one_hot(batch.targets_BT, 32), epsilon)
        losses_BT = optax.softmax_cross_entropy(model.logits(params, batch.tokens_BT), labels_BTV)
        return jnp.sum(losses_BT * batch.weights_BT)

    value, expected_grads = jax.value_and_grad(expected)(params)
    assert float(sums.extra["smoothed"]) == pytest.approx(float(value), rel=1e-5)
    nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT)
    assert float(sums.nats) == pytest.approx(float(jnp.sum(nll_BT * batch.weights_BT)), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), grads, expected_grads)


def test_a_folder_is_data_and_the_file_is_executed_where_it_is_named_alone(tmp_path, capsys):
    file = tmp_path / "smoothing.py"
    shutil.copy(EXAMPLE, file)
    run_cli(capsys, "plan", str(file), "--manifest", "--root", str(tmp_path))
    from_file = load_study_function(str(file))()
    folder = str(tmp_path / "label_smoothing")

    closed = ll.Study.open(folder).config
    assert [run.run_id for run in closed.runs] == [run.run_id for run in from_file.runs]
    assert [run.factors for run in closed.runs] == [run.factors for run in from_file.runs]
    code, out, err = run_cli(capsys, "status", folder)
    assert code == 0, err
    assert "not loaded: LabelSmoothing of smoothing.py; its runs can be shown and scored" in err
    for words in (["run", folder], ["train", folder], ["run", "--manifest", folder, "--index", "3"]):
        code, out, err = run_cli(capsys, *words)
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("lossline: --experiment: LabelSmoothing is a class of smoothing.py")

    opened = ll.Study.open(folder, experiment=str(file)).config
    assert to_json(opened) == to_json(ll.Study.from_file(str(file)).config)
    file.write_text(file.read_text() + "# another source\n")
    code, out, err = run_cli(capsys, "train", folder, "--experiment", str(file))
    assert (code, out) == (2, "")
    assert "LabelSmoothing of smoothing.py has changed since the study was begun" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nothing.py", "nothing.py: no such experiment file"),
        ("experiments/quickstart.py", "defines and imports no objective, algorithm or optimiser of its own"),
    ],
)
def test_an_experiment_without_the_class_is_refused(tmp_path, capsys, file, message):
    run_cli(capsys, "plan", str(EXAMPLE), "--manifest", "--root", str(tmp_path))
    path = str(ROOT / file)
    code, _, err = run_cli(capsys, "train", str(tmp_path / "label_smoothing"), "--experiment", path)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


EXPERIMENT = """
import dataclasses
from dataclasses import dataclass
import jax.numpy as jnp
import lossline_jax as ll
from lossline_jax.train.gradient import LossSums
from tests.support.tiny_study import study as tiny


CODE


def study():
    config = tiny()
    return dataclasses.replace(config, name="own", runs=(config.base, *(dataclasses.replace(config.base, **change) for change in CHANGES)))
"""  # noqa: E501
NO_METHOD = "@dataclass(frozen=True)\nclass Mine(ll.CustomObjective):\n    factor: float = 1.0"
NO_DECORATOR = """class Mine(ll.CustomObjective):
    factor: float = 1.0
    def loss(self, model):
        return None"""
WITH_LOSS = """
    def loss(self, model):
        return None"""
FIELD = "@dataclass(frozen=True)\nclass Mine(ll.CustomObjective):\n    factor: object = 1.0"
CHANGING = (
    FIELD + "\n    def __post_init__(self):\n        object.__setattr__(self, 'factor', 2 * self.factor)" + WITH_LOSS
)
ARRAY = FIELD + WITH_LOSS
NESTED = """class Out:
    @dataclass(frozen=True)
    class Mine(ll.CustomObjective):
        def loss(self, model):
            return None"""
TAKEN = """@dataclass(frozen=True)
class DataParallel(ll.CustomAlgorithm):
    def algorithm(self, gradient, rule):
        return None"""
LOSS = """@dataclass(frozen=True)
class Mine(ll.CustomObjective):
    def loss(self, model):
        def loss(params, batch, randomness):
            nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT)
            return RETURNED
        return loss"""


def own_study(folder, code, changes):
    path = folder / "own.py"
    path.write_text(EXPERIMENT.replace("CODE", code).replace("CHANGES", changes))
    return str(path)


@pytest.mark.parametrize(
    ("code", "changes", "message"),
    [
        (NO_METHOD, "[{'objective': Mine()}]", "own.py: Mine: has no method 'loss', which CustomObjective asks for"),
        (NO_DECORATOR, "[{'objective': Mine()}]", "own.py: Mine: is no dataclass; write @dataclass(frozen=True)"),
        (NESTED, "[{'objective': Out.Mine()}]", "own.py: Mine: stands inside another class or function"),
        (CHANGING, "[{'objective': Mine(2.0)}]", "own.py: Mine: is Mine(factor=4.0) and would be read back as"),
        (ARRAY, "[{'objective': Mine(jnp.ones(2))}]", "own.py: Mine: its field factor is ArrayImpl; give a number"),
        ("", "[{'objective': ll.CustomObjective()}]", "CustomObjective: is the name of a class of lossline"),
        (TAKEN, "[{'algorithm': DataParallel()}]", "own.py: DataParallel: is the name of a class of lossline"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_at_plan(tmp_path, capsys, code, changes, message):
    exit_code, out, err = run_cli(capsys, "plan", own_study(tmp_path, code, changes))
    assert (exit_code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_two_classes_of_one_name_are_refused(tmp_path, capsys):
    code = LOSS.replace("RETURNED", "jnp.sum(nll_BT), LossSums(jnp.sum(nll_BT), {})")
    second = "Other = Mine\n" + code
    changes = "[{'objective': Other()}, {'objective': Mine(), 'seed': 1}]"
    exit_code, _, err = run_cli(capsys, "plan", own_study(tmp_path, f"{code}\n\n\n{second}", changes))
    assert exit_code == 2
    assert "Mine: two classes have this name, in own.py and in own.py; rename one" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("jnp.sum(nll_BT)", "own.py: TypeError"),
        ("nll_BT, LossSums(jnp.sum(nll_BT), {})", "own.py: TypeError: Gradient only defined for scalar-output"),
        ("jnp.sum(nll_BT), LossSums(jnp.sum(nll_BT), {'mfu': jnp.sum(nll_BT)})", "own.py: 'mfu' is a name of the log"),
        ("jnp.sum(nll_BT), LossSums(jnp.sum(nll_BT), {'z': nll_BT})", "own.py: 'z' has the shape ("),
        ("nll_BT.no_such_method(), None", "own.py:15: AttributeError"),
    ],
)
def test_an_error_of_own_code_is_named_by_its_line_before_any_run_begins(tmp_path, capsys, returned, reason):
    path = own_study(tmp_path, LOSS.replace("RETURNED", returned), "[{'objective': Mine()}]")
    run_cli(capsys, "prepare", path, "--root", str(tmp_path))
    exit_code, _, err = run_cli(capsys, "train", path, "--root", str(tmp_path))
    assert exit_code == 2
    last = err.splitlines()[-1]
    assert reason in last, err
    assert last.startswith("lossline: run llama-d32-L2-wiki")
    assert "Traceback" not in err
    assert not list((tmp_path / "own" / "runs").glob("*/claim.json"))


def test_gradients_of_an_own_algorithm_count_in_the_flops_with_and_without_its_code(tmp_path, capsys):
    code = """@dataclass(frozen=True)
class Twice(ll.CustomAlgorithm):
    gradients_per_step = 2
    def algorithm(self, gradient, rule):
        return None"""
    path = own_study(tmp_path, code, "[{'algorithm': Twice()}]")
    run_cli(capsys, "plan", path, "--manifest", "--root", str(tmp_path))
    for study in (ll.Study.from_file(path), ll.Study.open(str(tmp_path / "own"))):
        base, twice = study.plan().runs
        assert twice.flops == 2 * base.flops


def test_a_wrong_experiment_file_is_named(tmp_path, capsys):
    run_cli(capsys, "plan", str(EXAMPLE), "--manifest", "--root", str(tmp_path))
    other = own_study(tmp_path, LOSS, "[{'objective': Mine()}]")
    code, _, err = run_cli(capsys, "train", str(tmp_path / "label_smoothing"), "--experiment", other)
    assert code == 2
    assert err.endswith("own.py: defines no LabelSmoothing; name the file that defines or imports it\n")


def test_labels_of_own_classes_have_their_fields():
    assert objective_label(Doubled(0.5)) == "Doubled-factor=0.5"
    assert algorithm_label(Averaging(0.25)) == "Averaging-decay=0.25"
    label = optimiser_label(PlainDescent(0.1), ScheduleConfig("wsd"))
    assert label == "PlainDescent-learning_rate=0.1-wsd"
