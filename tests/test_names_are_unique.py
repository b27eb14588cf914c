"""Public classes and functions of the package have unique names, so a search for a name finds one definition."""

import ast
from collections import defaultdict

from tests.support.paths import ROOT

PACKAGE = ROOT / "lossline_jax"
# Each architecture declares its parameters and costs, and each published schema reads its tables.
SHARED = {
    "block_parameters": "models/",
    "kept_bytes": "models/",
    "mixing_flops": "models/",
    "read": "losses/published/",
}


def public_definitions():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(PACKAGE).as_posix()


def test_public_names_are_unique():
    places = defaultdict(list)
    for name, place in public_definitions():
        if not place.startswith(SHARED.get(name, "nowhere/")):
            places[name].append(place)
    repeated = {name: files for name, files in places.items() if len(files) > 1}
    assert not repeated, f"rename one of each, or declare the name in SHARED: {repeated}"
