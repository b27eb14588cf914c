"""What packages export: names that do not hide modules, found where they are documented."""

import ast
import importlib
import subprocess
import sys
import types

import pytest

from lossline_jax import fit
from tests.support.paths import ROOT

PACKAGE = ROOT / "lossline_jax"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
OF_FIT = """
    fit_law fit_law_many fit_shifted_power fit_compute_law bootstrap translate compose find_crossings
    chinchilla_allocation kaplan_allocation fit_law_table fit_table compare_lines fit_study pair_runs
    forecast backtest predict_from_few_runs fit_skills optimal_quantities
    LAWS Law Parameter Loss FitResult StudyFits
"""


def bound_names(package):
    """Names that a package's `__init__.py` binds to something else than its own modules."""
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
    code = "from lossline_jax import fit; import sys; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "flax",
        "orbax",
        "grain",
        "sentencepiece",
        "matplotlib",
        "lossline_jax.models",
        "lossline_jax.train",
    }
