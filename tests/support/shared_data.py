"""Where tests find real text, tokenizers and tasks: `$LOSSLINE_SHARED`, or `../shared`."""

import os
import pathlib

import pytest

_BESIDE = pathlib.Path(__file__).resolve().parents[2] / "shared"


def shared_path(relative: str) -> pathlib.Path:
    """A file or folder under the shared data; the test is skipped where it is absent."""
    path = pathlib.Path(os.environ.get("LOSSLINE_SHARED", _BESIDE)) / relative
    if not path.exists():
        pytest.skip(f"{path} is absent; set LOSSLINE_SHARED to the folder of shared data")
    return path
