"""Submit the unfinished runs of a manifest to a GKE cluster with xpk: one workload (a JobSet) per run.

    python launch/xpk.py gs://bucket/studies/quickstart/manifest.jsonl --project P --zone us-west4-a \\
        --cluster C --image IMAGE --dry-run

The index of a run is in its command, because JOB_COMPLETION_INDEX numbers the hosts of a workload, not the runs.
"""

import re
import shlex
import subprocess
from dataclasses import dataclass

from selection import Chosen, Selection, main, must_be_given, program, require_bucket
from settings import Xpk

from lossline_jax.errors import RESTART_EXIT_CODE

LONGEST_NAME = 39  # characters of a workload's name
GPUS = ("a100", "b200", "gb200", "h100", "h200", "l4")  # the beginnings of xpk's names of GPU machines


@dataclass(frozen=True)
class Options(Xpk, Selection):
    """The flags of this launcher."""

    attempt: int = 1
    """Number of the attempt. A name can be used again only after its workload is deleted, or 12 hours after its end."""
    manifest_folder: str = ""
    """Folder to which xpk writes the JobSet of each workload, besides submitting it. Empty: none is written."""


def workload_name(study: str, index: int, attempt: int) -> str:
    """Return a name that Kubernetes accepts: [a-z]([-a-z0-9]*[a-z0-9])?, at most 39 characters.

    Args:
        study: name of the study.
        index: index of the run.
        attempt: number of the attempt. Each run and attempt has its own name.
    """
    tail = f"-{index}" if attempt == 1 else f"-{index}-r{attempt}"
    head = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    head = head if head[:1].isalpha() else f"s-{head}"
    return head[: LONGEST_NAME - len(tail)].rstrip("-") + tail


def workload_command(options: Options, chosen: Chosen, index: int) -> list[str]:
    """Return the words of `xpk workload create` for one run."""
    name = workload_name(chosen.study.name, index, options.attempt)
    size = {} if options.device_type.startswith(GPUS) else {"num-slices": options.slices}
    flags = {
        "workload": name,
        "project": options.project,
        "zone": options.zone,
        "cluster": options.cluster,
        "device-type": options.device_type,
        **size,
        "docker-image": options.image,
        "priority": options.priority,
        "max-restarts": options.max_restarts,
        "restart-on-exit-codes": RESTART_EXIT_CODE,
        "termination-grace-period-seconds": options.grace_seconds,
        # exec, because xpk sends SIGTERM to the shell in which it runs the command
        "command": shlex.join(["exec", "lossline-jax", *chosen.words(index)]),
    }
    if options.manifest_folder:
        flags["output-manifest-file"] = f"{options.manifest_folder}/{name}.yaml"
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return [*program(options.xpk), "workload", "create", *words, *(["--spot"] if options.spot else [])]


def launch(options: Options, chosen: Chosen) -> int:
    """Create one workload per run, until xpk refuses one. Return its exit code."""
    must_be_given(options, "project", "zone", "cluster", "image")
    require_bucket(options, chosen, "pods")
    for standing in chosen.runs.chosen:
        command = workload_command(options, chosen, standing.index)
        if options.dry_run:
            print(shlex.join(command))
        elif code := subprocess.run(command).returncode:
            return code
    folder = shlex.quote(str(chosen.folder.root))
    verbs = " && ".join(f"lossline-jax {verb} {folder}" for verb in ("evaluate", "fit", "report"))
    print(f"# when all have ended: {verbs}")
    return 0


if __name__ == "__main__":
    main(Options, launch, __doc__)
