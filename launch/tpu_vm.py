"""Train the unfinished runs of a manifest on one TPU slice, which is requested as a queued resource.

    python launch/tpu_vm.py gs://bucket/studies/quickstart/manifest.jsonl --project P --zone us-west4-a \\
        --package 'lossline_jax[tpu,gcs] @ git+https://...' --dry-run

Every worker of the slice starts the same command, for one run after another. If the slice is taken away, the launcher
requests another one, and the runs continue from their checkpoints. The launcher ends after the last run, or after
`retries` slices, and deletes the slice.
"""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

from selection import Chosen, Selection, choose, main, must_be_given, program, require_bucket, require_extras
from settings import TpuVm

from lossline_jax.errors import RESTART_EXIT_CODE, LosslineError

MISTAKE = LosslineError.exit_code  # exit code of a user's mistake, which another slice would not change
NEEDED_EXTRAS = ("tpu", "gcs")
ENDED = ("FAILED", "SUSPENDED", "SUSPENDING")  # states of a queued resource that will get no machine


@dataclass(frozen=True)
class Options(TpuVm, Selection):
    """The flags of this launcher."""

    name: str = ""
    """Name of the slice. Empty: lossline-STUDY."""


@dataclass(frozen=True)
class Slice:
    """The gcloud commands for one slice."""

    options: Options
    name: str

    def _words(self, *words: str) -> list[str]:
        place = [f"--project={self.options.project}", f"--zone={self.options.zone}"]
        return [*program(self.options.gcloud), "compute", "tpus", *words, *place]

    @property
    def create(self) -> list[str]:
        words = [
            f"--node-id={self.name}",
            f"--accelerator-type={self.options.accelerator_type}",
            f"--runtime-version={self.options.runtime_version}",
            f"--valid-until-duration={self.options.valid_for}",
        ]
        return self._words("queued-resources", "create", self.name, *words, *(["--spot"] if self.options.spot else []))

    @property
    def state(self) -> list[str]:
        return self._words("queued-resources", "describe", self.name, "--format=value(state.state)")

    def read_state(self) -> str:
        """Return the state of the request, such as WAITING_FOR_RESOURCES or ACTIVE."""
        process = subprocess.run(self.state, stdout=subprocess.PIPE, text=True)
        if process.returncode:
            raise LosslineError(f"{self.name}: gcloud does not show its state; see above")
        return process.stdout.strip()

    @property
    def delete(self) -> list[str]:
        return self._words("queued-resources", "delete", self.name, "--force", "--quiet")

    def on_all_workers(self, command: str) -> list[str]:
        return self._words("tpu-vm", "ssh", self.name, "--worker=all", f"--command={command}")


def install_command(options: Options) -> str:
    """Return the shell command that installs lossline into a virtual environment on a worker."""
    return f"python3 -m venv ~/lossline && ~/lossline/bin/pip install --quiet {shlex.quote(options.package)}"


def work_command(chosen: Chosen) -> str:
    """Return the shell command that works on one run after another.

    After a run that fails or is busy, the shell continues with the next run. A user's mistake, a request to restart or
    a crash ends the shell.
    """
    indices = " ".join(str(standing.index) for standing in chosen.runs.chosen)
    run = " ".join(shlex.quote(word) for word in chosen.words("INDEX")).replace("INDEX", "$index")
    ends = f"[ $code -eq {MISTAKE} ] || [ $code -eq {RESTART_EXIT_CODE} ] || [ $code -gt 128 ]"
    return (
        f"for index in {indices}; do ~/lossline/bin/lossline-jax {run}; code=$?; if {ends}; then exit $code; fi; done"
    )


def launch(options: Options, chosen: Chosen) -> int:
    """Request a slice, work on it and delete it. Repeat this while the slice was taken away before the last run."""
    must_be_given(options, "project", "zone", "package")
    require_extras(options.package, NEEDED_EXTRAS)
    require_bucket(options, chosen, "workers")
    if not chosen.runs.chosen:
        return 0
    tpu = Slice(options, options.name or f"lossline-{chosen.study.name.replace('_', '-').lower()}")
    if options.dry_run:
        steps = [tpu.create, tpu.state, tpu.on_all_workers(install_command(options))]
        steps += [tpu.on_all_workers(work_command(chosen)), tpu.delete]
        print("\n".join(shlex.join(step) for step in steps))
        return 0
    for _ in range(options.retries):
        if subprocess.run(tpu.create).returncode:  # the slice may belong to someone else, so do not delete it
            raise LosslineError(f"{tpu.name}: gcloud refused it; see above (another --name, if it exists already)")
        try:
            all_ended = _work_on_slice(tpu, options, chosen)
        finally:
            subprocess.run(tpu.delete)
        if all_ended:
            return int(any(run.state != "done" for run in choose(options).runs.standings))
        chosen = choose(options)
    raise LosslineError(f"{tpu.name}: taken away {options.retries} times; run the same command again to continue")


def _work_on_slice(tpu: Slice, options: Options, chosen: Chosen) -> bool:
    """Work on the runs. Return whether every run ended, well or not, before the slice was taken away."""
    while (state := tpu.read_state()) != "ACTIVE":
        if state in ENDED:
            print(f"{tpu.name}: {state}", file=sys.stderr)
            return False
        time.sleep(options.poll_seconds)
    if subprocess.run(tpu.on_all_workers(install_command(options))).returncode:
        if tpu.read_state() == "ACTIVE":  # the slice was not taken away, so another slice would fail too
            raise LosslineError(f"--package: {options.package} cannot be installed on {tpu.name}; see above")
        return False
    code = subprocess.run(tpu.on_all_workers(work_command(chosen))).returncode
    if code == MISTAKE:
        raise LosslineError(f"{tpu.name}: a run cannot be started, and could not be on another slice; see above")
    return code == 0


if __name__ == "__main__":
    main(Options, launch, __doc__)
