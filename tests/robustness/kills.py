"""Kill commands at a write, a rename, a new folder or a moment, and then run them again.

python tests/robustness/kills.py [CASES] [SEED]      the table of all cases, seeded; fails if a case is a fault

Every command runs in a fork of this process, which has imported all modules: the imports take most of a start. SIGKILL
ends the process at once, so it removes no files.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jax  # noqa: F401  (before the forks)

from lossline_jax.cli.main import main as lossline
from lossline_jax.data.token_store import VERIFIED_FILE
from lossline_jax.pipeline import (
    runner,  # noqa: F401  (before the forks)
)
from tests.robustness.outcomes import Answer, Case, cases_table, counts, faults, outcome

TESTS = Path(__file__).parents[1]
OLD_STUDY, TINY = TESTS / "golden" / "old_study", TESTS / "support" / "tiny_study.py"
SMALL = ("--max-bytes", "60000", "--tokens", "2048")
KINDS = {"os.rename": "rename", "os.mkdir": "new folder"}
SECONDS = 240


@dataclass(frozen=True)
class Verb:
    """A command, and the study on which it runs."""

    name: str

    def words(self, folder: Path) -> list[str]:
        """Return the arguments of the command on a study of `begin`."""
        flags = ["--execution.cpu-devices", "2"]
        if self.name == "prepare":
            return ["prepare", str(TINY), "--root", str(folder), *SMALL]
        only = ["--only", _first_run()] if self.name in ("train", "evaluate") else []
        return [self.name, str(folder / "study"), *only, *(flags if only else [])]

    def begin(self, folder: Path) -> None:
        """Make the folder as the commands before this one leave it."""
        if self.name == "prepare":
            folder.mkdir()
            return
        study = Path(shutil.copytree(OLD_STUDY, folder / "study"))
        run_id = _first_run()
        if self.name == "train":
            shutil.rmtree(study / "runs" / run_id)
        if self.name in ("train", "evaluate"):
            (study / "losses" / "rows" / f"{run_id}.jsonl").unlink()
        if self.name == "report":
            shutil.rmtree(study / "report")


@dataclass(frozen=True)
class Kill:
    """A kill before the `at`-th event of a kind, or `at` seconds after the start."""

    kind: str  # write, rename, new folder, seconds
    at: float


VERBS = tuple(Verb(name) for name in ("prepare", "train", "evaluate", "report"))


def _first_run() -> str:
    return json.loads((OLD_STUDY / "prepared" / "prepared.json").read_text())["suites"].popitem()[0]


def fork(arguments: list[str], folder: Path, kill: Kill | None = None) -> int:
    """Start a command whose output goes to files beside `folder`. Return the process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder.with_suffix(f".{name}"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
        event_counts = _watch_events(folder, kill)
        lossline(arguments)
        folder.with_suffix(".json").write_text(json.dumps(event_counts))
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch_events(folder: Path, kill: Kill | None) -> Counter:
    """Count the writes below `folder`, and kill the process before the event of `kill`."""
    event_counts, root = Counter(), str(folder)

    def hook(event: str, args: tuple) -> None:
        kind = KINDS.get(event)
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            kind = "write"
        if kind and str(args[0]).startswith(root + "/"):
            event_counts[kind] += 1
            if kill and kill.kind == kind and event_counts[kind] == kill.at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return event_counts


def wait(pid: int, folder: Path, kill: Kill | None = None) -> Answer:
    """Wait until the command of `fork` ends, and return its answer."""
    began, limit = time.monotonic(), kill.at if kill and kill.kind == "seconds" else SECONDS
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() - began > limit:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    return Answer(code, *(folder.with_suffix(f".{name}").read_text(errors="replace") for name in ("out", "err")))


def run(arguments: list[str], folder: Path, kill: Kill | None = None) -> Answer:
    """Start a command, wait for it, and return its answer."""
    return wait(fork(arguments, folder, kill), folder, kill)


def numbers(folder: Path) -> dict[str, object]:
    """Return the contents of a study's folder without times of day, locks and leftovers of killed processes."""
    contents: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.name == "steps.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            contents[name] = [(row["step"], row["loss_nats_per_token"], row["grad_norm"]) for row in rows]
        elif path.name == "done.json":
            record = json.loads(path.read_text())
            contents[name] = record["run_fingerprint"], record["step"], record["tokens"]
        elif path.name == VERIFIED_FILE:
            states = json.loads(path.read_text())
            contents[name] = {file: state[:2] for file, state in states.items() if file != "checksum"}  # SHA-256, size
        elif "/checkpoints/" in name:
            contents[name.split("/checkpoints/")[0] + "/checkpoints/" + path.relative_to(folder).parts[-2]] = True
        elif "tensorboard" not in name and path.name not in ("alive.json", "lock") and path.suffix != ".lock":
            contents[name] = path.read_bytes()
    return {name: value for name, value in contents.items() if not name.endswith(("/d", "/ocdbt.process_0"))}


class Bench:
    """Run each undisturbed command once, and compare the cases with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._quiet: dict[Verb, tuple[dict, Counter, float]] = {}

    def quiet(self, verb: Verb) -> tuple[dict, Counter, float]:
        """Return the numbers of an undisturbed command, the counts of its events, and its seconds."""
        if verb not in self._quiet:
            folder = self.folder / f"quiet-{verb.name}"
            verb.begin(folder)
            began = time.monotonic()
            answer = run(verb.words(folder), folder)
            assert answer.code == 0, answer.err
            events = Counter(json.loads(folder.with_suffix(".json").read_text()))
            self._quiet[verb] = numbers(folder), events, time.monotonic() - began
        return self._quiet[verb]

    def case(self, verb: Verb, kill: Kill) -> Case:
        """Kill a command, run it again, and compare with the undisturbed command."""
        expected = self.quiet(verb)[0]
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix="case-")) / "root"
        verb.begin(folder)
        killed = run(verb.words(folder), folder, kill)
        second_answer = run(verb.words(folder), folder)
        actual = numbers(folder)
        differing = sorted(k for k in expected.keys() | actual.keys() if expected.get(k) != actual.get(k))
        outcome_name = outcome(second_answer, equal=not differing)
        if killed.code not in (-signal.SIGKILL, 0):
            outcome_name, differing = "MUTE", [f"exit code {killed.code} instead of the kill"]
        damage = f"killed {kill.at:.2f} s after its start" if kill.kind == "seconds" else f"{kill.kind} {kill.at}"
        shutil.rmtree(folder.parent)
        return Case(verb.name, damage, outcome_name, ", ".join(differing) or second_answer.last_line)

    def kills(self, count: int, seed: int) -> list[tuple[Verb, Kill]]:
        """Return seeded cases that take the verbs and kinds in turn."""
        rng, chosen = random.Random(seed), []
        for number in range(count):
            verb = VERBS[number % len(VERBS)]
            _, events, seconds = self.quiet(verb)
            kind = ("write", "rename", "seconds", "new folder")[number // len(VERBS) % 4]
            if kind == "seconds" or not events[kind]:
                chosen.append((verb, Kill("seconds", rng.uniform(0.05, 0.95) * seconds)))
            else:
                chosen.append((verb, Kill(kind, rng.randint(1, events[kind]))))
        return chosen


def main(count: int = 26, seed: int = 0) -> int:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        cases = [bench.case(verb, kill) for verb, kill in bench.kills(count, seed)]
    print(cases_table(cases))
    print(counts(cases))
    return len(faults(cases))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
