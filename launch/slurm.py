"""Submit the runs of a manifest that are not done as one SLURM job array, and the fit job after it.

    python launch/slurm.py studies/quickstart/manifest.jsonl --partition gpu --gpus-per-node 1 --dry-run

A run that leaves with 42, by its time limit or a preemption, puts itself back into the queue; so does SLURM when a node
dies. The scripts go to sbatch by stdin: nothing is written but the logs.
"""

import shlex
import subprocess
from dataclasses import dataclass

from selection import Chosen, Selection, main
from settings import Slurm

from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError
from lossline_jax.storage.files import is_remote
from lossline_jax.storage.object_store import expanded

FIRST_PORT, PORTS = 61440, 4096  # where the processes of a run meet: by the number of its job

RUN_SCRIPT = """\
#!/bin/bash
{directives}
{setup}
set -u
{meeting_place}
# SIGTERM comes to this shell before the time limit: every process of the step is to save.
trap 'scancel --signal=TERM "$SLURM_JOB_ID"' TERM
srun --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"; code=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done  # the trap ends a wait early
limit=0  # how often this task may have been put back before
if [ "$code" -eq {restart} ]; then limit={preemptions}; elif [ "$code" -gt 128 ]; then limit={retries}; fi
if [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$limit" ]; then
  echo "exit code $code: back into the queue, for the time $((${{SLURM_RESTART_COUNT:-0}} + 1)) of at most $limit"
  trap - TERM  # which is what it sends to this shell
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

FIT_SCRIPT = """\
#!/bin/bash
{directives}
{setup}
{commands}
"""


@dataclass(frozen=True)
class Options(Slurm, Selection):
    fit: bool = True
    """Then also the losses table, the fits and the report, in a job of one task."""


def run_script(options: Options, chosen: Chosen) -> str:
    """The job array: a task a run."""
    own = {
        "job-name": f"lossline-{chosen.study.name}",
        "array": f"{chosen.runs.indices}%{options.throttle}",
        "output": f"{_logs(options, chosen)}/%A_%a.log",
        "nodes": options.nodes,
        "ntasks-per-node": options.tasks_per_node,
        "gpus-per-node": options.gpus_per_node,
        "cpus-per-task": options.cpus_per_task,
        "mem": options.memory,
        "time": options.time,
        "signal": f"B:TERM@{options.grace_seconds}",
    }
    return RUN_SCRIPT.format(
        directives=_directives(options, own, "--requeue", "--open-mode=append"),
        setup=options.setup,
        meeting_place=_meeting_place(options),
        command=_command(options, chosen),
        restart=RESTART_EXIT_CODE,
        preemptions=options.preemptions,
        retries=options.retries,
    )


def fit_script(options: Options, chosen: Chosen) -> str:
    """What follows once no task of the array is left, whatever became of them."""
    own = {
        "job-name": f"lossline-{chosen.study.name}-fit",
        "output": f"{_logs(options, chosen)}/%j_fit.log",
        "ntasks": 1,
        "cpus-per-task": options.cpus_per_task,
        "mem": options.memory,
        "time": options.time,
    }
    folder = shlex.quote(str(chosen.folder.root))
    commands = "\n".join(f"{options.lossline} {verb} {folder}" for verb in ("evaluate", "fit", "report"))
    return FIT_SCRIPT.format(directives=_directives(options, own), setup=options.setup, commands=commands)


def _command(options: Options, chosen: Chosen) -> str:
    """What srun starts; which process of how many it is, a task knows from SLURM."""
    words = [shlex.quote(word) for word in chosen.words("INDEX")]
    return " ".join([options.lossline, *words]).replace("INDEX", '"$SLURM_ARRAY_TASK_ID"')


def _meeting_place(options: Options) -> str:
    if not options.coordinator:
        return ""
    port = f"$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))"
    return f"export JAX_COORDINATOR_ADDRESS={shlex.quote(options.coordinator)}:{port}"


def _directives(options: Options, own: dict[str, object], *flags: str) -> str:
    where = {"partition": options.partition, "account": options.account}
    named = [f"--{name}={value}" for name, value in (own | where).items() if value]
    return "\n".join(f"#SBATCH {option}" for option in (*named, *flags, *options.options))


def _logs(options: Options, chosen: Chosen) -> str:
    if not options.logs and is_remote(chosen.folder.root):
        raise LosslineError(f"--logs: SLURM cannot write its logs to {chosen.folder.root}; name a folder of the nodes")
    return expanded(options.logs) if options.logs else f"{chosen.folder.root}/logs"


def submit(script: str, *flags: str) -> str:
    """Hand a script to sbatch; returns the number of the job."""
    done = subprocess.run(["sbatch", "--parsable", *flags], input=script, text=True, capture_output=True)
    if done.returncode:
        raise LosslineError(f"sbatch: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().split(";")[0]


def launch(options: Options, chosen: Chosen) -> int:
    """The array, and the fit job behind it."""
    scripts = [run_script(options, chosen)] if chosen.runs.indices else []
    scripts += [fit_script(options, chosen)] if options.fit else []
    job = "ARRAY"
    for script in scripts:
        after = [f"--dependency=afterany:{job}"] if len(scripts) == 2 and script is scripts[1] else []
        if options.dry_run:
            print(shlex.join(["sbatch", "--parsable", *after]), "<<'EOF'", f"\n{script}EOF")
        else:
            subprocess.run(["mkdir", "-p", _logs(options, chosen)], check=True)
            job = submit(script, *after)
            print(f"job {job}: {script.split('--job-name=')[1].splitlines()[0]}")
    return 0


if __name__ == "__main__":
    main(Options, launch, __doc__)
