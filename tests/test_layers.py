"""The house keeps its order: who may import whom, and what the front door must not drag in."""

import argparse
import ast
import collections
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "lossline_jax"
# Packages and modules by floor: each may import those of the floors below, and none of its own.
FLOORS = (
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
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FORBIDDEN = {  # package -> packages below it that it must do without all the same
    "fit": {"ops", "distributed", "models", "data"},
    "report": {"ops", "distributed", "models", "data"},
    "losses": {"ops", "distributed"},
    "data": {"ops", "distributed"},
}
# third-party packages that live in one place
HOMES = {
    "flax": ("models/",),
    "orbax": ("train/checkpoint.py",),
    "grain": ("data/batches.py",),
    "tyro": ("cli/",),
    "matplotlib": ("report/figures/",),
    "tensorboardX": ("train/monitor/trackers.py",),
    "wandb": ("train/monitor/trackers.py",),
}


def modules():
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]  # which names the API
    return [(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())) for path in paths]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they come from"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name):
    return name.split("/")[0].removesuffix(".py")


def test_every_package_has_its_floor():
    assert {room(name) for name, _ in modules()} == FLOOR.keys()


@pytest.mark.parametrize(("name", "tree"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_downwards(name, tree):
    here = room(name)
    for target in imports(tree):
        if not target.startswith("lossline_jax."):
            continue
        there = target.split(".")[1]
        if there in (here, "__version__"):
            continue
        assert FLOOR[there] < FLOOR[here], f"{name} imports {target}, which is not below it"
        assert there not in FORBIDDEN.get(here, set()), f"{name} must not import {target}"


@pytest.mark.parametrize(("name", "tree"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_third_party_packages_stay_at_home(name, tree):
    for target in imports(tree):
        package = target.split(".")[0]
        assert "flax.nnx" not in target
        if package in HOMES:
            assert name.startswith(HOMES[package]), f"{name} imports {package}, which belongs to {HOMES[package]}"


def imported_by(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import lossline_jax.cli.main", "import lossline_jax.config.study"])
def test_the_front_door_needs_no_jax(statement):
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
    rooms = {room(name) for name in trees} - {"__init__", "__main__"}
    arrows = {
        (name, target.split(".")[1])
        for name, tree in trees.items()
        for target in imports(tree)
        if target.startswith("lossline_jax.") and target.split(".")[1] in rooms - {room(name)}
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
        "packages and loose modules": len(rooms),
        "loose modules": len([name for name in rooms if (package / f"{name}.py").exists()]),
        "imports between them, pair by pair": len({(room(name), there) for name, there in arrows}),
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
