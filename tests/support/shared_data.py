"""Find real text, tokenizers and tasks for tests, in `$LOSSLINE_SHARED` or `../shared`."""

import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).resolve().parents[2] / "shared"


def shared_path(relative: str) -> pathlib.Path:
    """Return a file or folder of the shared data. The test is skipped if it is missing."""
    path = pathlib.Path(os.environ.get("LOSSLINE_SHARED", _BESIDE)) / relative
    if not path.exists():
        pytest.skip(f"{path} is absent; set LOSSLINE_SHARED to the folder of shared data")
    return path
