"""Run a SLURM cluster of two nodes on this machine: munged, slurmctld and two slurmd in a temporary folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=1
SlurmdTimeout=5
KillWait=30
InactiveLimit=0
MinJobAge=600
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why no cluster can run here. Empty: one can."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    absent = [name for name in DAEMONS if shutil.which(name, path=_path()) is None]
    return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge" if absent else ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass
class Cluster:
    """A running cluster: its daemons by name, with methods to ask SLURM and to stop nodes."""

    folder: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Return the output of a command of SLURM."""
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30)
        assert process.returncode == 0, (command, process.stderr)
        return process.stdout

    def start(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground of a new process group."""
        log = (self.folder / f"{name}.out").open("wb")
        self.daemons[name] = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def tasks(self, job: str) -> dict[str, dict[str, str]]:
        """Return the fields of `scontrol show job` for each task of a job, by its name `12_3`.

        Tasks that SLURM no longer knows are missing.
        """
        tasks = {}
        for line in self.ask("scontrol", "show", "job", job, "--oneliner").splitlines():
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            name = f"{fields.get('ArrayJobId', fields['JobId'])}_{fields.get('ArrayTaskId', '')}".rstrip("_")
            tasks[name] = fields
        return tasks

    def wait_for(self, event: str, condition, seconds: float = 120):
        """Poll until `condition()` is true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.2)
        raise AssertionError(f"{event}: not within {seconds} s\n{self.ask('squeue')}{self.ask('sinfo')}")

    def wait_for_end(self, job: str, seconds: float = 120) -> dict[str, dict[str, str]]:
        """Return the tasks of a job once none of them waits or runs."""
        waiting = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
        return self.wait_for(
            f"end of job {job}",
            lambda: (tasks := self.tasks(job)) and all(t["JobState"] not in waiting for t in tasks.values()) and tasks,
            seconds,
        )

    def kill_node(self, name: str) -> None:
        """Kill slurmd and all its processes at once, as if the machine had lost its power."""
        tasks = _with_environment(f"SLURMD_NODENAME={name}")
        stewards = {parent for task in tasks if _command(parent := _parent(task)).startswith("slurmstepd")}
        slurmd = self.daemons.pop(name)
        _kill([slurmd.pid, *stewards, *tasks])
        slurmd.wait()

    def start_node(self, name: str) -> None:
        self.start(name, "slurmd", "-D", "-N", name, "-f", str(self.folder / "slurm.conf"))


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a cluster. Afterwards no process or file of it is left, even after an error."""
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))  # short, since the path of a socket may have about 100 characters
    slurm = Cluster(folder)
    try:
        (folder / "state").mkdir()
        host = socket.gethostname().split(".")[0]
        (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=_free_ports(3)))
        _start_munge(slurm)
        slurm.start("slurmctld", "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        for name in NODES:
            (folder / f"spool_{name}").mkdir()
            slurm.start_node(name)
        slurm.wait_for("two idle nodes", lambda: _states(slurm) == {"n1": "idle", "n2": "idle"}, 30)
        yield slurm
    finally:
        _tear_down(slurm)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _start_munge(slurm: Cluster) -> None:
    key = slurm.folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    slurm.folder.chmod(0o755)
    socket_file = slurm.folder / "munge.socket"
    slurm.start(
        "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}",
        f"--pid-file={slurm.folder}/munged.pid", f"--seed-file={slurm.folder}/munged.seed", "--num-threads=2",
    )  # fmt: skip
    end = time.monotonic() + 10
    while not socket_file.exists():
        assert time.monotonic() < end, (slurm.folder / "munged.out").read_text()
        time.sleep(0.05)


def _states(slurm: Cluster) -> dict[str, str]:
    process = subprocess.run(
        ["sinfo", "-N", "-h", "-o", "%N %T"], env=slurm.environment, capture_output=True, text=True, timeout=30
    )
    return dict(line.split() for line in process.stdout.splitlines())


def _tear_down(slurm: Cluster) -> None:
    for name in NODES:
        if name in slurm.daemons:
            slurm.kill_node(name)
    for daemon in slurm.daemons.values():
        _kill([daemon.pid])
        daemon.wait()
    _kill(_with_environment(f"SLURM_CONF={slurm.folder}/slurm.conf"))  # child processes of the daemons
    shutil.rmtree(slurm.folder, ignore_errors=True)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _with_environment(setting: str) -> list[int]:
    """Return the processes that were started with this setting in their environment."""
    everyone = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in everyone if setting in _read(pid, "environ").split("\0")]


def _parent(pid: int) -> int:
    status = _read(pid, "status")
    return int(status.split("PPid:")[1].split()[0]) if "PPid:" in status else 0


def _command(pid: int) -> str:
    return _read(pid, "cmdline")


def _read(pid: int, name: str) -> str:
    """Return a file of /proc. Empty: the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""
