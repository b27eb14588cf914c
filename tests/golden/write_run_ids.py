"""Write run_ids.json: the ids of all runs of all experiments, in the order of each study."""

import json
from pathlib import Path

from lossline_jax.config.validate import validate_study
from lossline_jax.pipeline.experiment import load_study_function

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FILE = Path(__file__).parent / "run_ids.json"


def run_ids() -> dict[str, list[str]]:
    """Return the run ids of each experiment, by the name of its file."""
    studies = {
        path.stem: validate_study(load_study_function(str(path))(), str(path))
        for path in sorted(EXPERIMENTS.glob("[a-z]*.py"))
    }
    return {name: [run.run_id for run in study.runs] for name, study in studies.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(run_ids(), indent=1) + "\n")
