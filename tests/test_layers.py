"""The house keeps its order: who may import whom, and what the front door must not drag in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lossline_jax"
FLOORS = {
    **dict.fromkeys(("errors", "console", "units", "disk", "parallel", "rundir", "config", "table", "text"), 0),
    **dict.fromkeys(("storage", "inputs", "outputs", "columns", "delimited", "alive", "writer", "compiled"), 0),
    **dict.fromkeys(("seal", "parquet", "leftovers"), 0),
    **dict.fromkeys(("ops", "sharding", "chips", "processes"), 1),
    **dict.fromkeys(("models", "data"), 2),
    **dict.fromkeys(("train", "evaluate", "fit", "report", "published"), 3),
    "study": 4,
    **dict.fromkeys(("capacity", "rowcount", "experiment", "ranges", "prepared", "imported", "scorer"), 5),
    **dict.fromkeys(("status", "exchange", "options", "mesh_plan", "check"), 6),
    **dict.fromkeys(("views", "claims", "workshop", "resubmit"), 7),
    **dict.fromkeys(("follow", "watch"), 8),
    **dict.fromkeys(("pipeline", "analysis"), 9),
    "cli": 10,
    "__main__": 11,
}
# rooms of one floor that may look into each other, and no others
NEIGHBOURS = {
    ("report", "fit"),
    ("text", "errors"),
    ("console", "text"),
    ("config", "text"),
    ("rundir", "text"),
    ("outputs", "inputs"),
    ("workshop", "claims"),
    ("table", "errors"),
    ("table", "rundir"),
    ("table", "inputs"),
    ("table", "delimited"),
    ("delimited", "columns"),
    ("delimited", "errors"),
    ("inputs", "errors"),
    ("outputs", "errors"),
    ("outputs", "storage"),
    ("outputs", "rundir"),
    ("compiled", "storage"),
    ("table", "storage"),
    ("rundir", "config"),
    ("rundir", "disk"),
    ("rundir", "errors"),
    ("rundir", "seal"),
    ("rundir", "leftovers"),
    ("table", "seal"),
    ("table", "text"),
    ("table", "parquet"),
    ("parquet", "seal"),
    ("config", "errors"),
    ("storage", "errors"),
    ("parallel", "errors"),
    ("experiment", "ranges"),
    ("compiled", "console"),
    ("compiled", "errors"),
    ("compiled", "storage"),
    ("alive", "console"),
    ("alive", "errors"),
    ("alive", "rundir"),
    ("writer", "errors"),
    ("writer", "rundir"),
    ("writer", "alive"),
}
FORBIDDEN = {  # room -> rooms below it that it must do without all the same
    "train": {"evaluate"},
    "evaluate": {"train"},
    "fit": {"ops", "sharding", "processes", "models", "data"},
    "report": {"ops", "sharding", "processes", "models", "data"},
    "published": {"ops", "sharding", "models", "data"},
    "data": {"ops", "sharding", "processes"},
}
# third-party packages that live in one place
HOMES = {
    "flax": ("models/",),
    "orbax": ("train/checkpoint.py",),
    "grain": ("data/batches.py",),
    "tyro": ("cli.py", "experiment.py"),
    "matplotlib": ("report/",),
    "tensorboardX": ("train/trackers.py",),
    "wandb": ("train/trackers.py",),
}


def modules():
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]
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


@pytest.mark.parametrize(("name", "tree"), modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_downwards(name, tree):
    here = room(name)
    for target in imports(tree):
        if not target.startswith("lossline_jax."):
            continue
        there = target.split(".")[1]
        if there == here or there not in FLOORS:
            continue
        is_config = target.startswith(f"lossline_jax.{there}.config")
        lower = FLOORS[there] < FLOORS[here] or (here, there) in NEIGHBOURS
        assert lower or is_config, f"{name} imports {target}, which is not below it"
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


@pytest.mark.parametrize("statement", ["import lossline_jax.cli", "import lossline_jax.study"])
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
