"""The documentation site has every verb, flag and public name, and needs no network. `make docs` installs mkdocs."""

import dataclasses
import html
import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import lossline_jax
from lossline_jax import fit
from lossline_jax.cli import verbs
from tests.support.paths import ROOT

pytest.importorskip("mkdocs")

from mkdocs.exceptions import PluginError


def hook(name):
    """Import a file of docs/hooks/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site, and return its folder."""
    pytest.importorskip("mkdocs", reason="needs the extra [docs]: make docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": "", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_verb_has_a_heading_and_every_flag_a_row(site):
    page = html.unescape((site / "reference/command_line.html").read_text())
    for name in verbs.VERBS:
        assert f'<h3 id="{name.replace(" ", "-")}' in page
    flags = {
        f"--{field.name.replace('_', '-')}"
        for verb in verbs.VERBS.values()
        for field in dataclasses.fields(verb.options)
    }
    assert len(flags) > 50
    rows = set(re.findall(r"<code>(--[\w-]+)", page))
    assert flags - rows <= {"--law", "--processes"}  # `laws LAW` has no flag; --processes.* has its own table
    assert "--processes.coordinator" in page
    assert "--execution.remat" in page


@pytest.mark.slow
@pytest.mark.parametrize("module", [lossline_jax, fit], ids=lambda module: module.__name__)
def test_every_public_name_has_an_entry(site, module):
    page = (site / f"reference/{'fit' if module is fit else 'python'}.html").read_text()
    names = set(module.__all__) - {"fit"}
    assert {name for name in names if f'id="{module.__name__}.{name}"' not in page} == set()


@pytest.mark.slow
def test_the_comment_of_a_field_is_its_description(site):
    page = html.unescape((site / "reference/python.html").read_text())
    assert "bound of the global gradient norm; 0 switches clipping off" in re.sub(r"\s+", " ", page)


@pytest.mark.slow
def test_what_pages_link_to_is_on_the_site(site):
    assert "def study(" in re.sub(r"<[^>]*>", "", (site / "experiments/own_data.py.html").read_text())
    assert (site / "results/llms_on_the_line_cpu/line.png").is_file()
    assert "chinchilla: L = E" in (site / "examples/table.ipynb.html").read_text()
    assert 'href="study.html"' in (site / "index.html").read_text()


@pytest.mark.parametrize("tag", ['<script src="https://cdn.example/x.js">', "<img alt='' src='//cdn.example/x.png'>"])
def test_a_page_that_loads_from_another_address_is_refused(tag):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="x.md"))
    with pytest.raises(PluginError, match=r"x\.md: loads (https:)?//cdn\.example/x\."):
        hook("offline").on_post_page(f"<p>{tag}</p>", page, None)
    assert hook("offline").on_post_page('<a href="https://arxiv.org">', page, None)


def test_links_lead_to_the_file_of_the_site():
    files = hook("outside_files")
    files.sources.update({"study.md": "docs/study.md", "experiments/README.md": "experiments/README.md"})

    def written(page, text):
        return files.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=page)), None, None)

    assert written("study.md", "[a](../README.md#x)") == "[a](index.md#x)"
    assert written("study.md", "[a](../launch/) [b](../experiments/own_data.py)") == (
        "[a](launch/README.md) [b](experiments/own_data.py.md)"
    )
    assert (
        written("experiments/README.md", "[a](../docs/tasks.md) [b](https://a.b)")
        == "[a](../tasks.md) [b](https://a.b)"
    )
    with pytest.raises(PluginError, match=r"docs/study\.md: links to \.\./no\.md, and there is no such file"):
        written("study.md", "[a](../no.md)")
