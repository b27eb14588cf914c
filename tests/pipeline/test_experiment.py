"""Experiment files that cannot be loaded are refused."""

import pytest

from lossline_jax.errors import LosslineError
from lossline_jax.pipeline.experiment import load_study_function


def test_a_file_with_another_ending_is_refused_by_name(tmp_path):
    file = tmp_path / "study.txt"
    file.write_text("def study(): pass\n")
    with pytest.raises(LosslineError, match=r"study.txt: not a Python file; name an experiment file that ends in .py"):
        load_study_function(str(file))
