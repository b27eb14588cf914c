"""Real processes that work on one run of tests/support/tiny_study.py together."""

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
    engines = ("SLURM_", "TPU_", "JAX_", "XLA_FLAGS", "OMPI_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(engines)}
    return {**clean, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}


def prepared_study(root: Path, *flags: str) -> Path:
    """A study's folder in which every run can be begun by its index; returns its manifest."""
    for verb, more in (("prepare", ()), ("plan", ("--manifest",))):
        command = [sys.executable, "-m", "lossline_jax", verb, TINY, "--root", str(root), *more, *flags]
        subprocess.run(command, env=environment(8), check=True, capture_output=True, timeout=300)
    return root / "tiny" / "manifest.jsonl"


def copy_of(study: Path, folder: Path) -> Path:
    """A copy of a prepared study; returns its manifest."""
    shutil.copytree(study, folder / "tiny")
    return folder / "tiny" / "manifest.jsonl"


def free_coordinator() -> str:
    """Return an address of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Gang:
    """Processes of one command, in a folder of their own; a context manager that leaves none behind.

    Args:
        manifest: of `prepared_study`.
        count: processes.
        devices: of each.
        faults: (fault, at) of tests/support/faulty.py by process.
        index: of the run.
        words: the command; by default `run --manifest` of this run.
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
        """The exit codes of all."""
        end = time.monotonic() + timeout
        return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]

    def seconds_to_end(self, of: int) -> float:
        """From the end of process `of` to the end of all."""
        self.processes[of].wait(240)
        began = time.monotonic()
        self.wait()
        return time.monotonic() - began

    def until(self, condition, timeout: float = 240) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.told()
            assert any(process.poll() is None for process in self.processes), self.told()
            time.sleep(0.005)

    def told(self, k: int | None = None) -> str:
        """What process k, or all, wrote."""
        return "".join(log.read_text() for log in (self.logs if k is None else [self.logs[k]]))

    def last_line(self, k: int) -> str:
        return self.told(k).strip().splitlines()[-1]


def run_folder(manifest: Path, index: int = 0) -> Path:
    return manifest.parent / "runs" / json.loads(manifest.read_text().splitlines()[index])["run_id"]


def last_logged(manifest: Path) -> int:
    """The last step in the log of the first run; 0 before it."""
    path = run_folder(manifest) / "steps.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def outcome(manifest: Path) -> tuple[str, list]:
    """The rows of the first run as they stand in their file, and the losses of its steps."""
    folder = run_folder(manifest)
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    rows = (manifest.parent / "losses" / "rows" / f"{folder.name}.jsonl").read_text()
    return rows, [(row["step"], row["loss_nats_per_token"], row["grad_norm"]) for row in steps]


def finish(manifest: Path, count: int = 2, devices: int = 2) -> tuple[str, list]:
    """What comes of starting the same command again; by default in other processes than four of one device."""
    with Gang(manifest, count, devices) as gang:
        assert gang.wait() == [0] * count, gang.told()
    return outcome(manifest)
