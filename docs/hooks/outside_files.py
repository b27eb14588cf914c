"""Bring the files outside docs/ that a page links to into the documentation site.

Links in Markdown are written for a code host, relative to the file that has them. On the site, README.md is the home
page, and docs/ is the root. A linked Markdown file becomes a page. A linked notebook or source file becomes a page
that shows it, and a linked folder is the page of its README.md. Any other linked file is copied as it is.
"""

import posixpath
import re
from pathlib import Path

import nbconvert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "README.md"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}  # source files that are shown
LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")  # [text](target#anchor), where the target is no address

sources: dict[str, str] = {}  # page of the site -> its file, relative to the root of the repository


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link to the repository, if setup.py has its address."""
    address = re.search(r'^PROJECT_URL = "(.+)"', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    config.repo_url = address[1] if address else None
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file that a page links to, and every file that those files link to."""
    sources.clear()
    sources.update({file.src_uri: f"docs/{file.src_uri}" for file in files.documentation_pages()})
    waiting = [HOME, *sources.values()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            _add(path, files, config)
        if path.endswith(".md"):
            linked = {_target(path, link[2]) for link in LINK.finditer((ROOT / path).read_text(encoding="utf-8"))}
            waiting += sorted(linked - seen)
            seen |= linked
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the links of a page as links between files of the site."""
    source = sources.get(page.file.src_uri, "")
    if not source.endswith(".md"):
        return markdown

    def rewritten(link: re.Match) -> str:
        there = posixpath.relpath(site_file(_target(source, link[2])), posixpath.dirname(page.file.src_uri) or ".")
        return f"{link[1]}{there}{link[3] or ''}{link[4]}"

    return LINK.sub(rewritten, markdown)


def site_file(path: str) -> str:
    """Return the file of the site that stands for a file of the repository."""
    if path == HOME:
        return "index.md"
    inside = path.removeprefix("docs/")
    return f"{inside}.md" if Path(path).suffix in (*LANGUAGES, ".ipynb") else inside


def _target(page: str, link: str) -> str:
    """Return the file that a link names, relative to the root of the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    path = f"{path}/README.md" if (ROOT / path).is_dir() else path
    if not (ROOT / path).is_file():
        raise PluginError(f"{page}: links to {link}, and there is no such file; correct the link")
    return path


def _add(path: str, files: Files, config: MkDocsConfig) -> None:
    """Add a file from outside docs/ to the site."""
    there = site_file(path)
    if there.endswith(".md"):
        sources[there] = path
        files.append(File.generated(config, there, content=_page(path, files, config)))
    else:
        files.append(File.generated(config, there, abs_src_path=str(ROOT / path)))


def _page(path: str, files: Files, config: MkDocsConfig) -> str:
    suffix, text = Path(path).suffix, (ROOT / path).read_text(encoding="utf-8")
    if suffix == ".ipynb":
        return _notebook(path, files, config)
    if suffix in LANGUAGES:
        return f"# {Path(path).name}\n\n````{LANGUAGES[suffix]}\n{text}````\n"
    return text


def _notebook(path: str, files: Files, config: MkDocsConfig) -> str:
    """Return a notebook as Markdown, and add the figures of its output to the site."""
    markdown, resources = nbconvert.MarkdownExporter().from_filename(str(ROOT / path))
    markdown = re.sub(r"<style scoped>.*?</style>", "", markdown, flags=re.DOTALL)
    markdown = markdown.replace('<table border="1" class="dataframe">', "<table>")  # the theme styles a plain table
    for name, content in resources["outputs"].items():
        figure = f"{Path(path).stem}_{name}"
        markdown = markdown.replace(f"({name})", f"({figure})")
        files.append(File.generated(config, f"{posixpath.dirname(path)}/{figure}", content=content))
    return markdown
