"""Submit the unfinished runs of a manifest as managed jobs of a SkyPilot pool, with skypilot.yaml as their task.

    sky jobs pool apply -p lossline launch/skypilot.yaml --env PACKAGE='lossline_jax[cuda,gcs] @ git+https://...'
    python launch/skypilot.py gs://bucket/studies/quickstart/manifest.jsonl --package '...' --dry-run

Job k of the pool works on the k-th unfinished run. The machines of the pool are in skypilot.yaml.
"""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from selection import Chosen, Selection, main, must_be_given, program, require_bucket, require_extras
from settings import SkyPilot

TASK = Path(__file__).with_name("skypilot.yaml")


@dataclass(frozen=True)
class Options(SkyPilot, Selection):
    """The flags of this launcher."""


def job_command(options: Options, chosen: Chosen) -> list[str]:
    """Return the words of `sky jobs launch` for all runs to start."""
    indices = [str(standing.index) for standing in chosen.runs.chosen]
    variables = {"MANIFEST": chosen.manifest, "PACKAGE": options.package, "INDICES": " ".join(indices)}
    variables |= {"EXPERIMENT": chosen.experiment} if chosen.experiment else {}
    words = [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    count = ["--num-jobs", str(len(indices))]
    return [*program(options.sky), "jobs", "launch", "-p", options.pool, *count, str(TASK), *words, "--yes"]


def launch(options: Options, chosen: Chosen) -> int:
    """Submit one job per run, and return the exit code of SkyPilot."""
    must_be_given(options, "package")
    require_extras(options.package, ("gcs",))
    require_bucket(options, chosen, "workers")
    code = 0
    if chosen.runs.chosen and options.dry_run:
        print(shlex.join(job_command(options, chosen)))
    elif chosen.runs.chosen:
        code = subprocess.run(job_command(options, chosen)).returncode
    folder = shlex.quote(str(chosen.folder.root))
    print(
        "# when all have ended:", " && ".join(f"lossline-jax {verb} {folder}" for verb in ("evaluate", "fit", "report"))
    )
    return code


if __name__ == "__main__":
    main(Options, launch, __doc__)
