"""Submit the unfinished runs of a manifest as one SLURM job array, and a job that fits their losses after it.

    python launch/slurm.py studies/quickstart/manifest.jsonl --partition gpu --gpus-per-node 1 --dry-run

A run that leaves with code 42, at its time limit or at a preemption, puts itself back into the queue. SLURM does the
same when a node dies. sbatch reads the scripts from stdin, so the launcher writes no files but the logs.
"""

import shlex
import subprocess
from dataclasses import dataclass

from selection import Chosen, Selection, main
from settings import Slurm

from lossline_jax.distributed.launchers import FIRST_PORT, PORTS
from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError
from lossline_jax.storage.files import is_remote
from lossline_jax.storage.object_store import expanded

RUN_SCRIPT = """\
#!/bin/bash
{directives}
{setup}
set -u
{meeting_place}
# SLURM sends SIGTERM to this shell before the time limit. Pass it on, so that every process of the step saves.
trap 'scancel --signal=TERM "$SLURM_JOB_ID"' TERM
srun --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"; code=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done  # the trap ends a wait early
limit=0  # number of times that this task may go back into the queue
if [ "$code" -eq {restart} ]; then limit={preemptions}; elif [ "$code" -gt 128 ]; then limit={retries}; fi
if [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$limit" ]; then
  echo "exit code $code: back into the queue, for the time $((${{SLURM_RESTART_COUNT:-0}} + 1)) of at most $limit"
  trap - TERM  # scontrol sends TERM to this shell
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
    """The flags of this launcher."""

    fit: bool = True
    """Make the losses table, the fits and the report afterwards, in a job of one task."""


def run_script(options: Options, chosen: Chosen) -> str:
    """Return the script of the job array, which has one task per run."""
    directives = {
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
        "partition": options.partition,
    }
    return RUN_SCRIPT.format(
        directives=_directives(options, directives, "--requeue", "--open-mode=append", *options.options),
        setup=options.setup,
        meeting_place=_meeting_place(options),
        command=_command(options, chosen),
        restart=RESTART_EXIT_CODE,
        preemptions=options.preemptions,
        retries=options.retries,
    )


def fit_script(options: Options, chosen: Chosen) -> str:
    """Return the script of the job that starts after all tasks of the array have ended, well or not."""
    directives = {
        "job-name": f"lossline-{chosen.study.name}-fit",
        "output": f"{_logs(options, chosen)}/%j_fit.log",
        "ntasks": 1,
        "cpus-per-task": options.fit_cpus or options.cpus_per_task,
        "mem": options.fit_memory or (options.memory if not options.fit_partition else ""),
        "time": options.time,
        "partition": options.fit_partition or options.partition,
    }
    more = options.fit_options if options.fit_partition else (*options.options, *options.fit_options)
    folder = shlex.quote(str(chosen.folder.root))
    commands = "\n".join(f"{options.lossline} {verb} {folder}" for verb in ("evaluate", "fit", "report"))
    return FIT_SCRIPT.format(directives=_directives(options, directives, *more), setup=options.setup, commands=commands)


def _command(options: Options, chosen: Chosen) -> str:
    """Return the command that srun starts. A task reads its number and the number of tasks from SLURM's variables."""
    words = [shlex.quote(word) for word in chosen.words("INDEX")]
    return " ".join([options.lossline, *words]).replace("INDEX", '"$SLURM_ARRAY_TASK_ID"')


def _meeting_place(options: Options) -> str:
    if not options.coordinator:
        return ""
    port = f"$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))"
    return f"export JAX_COORDINATOR_ADDRESS={shlex.quote(options.coordinator)}:{port}"


def _directives(options: Options, directives: dict[str, object], *flags: str) -> str:
    named = [f"--{name}={value}" for name, value in (directives | {"account": options.account}).items() if value]
    return "\n".join(f"#SBATCH {option}" for option in (*named, *flags))


def _logs(options: Options, chosen: Chosen) -> str:
    if not options.logs and is_remote(chosen.folder.root):
        raise LosslineError(f"--logs: SLURM cannot write its logs to {chosen.folder.root}; name a folder of the nodes")
    return expanded(options.logs) if options.logs else f"{chosen.folder.root}/logs"


def submit(script: str, *flags: str) -> str:
    """Submit a script with sbatch, and return the number of the job."""
    process = subprocess.run(["sbatch", "--parsable", *flags], input=script, text=True, capture_output=True)
    if process.returncode:
        raise LosslineError(f"sbatch: {process.stderr.strip() or process.stdout.strip()}")
    return process.stdout.strip().split(";")[0]


def launch(options: Options, chosen: Chosen) -> int:
    """Submit the job array, and the fit job that depends on it."""
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
