"""`import lossline_jax as ll` has the public names and loads no heavy library. Verbs in a notebook return objects."""

import ast
import importlib
import subprocess
import sys
import types

import pytest

import lossline_jax as ll
from lossline_jax import fit
from lossline_jax.fit.laws import LAWS
from lossline_jax.status.runs import RunStatus
from tests.support.paths import ROOT, SUPPORT

TINY = str(SUPPORT / "tiny_study.py")
PACKAGE = ROOT / "lossline_jax"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
OF_FIT = """
    fit_law fit_law_many fit_line fit_compute_law bootstrap translate compose find_crossings
    chinchilla_allocation kaplan_allocation fit_laws LawOptions fit_lines LineOptions compare_lines fit_study pair_runs
    forecast backtest predict_from_few_runs fit_skills optimal_quantities budgets_of intervals_by_budget fit_law_sharing
    LAWS Law Parameter Objective FitResult StudyFits
"""
# Packages that load without jax, and without the libraries that only training and fits need.
WITHOUT_JAX = ("", "config", "storage", "losses", "status", "summary", "plan", "cli")


def modules_without_jax():
    paths = [path for package in WITHOUT_JAX if package for path in sorted((PACKAGE / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    needs_fits = ("summary.comparisons", "summary.fits", "summary.forecasts", "summary.laws", "summary.speedups")
    needs_compiler = "plan.compiler"
    return ["lossline_jax"] + [name for name in names if not name.endswith(needs_fits) and needs_compiler not in name]


def loaded_after(code):
    code = f"import sys; {code}; print(' '.join(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(process.stdout.split())


def test_the_package_alone_loads_no_heavy_package():
    loaded = loaded_after("import lossline_jax")
    assert not loaded & {"jax", "flax", "orbax", "grain", "pandas", "numpy", "matplotlib", "scipy", "tyro"}


def test_configs_files_statuses_plans_and_the_command_need_no_jax():
    names = modules_without_jax()
    assert len(names) > 30
    assert not loaded_after("; ".join(f"import {name}" for name in names)) & {"jax", "flax", "orbax", "grain", "scipy"}


def test_configs_and_show_need_no_jax():
    code = "import lossline_jax as ll; ll.RunConfig; ll.LlamaConfig; ll.preset; ll.show; ll.LosslineError"
    assert "jax" not in loaded_after(code)


def test_every_public_name_is_there():
    assert len(ll.__all__) == len(set(ll.__all__))
    for name in ll.__all__:
        assert getattr(ll, name) is not None
        assert name in dir(ll)


def test_a_plan_has_numbers(capsys):
    study = ll.Study.from_file(TINY)
    plan = study.plan()
    assert [run.run_id for run in plan.runs] == [run.run_id for run in study.config.runs]
    first = plan.runs[0]
    assert first.flops > 6 * first.parameters.non_embedding * first.tokens
    assert plan.flops == sum(run.flops for run in plan.runs)
    assert ll.show(plan) is None
    assert f"{len(plan.runs)} runs, " in capsys.readouterr().out


def test_a_study_is_the_same_from_its_file_its_config_and_its_folder(tmp_path):
    study = ll.Study.from_file(TINY, str(tmp_path))
    from_config = ll.Study(study.config, str(tmp_path))
    assert from_config.folder.root == study.folder.root == tmp_path / "tiny"
    with pytest.raises(ll.LosslineError, match=r"no study\.json there"):
        ll.Study.open(str(tmp_path / "tiny"))
    study.folder.root.mkdir()
    study.folder.study_file.write_text((ROOT / "tests/golden/old_study/study.json").read_text())
    assert ll.Study.open(str(tmp_path / "tiny")).folder.root == tmp_path / "tiny"


def test_a_knob_that_is_not_there_is_refused():
    with pytest.raises(ll.LosslineError, match=r"study\(\) has no argument 'max_byte'; did you mean 'max_bytes'"):
        ll.Study.from_file(TINY, max_byte=3)


def test_verbs_return_objects(capsys):
    """The old study has rows and fits."""
    study = ll.Study.open(str(ROOT / "tests/golden/old_study"))
    status = study.status()
    assert isinstance(status.runs[0].status, RunStatus)
    assert {run.status.state for run in status.runs} == {"done"}
    losses = study.losses()
    assert set(losses["run_id"]) == {run.run_id for run in study.config.runs}
    ll.show(status)
    assert f"{len(status.runs)} of {len(status.runs)} runs done" in capsys.readouterr().out


def test_laws_are_shown(capsys):
    ll.show(LAWS["chinchilla"])
    assert capsys.readouterr().out.startswith("chinchilla: L = ")
    ll.show(LAWS)
    assert "chinchilla" in capsys.readouterr().out


def test_a_value_without_a_text_is_refused():
    with pytest.raises(TypeError, match="there is no text for a float; show a plan"):
        ll.show(1.0)


def bound_names(package):
    """Yield the names that a package's `__init__.py` binds, except its own modules."""
    dotted = ".".join(package.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse((package / "__init__.py").read_text())):
        match node:
            case ast.ImportFrom() if node.module != dotted:
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.FunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_package_exports_a_name_that_is_also_one_of_its_modules(package):
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert not set(bound_names(package)) & modules


def test_a_module_of_fit_is_imported_as_a_module():
    for path in sorted((PACKAGE / "fit").glob("[!_]*.py")):
        module = importlib.import_module(f"lossline_jax.fit.{path.stem}")
        assert isinstance(module, types.ModuleType)
        assert getattr(fit, path.stem) is module


def test_fit_exports_what_its_users_need():
    assert set(OF_FIT.split()) <= set(fit.__all__)
    assert all(hasattr(fit, name) for name in fit.__all__)


def test_fit_needs_no_training_packages():
    loaded = loaded_after("from lossline_jax import fit")
    unwanted = {"flax", "orbax", "grain", "sentencepiece", "matplotlib", "lossline_jax.models", "lossline_jax.train"}
    assert not loaded & unwanted
