"""The experiments that come with lossline. A user names them without a path, and starts an own one from a template."""

import re
from pathlib import Path

from etils import epath

import lossline_jax
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.storage.files import write_atomic

NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
TEMPLATE = "own_data"  # the experiment that `write_experiment` copies


def experiments_folder() -> Path:
    """Return the folder of the experiments: inside the package in a wheel, beside the package in a checkout."""
    package = Path(lossline_jax.__file__).parent
    inside, beside = package / "experiments", package.parent / "experiments"
    return inside if inside.is_dir() else beside


def experiment_names() -> list[str]:
    """Return the names of the experiments that come with lossline, in alphabetical order."""
    return sorted(path.stem for path in experiments_folder().glob("[!_]*.py"))


def experiment_path(source: str) -> str:
    """Return the path of an experiment that comes with lossline. Anything but a plain name is returned as it is.

    Args:
        source: a name, such as `quickstart`, or a path.

    Raises:
        LosslineError: there is no experiment of that name, and no folder either.
    """
    if not re.fullmatch(NAME, source):
        return source
    names = experiment_names()
    if source in names:
        return str(experiments_folder() / f"{source}.py")
    if Path(source).exists():
        return source
    guess = suggestion(source, names) or "; name a file, a study's folder, or one of these"
    if Path(f"{source}.py").is_file():
        guess = f"; did you mean {source}.py?"
    raise LosslineError(f"{source}: no such experiment{guess} (lossline has {', '.join(names)})")


def write_experiment(name: str) -> Path:
    """Write a commented experiment into the working folder, and return its path.

    Args:
        name: name of the study and of its file, with or without `.py`.

    Raises:
        LosslineError: the name is not a name, belongs to an experiment of lossline, or its file exists.
    """
    stem = name.removesuffix(".py")
    if not re.fullmatch(NAME, stem):
        raise LosslineError(f"{name}: not a name for a study; use letters, digits, - and _, such as my_study")
    if stem in experiment_names():
        raise LosslineError(f"{stem}: an experiment of lossline has this name; choose another, such as my_{stem}")
    path = Path(f"{stem}.py")
    if path.exists():
        raise LosslineError(f"{path}: exists already; choose another name, or delete it first")
    template = (experiments_folder() / f"{TEMPLATE}.py").read_text(encoding="utf-8")
    text = template.replace(f"experiments/{TEMPLATE}.py", path.name).replace(f'"{TEMPLATE}"', f'"{stem}"')
    write_atomic(epath.Path(path), text)
    return path
