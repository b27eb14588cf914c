"""Damage each file of a study in every way, run the verbs that read it, and say what came of it.

    python tests/robustness/damage.py [SEED]

prints a row for every case: which file was read by which verb, the damage, and the outcome in the words of
`outcomes.py`. A case is SILENT if the verb ends with exit code 0 and another number in what it prints or writes.
The study is tests/golden/old_study, written again as this version writes it (`as_written_now`). A file that may not
be read cannot be tried by root, who may read everything: those cases are left out then.
"""

import os
import random
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from etils import epath
from robustness.outcomes import Answer, Case, call, cases_table, counts, faults, outcome

from lossline_jax.data.folders import MANIFEST
from lossline_jax.experiment import open_study
from lossline_jax.pipeline import write_manifest
from lossline_jax.rundir import read_json, write_json
from lossline_jax.table import append_rows, read_rows, write_table
from lossline_jax.train.steplog import StepLog

OLD_STUDY = Path(__file__).parents[1] / "golden" / "old_study"
ONE_DEVICE = ("--execution.data-parallel", "1", "--execution.no-tensorboard")
FLIPS = 3  # bits of a file that are flipped, one a case
LOGGED_LOSS = r'"loss_nats_per_token": [^,}]*'
WORDS_OF_LOSS = ("left out", "lacks", "not begun", "belong to no run", "is gone")


@dataclass(frozen=True)
class Use:
    """A file of a study and a command that reads it."""

    file: str  # glob in the study's folder; the first match is damaged
    words: tuple[str, ...]  # of the command; FOLDER and RUN stand for the study's folder and its first run
    gone: tuple[str, ...] = ()  # globs of what is deleted first, so that the command has something to do

    @property
    def name(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]} by {' '.join(word for word in self.words if word not in ONE_DEVICE)}"


SCORE_AGAIN = ("losses/rows/*.jsonl",)
TRAIN_AGAIN = ("runs/*",)
EVALUATE = ("evaluate", "FOLDER", *ONE_DEVICE)
TRAIN = ("train", "FOLDER", "--only", "RUN", *ONE_DEVICE)
PREPARE = ("prepare", "FOLDER")
USES = (
    *(Use("study.json", words) for words in (("plan", "FOLDER"), ("status", "FOLDER"), EVALUATE)),
    Use("manifest.jsonl", ("resubmit", "FOLDER")),
    Use("manifest.jsonl", ("run", "--manifest", "FOLDER", "--index", "1")),
    *(Use("prepared/prepared.json", words) for words in (("status", "FOLDER"), EVALUATE, ("report", "FOLDER"))),
    Use("prepared/corpora/docs-*/manifest.json", ("report", "FOLDER")),
    Use("prepared/corpora/docs-*/manifest.json", EVALUATE),
    Use("prepared/corpora/docs-*/train.jsonl", PREPARE, ("prepared/stores/*",)),
    Use("prepared/corpora/docs-*/train.jsonl", PREPARE, ("prepared/tokenizers/*",)),
    Use("prepared/corpora/docs-*/validation.jsonl", PREPARE, ("prepared/suites/*",)),
    Use("prepared/tokenizers/*/tokenizer.model", EVALUATE),
    Use("prepared/tokenizers/*/tokenizer.model", PREPARE),
    Use("prepared/tokenizers/*/manifest.json", EVALUATE),
    Use("prepared/stores/code-*/manifest.json", TRAIN, TRAIN_AGAIN),
    Use("prepared/stores/code-*/manifest.json", PREPARE),
    Use("prepared/stores/code-*/tokens-*.bin", TRAIN, TRAIN_AGAIN),
    Use("prepared/stores/code-*/tokens-*.bin", PREPARE),
    Use("prepared/stores/code-*/verified.json", TRAIN, TRAIN_AGAIN),
    *(Use(f"prepared/stores/code-*/document_{name}.npy", PREPARE) for name in ("offsets", "bytes")),
    *(Use("prepared/suites/*/manifest.json", words) for words in (("status", "FOLDER"), EVALUATE)),
    Use("prepared/suites/*/rows.npz", EVALUATE, SCORE_AGAIN),
    Use("runs/*/claim.json", ("evaluate", "FOLDER", "--only", "RUN", *ONE_DEVICE), SCORE_AGAIN),
    Use("runs/*/claim.json", TRAIN),
    *(Use("runs/*/steps.jsonl", words) for words in (("status", "FOLDER"), ("report", "FOLDER"))),
    *(Use("runs/*/done.json", words) for words in (("status", "FOLDER"), TRAIN)),
    *(Use("runs/*/checkpoints/*/meta.json", words, SCORE_AGAIN) for words in (("status", "FOLDER"), EVALUATE)),
    Use("runs/*/checkpoints/*/params/ocdbt.process_0/d/*", EVALUATE, SCORE_AGAIN),
    Use("losses/unscored/*.json", ("status", "FOLDER")),
    *(Use("losses/rows/*.jsonl", words) for words in (("status", "FOLDER"), ("show", "FOLDER"), EVALUATE)),
    *(Use("losses/losses.parquet", (verb, "FOLDER")) for verb in ("fit", "compare", "report")),
    *(Use("fits/fits.json", (verb, "FOLDER")) for verb in ("show", "report")),
)
Damage = Callable[[Path, random.Random], None]


def flip_bit(path: Path, generator: random.Random) -> None:
    """Flip one bit anywhere."""
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def change_digit(path: Path, generator: random.Random) -> None:
    """Change one digit of a text into another, as a hand or a bad disk may; a binary file gets another byte."""
    content = path.read_bytes()
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    place = generator.choice(places or range(len(content)))
    other = generator.choice([digit for digit in b"0123456789" if digit != content[place]])
    path.write_bytes(content[:place] + bytes([other]) + content[place + 1 :])


def cut_in_half(path: Path, generator: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, generator: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, generator: random.Random) -> None:
    path.unlink()


def replace_by_folder(path: Path, generator: random.Random) -> None:
    path.unlink()
    path.mkdir()


def replace_by_null(path: Path, generator: random.Random) -> None:
    path.write_text("{}")


def make_unreadable(path: Path, generator: random.Random) -> None:
    path.chmod(0)


DAMAGES: tuple[tuple[str, Damage], ...] = (
    *((f"bit {k + 1} flipped", flip_bit) for k in range(FLIPS)),
    ("a digit changed", change_digit),
    ("cut in half", cut_in_half),
    ("emptied", empty),
    ("deleted", delete),
    ("replaced by {}", replace_by_null),
    ("replaced by a folder", replace_by_folder),
    *((("unreadable", make_unreadable),) if os.geteuid() else ()),
)


def as_written_now(folder: Path) -> None:
    """Write every file of an old study's folder again, so that it has the checksums of this version."""
    study, directory = open_study(str(folder))
    for path in map(epath.Path, folder.rglob("*.json")):
        if not path.name.startswith("."):
            write_json(path, read_json(path))
    for path in directory.corpora.iterdir():
        manifest = read_json(path / MANIFEST)
        for split in ("train", "validation"):
            manifest[split]["sha256"] = _sha256(Path(path / f"{split}.jsonl"))
        write_json(path / MANIFEST, manifest)
    rows = []
    for path in map(epath.Path, sorted(folder.glob("losses/rows/*.jsonl"))):
        of_run = read_rows(path)
        path.unlink()
        append_rows(path, of_run)
        rows += of_run
    write_table(rows, directory.losses_csv, directory.losses_parquet)
    for run in study.runs:
        StepLog(directory.run(run.run_id), after_step=run.num_steps)
    write_json(directory.unscored_file(study.runs[0].run_id), {"reason": "step 5: its checkpoint is gone"})
    write_manifest(study, directory)


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


class Laboratory:
    """A sound study, copies of it that are damaged, and what each use gives without damage."""

    def __init__(self, folder: Path, seed: int):
        self._sound, self._copy, self._seed = folder / "sound", folder / "study", seed
        shutil.copytree(OLD_STUDY, self._sound)
        as_written_now(self._sound)
        self._run = sorted(path.name for path in self._sound.glob("runs/*"))[0]
        self._before: dict[Use, tuple[Answer, str]] = {}

    def try_case(self, use: Use, damage_name: str, damage: Damage) -> Case:
        """Damage a copy, run the command, and compare with what an undamaged copy gives."""
        if use not in self._before:
            self._fresh(use)
            answer = self._call(use)
            assert answer.code == 0, f"{use.name}, undamaged: {answer.err}"
            self._before[use] = answer, self._results(answer)
        target = self._fresh(use)
        if target is None:
            return Case(use.name, damage_name, "without effect", "there is no such file")
        generator = random.Random(zlib.crc32(f"{self._seed} {use.name} {damage_name}".encode()))
        damage(target, generator)
        spoilt = _content(target)
        answer, (before, results) = self._call(use), self._before[use]
        found = self._results(answer)
        told = _words(answer.out) != _words(before.out) or any(word in answer.err for word in WORDS_OF_LOSS)
        fewer = _numbers(found) <= _numbers(results)
        word = outcome(answer, found == results, healed=_content(target) != spoilt, told=told or fewer)
        return Case(use.name, damage_name, word, answer.last_line.replace(str(self._copy), "STUDY"))

    def _fresh(self, use: Use) -> Path | None:
        """A new copy for a use; the file to damage, if there is one."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._sound, self._copy)
        for pattern in use.gone:
            for path in self._copy.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return next((path for path in sorted(self._copy.glob(use.file)) if path.is_file()), None)

    def _call(self, use: Use) -> Answer:
        names = {"FOLDER": str(self._copy), "RUN": self._run}
        return call([names.get(word, word) for word in use.words])

    def _results(self, answer: Answer) -> str:
        """Every number that a command gave: on stdout, in tables, fits, logs and the report."""
        parts = [answer.out.replace(str(self._copy), "STUDY")]
        for pattern in ("losses/losses.csv", "fits/fits.json", "report/report.html"):
            parts += [path.read_text(errors="replace") for path in sorted(self._copy.glob(pattern)) if path.is_file()]
        logs = [path for path in sorted(self._copy.glob("runs/*/steps.jsonl")) if path.is_file()]
        parts += [loss for path in logs for loss in re.findall(LOGGED_LOSS, path.read_text(errors="replace"))]
        return "\n".join(parts)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None


def _words(text: str) -> str:
    """A text without its numbers and spaces."""
    return re.sub(r"[\d.eE+\-−─\s]+", " ", text)


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", text))


def cases(folder: Path, seed: int, chosen: Sequence[tuple[Use, str, Damage]] | None = None) -> Iterator[Case]:
    """Try the chosen cases, or all of them."""
    laboratory = Laboratory(folder, seed)
    for case in all_cases() if chosen is None else chosen:
        yield laboratory.try_case(*case)


def all_cases() -> list[tuple[Use, str, Damage]]:
    """Every use of a file with every damage."""
    return [(use, name, damage) for use in USES for name, damage in DAMAGES]


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        found = list(cases(Path(folder), seed))
    print(cases_table(found))
    print(counts(found))
    sys.exit(bool(faults(found)))


if __name__ == "__main__":
    main()
