"""Imports go from a layer to the layers below it, and `import lossline_jax` alone loads no heavy library."""

import argparse
import ast
import collections
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "lossline_jax"
# Packages and modules by layer, from the lowest. Each imports packages of lower layers only (see CONTRIBUTING.md).
LAYERS = (
    {"errors", "units"},
    {"formatting"},
    {"logs"},
    {"config", "ops"},
    {"storage", "distributed"},
    {"losses", "data", "models"},
    {"fit", "train", "evaluate"},
    {"report", "weights", "plan"},
    {"status"},
    {"summary"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
FORBIDDEN = {  # package -> packages of lower layers that it must not import
    "fit": {"ops", "distributed", "models", "data"},
    "report": {"ops", "distributed", "models", "data"},
    "losses": {"ops", "distributed"},
    "data": {"ops", "distributed"},
}
# third-party package -> the only files that may import it
HOMES = {
    "flax": ("models/",),
    "orbax": ("train/checkpoint.py",),
    "grain": ("data/batches.py",),
    "tyro": ("cli/",),
    "filelock": ("storage/run_lock.py", "storage/leftovers.py"),
    "matplotlib": ("report/figures/",),
    "tensorboardX": ("train/monitor/trackers.py",),
    "wandb": ("train/monitor/trackers.py",),
}


@functools.cache
def modules():
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]  # it names the API
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())) for path in paths]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides the package that it imports from"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name):
    return name.split("/")[0].removesuffix(".py")


def test_every_package_has_its_layer():
    assert {package_of(name) for name, _ in modules()} == LAYER_OF.keys()


def test_the_file_map_shows_the_layers():
    """CONTRIBUTING.md has a row for each layer, from the top; the row names the packages of that layer."""
    file_map = (ROOT / "CONTRIBUTING.md").read_text().split("## The file map")[1].split("##")[0]
    rows = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in file_map.splitlines() if line.startswith("| `")]
    documented = [packages for packages in LAYERS if packages != {"__main__"}]
    assert rows == documented[::-1]


@pytest.mark.parametrize(("name", "tree"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_downwards(name, tree):
    package = package_of(name)
    for target in imports(tree):
        if not target.startswith("lossline_jax."):
            continue
        target_package = target.split(".")[1]
        if target_package in (package, "__version__"):
            continue
        assert LAYER_OF[target_package] < LAYER_OF[package], f"{name} imports {target}, which is not below it"
        assert target_package not in FORBIDDEN.get(package, set()), f"{name} must not import {target}"


@pytest.mark.parametrize(("name", "tree"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_third_party_packages_are_imported_in_one_place(name, tree):
    for target in imports(tree):
        package = target.split(".")[0]
        assert "flax.nnx" not in target
        if package in HOMES:
            assert name.startswith(HOMES[package]), f"{name} imports {package}, which belongs to {HOMES[package]}"


def imported_by(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import lossline_jax.cli.main", "import lossline_jax.config.study"])
def test_the_public_names_need_no_jax(statement):
    loaded = imported_by(statement)
    assert not loaded & {"jax", "flax", "orbax", "grain", "pandas", "matplotlib", "scipy"}


def test_analysis_needs_no_training_packages():
    statements = [
        f"import lossline_jax.{path.removesuffix('.py').replace('/', '.')}"
        for path, _ in modules()
        if path.startswith(("fit/", "report/"))
    ]
    assert not imported_by("; ".join(statements)) & {"flax", "orbax", "grain", "sentencepiece"}


def counts(package):
    """Return figures of a package folder: how it is divided, and how large its parts are."""
    trees = {path.relative_to(package).as_posix(): ast.parse(path.read_text()) for path in package.rglob("*.py")}
    packages = {package_of(name) for name in trees} - {"__init__", "__main__"}
    imported_pairs = {
        (name, target.split(".")[1])
        for name, tree in trees.items()
        for target in imports(tree)
        if target.startswith("lossline_jax.") and target.split(".")[1] in packages - {package_of(name)}
    }
    functions = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    public = collections.Counter(
        node.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    lengths = {name: len((package / name).read_text().splitlines()) for name in trees}
    longest = max(lengths, key=lengths.get)
    return {
        "packages and loose modules": len(packages),
        "loose modules": len([name for name in packages if (package / f"{name}.py").exists()]),
        "imports between them, pair by pair": len({(package_of(name), imported) for name, imported in imported_pairs}),
        "longest file": f"{longest}, {lengths[longest]} lines",
        "functions over 60 lines": sum(
            node.end_lineno - node.lineno + 1 > 60 for node in functions if isinstance(node, ast.FunctionDef)
        ),
        "public names in two files": sum(count > 1 for count in public.values()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print figures of the package's structure.")
    parser.add_argument("--count", type=Path, nargs="?", const=PACKAGE, required=True, metavar="PACKAGE_FOLDER")
    for title, figure in counts(parser.parse_args().count).items():
        print(f"{title}: {figure}")
