"""Start real processes that work together on one run of tests/support/tiny_study.py."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import ROOT, SUPPORT

TINY = str(SUPPORT / "tiny_study.py")


def environment(devices: int) -> dict[str, str]:
    """Return an environment with `devices` CPU devices and no variables of an engine."""
    engines = ("SLURM_", "TPU_", "JAX_", "XLA_FLAGS", "OMPI_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(engines)}
    # Every process but the first compiles anew, so most of its time would go to optimising programs of a few steps.
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return {**clean, **quick, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}


def prepared_study(root: Path, *flags: str) -> Path:
    """Prepare the tiny study below `root`, and return its manifest. Every run can then be started by its index."""
    for verb, more in (("prepare", ()), ("plan", ("--manifest",))):
        command = [sys.executable, "-m", "lossline_jax", verb, TINY, "--root", str(root), *more, *flags]
        subprocess.run(command, env=environment(8), check=True, capture_output=True, timeout=300)
    return root / "tiny" / "manifest.jsonl"


def copy_of(study: Path, folder: Path) -> Path:
    """Copy a prepared study into `folder`, and return the manifest of the copy."""
    shutil.copytree(study, folder / "tiny")
    return folder / "tiny" / "manifest.jsonl"


def free_coordinator() -> str:
    """Return an address of this machine on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Gang:
    """A group of processes that run one command in one folder. As a context manager it kills those that are left.

    Args:
        manifest: from `prepared_study`.
        count: number of processes.
        devices: CPU devices of each process.
        faults: (fault, at) of tests/support/faulty.py, by process. None: no faults.
        index: number of the run in the manifest.
        words: the command. Empty: `run --manifest` of this run.
    """

    def __init__(self, manifest: Path, count: int, devices: int, faults=None, index: int = 0, words=()):
        coordinator = free_coordinator()
        self.folder = manifest.parents[1]
        self.logs = [self.folder / f"p{k}.log" for k in range(count)]
        self.processes = []
        for k in range(count):
            fault, at = (faults or {}).get(k, ("none", 0))
            command = [sys.executable, str(SUPPORT / "faulty.py"), fault, str(at)]
            command += words or ["run", "--manifest", str(manifest), "--index", str(index)]
            command += ["--processes.coordinator", coordinator, "--processes.count", str(count)]
            with self.logs[k].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [*command, "--processes.index", str(k)],
                        env=environment(devices),
                        cwd=self.folder,
                        stdout=log,
                        stderr=log,
                    )
                )

    def __enter__(self) -> "Gang":
        return self

    def __exit__(self, *_) -> None:
        self.kill()

    def kill(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def wait(self, timeout: float = 240) -> list[int]:
        """Wait for all processes, and return their exit codes."""
        end = time.monotonic() + timeout
        return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]

    def seconds_to_end(self, first: int) -> float:
        """Return the seconds from the end of process `first` to the end of all."""
        self.processes[first].wait(240)
        began = time.monotonic()
        self.wait()
        return time.monotonic() - began

    def until(self, condition, timeout: float = 240) -> None:
        """Wait until `condition()` is true, while at least one process runs."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.output()
            assert any(process.poll() is None for process in self.processes), self.output()
            time.sleep(0.005)

    def output(self, k: int | None = None) -> str:
        """Return the output of process k. None: of all processes."""
        return "".join(log.read_text() for log in (self.logs if k is None else [self.logs[k]]))

    def last_line(self, k: int) -> str:
        return self.output(k).strip().splitlines()[-1]


def run_folder(manifest: Path, index: int = 0) -> Path:
    return manifest.parent / "runs" / json.loads(manifest.read_text().splitlines()[index])["run_id"]


def last_logged(manifest: Path) -> int:
    """Return the last step in the log of the first run. 0: the log has no step."""
    path = run_folder(manifest) / "steps.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def outcome(manifest: Path) -> tuple[str, list]:
    """Return the rows of the first run as text, and (step, loss, gradient norm) of its logged steps."""
    folder = run_folder(manifest)
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    rows = (manifest.parent / "losses" / "rows" / f"{folder.name}.jsonl").read_text()
    return rows, [(row["step"], row["loss_nats_per_token"], row["grad_norm"]) for row in steps]


def finish(manifest: Path, count: int = 2, devices: int = 2) -> tuple[str, list]:
    """Start the same command again, wait for its end, and return the `outcome`.

    By default it runs in two processes of two devices, as a change from four processes of one device.
    """
    with Gang(manifest, count, devices) as gang:
        assert gang.wait() == [0] * count, gang.output()
    return outcome(manifest)
