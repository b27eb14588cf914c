"""Damage each file of a study in every way, run the verbs that read it, and name the outcome of each.

    python tests/robustness/damage.py [SEED]

prints a row for every case: the file, the verb that reads it, the damage, and the outcome as `outcomes.py` names it.
The counts of each file follow. A case is SILENT if the verb ends with exit code 0 and prints or writes another number.

The study is tests/golden/old_study, rewritten in the format of this version (`as_written_now`). It also scores two
imported models: the weights of one lie in the study, those of the other beside it. Root may read every file, so the
cases of unreadable files are left out for root.
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
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.robustness.outcomes import Answer, Case, call, cases_table, counts, counts_table, faults, outcome
from tests.robustness.sound_study import OLD_STUDY, ONE_DEVICE, as_written_now, import_models, sha256

FLIPS = 3  # cases in which one bit of a file is flipped
LOGGED_LOSS = r'"loss_nats_per_token": [^,}]*'
LOSS_PHRASES = ("left out", "lacks", "missing", "not begun", "is gone")


@dataclass(frozen=True)
class Use:
    """A file of a study and a command that reads it."""

    file: str  # glob in the study's folder; the first match is damaged
    words: tuple[str, ...]  # the command line; FOLDER and RUN stand for the study's folder and its first run
    deleted: tuple[str, ...] = ()  # globs of files that are deleted first, so that the command has work to do

    @property
    def name(self) -> str:
        verb = " ".join(word for word in self.words if word not in (*ONE_DEVICE, "FOLDER"))
        return f"{self.file.removeprefix('prepared/')} by {verb}"


SCORE_AGAIN = ("losses/rows/*.jsonl",)
TRAIN_AGAIN = ("runs/*",)
EVALUATE = ("evaluate", "FOLDER", *ONE_DEVICE)
TRAIN = ("train", "FOLDER", "--only", "RUN", *ONE_DEVICE)
PREPARE = ("prepare", "FOLDER")
EXPORT = ("export-weights", "FOLDER/imported/INSIDE", "--out", "FOLDER/exported")
ARRAYS = "checkpoints/*/params/ocdbt.process_0/d/*"
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
    Use(f"runs/*/{ARRAYS}", EVALUATE, SCORE_AGAIN),
    Use("losses/unscored/*.json", ("status", "FOLDER")),
    *(Use("losses/rows/*.jsonl", words) for words in (("status", "FOLDER"), ("show", "FOLDER"), EVALUATE)),
    *(Use("imported/inside-*/model.json", words) for words in (("status", "FOLDER"), ("report", "FOLDER"), EXPORT)),
    *(Use("imported/inside-*/model.json", EVALUATE, deleted) for deleted in ((), SCORE_AGAIN)),
    *(Use(f"imported/inside-*/{name}.json", EVALUATE, SCORE_AGAIN) for name in ("tokenizer", "suite")),
    Use("imported/inside-*/tokenizer.json", EXPORT),
    Use("imported/inside-*/checkpoints/*/meta.json", EVALUATE, SCORE_AGAIN),
    *(Use(f"imported/inside-*/{ARRAYS}", words, SCORE_AGAIN) for words in (EVALUATE, EXPORT)),
    *(Use(f"imported/beside-*/{name}.json", EVALUATE, SCORE_AGAIN) for name in ("model", "tokenizer", "elsewhere")),
    Use("imported/beside-*/elsewhere.json", ("status", "FOLDER")),
    *(Use("losses/rows/inside-*.jsonl", words) for words in (("status", "FOLDER"), EVALUATE)),
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
    """Change one digit of a text into another one. A file without digits gets another byte."""
    content = path.read_bytes()
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    place = generator.choice(places or range(len(content)))
    new_digit = generator.choice([digit for digit in b"0123456789" if digit != content[place]])
    path.write_bytes(content[:place] + bytes([new_digit]) + content[place + 1 :])


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


class Laboratory:
    """Hold a sound study, damaged copies of it, and the results of each use without damage."""

    def __init__(self, folder: Path, seed: int):
        self._sound, self._copy, self._seed = folder / "sound", folder / "study", seed
        shutil.copytree(OLD_STUDY, self._sound)
        as_written_now(self._sound)
        import_models(self._sound, folder / "elsewhere")
        self._inside = next(path.name for path in self._sound.glob("imported/inside-*"))
        self._run = sorted(path.name for path in self._sound.glob("runs/*"))[0]
        self._before: dict[Use, tuple[Answer, str]] = {}

    def try_case(self, use: Use, damage_name: str, damage: Damage) -> Case:
        """Damage a copy, run the command, and compare with the results of an undamaged copy."""
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
        new_results = self._results(answer)
        messages = _new_lines(before.out, answer.out) or [
            line for line in _new_lines(before.err, answer.err) if any(phrase in line for phrase in LOSS_PHRASES)
        ]
        outcome_name = outcome(
            answer, new_results == results, healed=_content(target) != spoilt, reported=bool(messages)
        )
        detail = " / ".join(messages) if outcome_name == "told" else answer.last_line
        return Case(use.name, damage_name, outcome_name, detail.replace(str(self._copy), "STUDY"))

    def _fresh(self, use: Use) -> Path | None:
        """Make a new copy for a use, and return the file to damage, or None."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._sound, self._copy)
        for pattern in use.deleted:
            for path in self._copy.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return next((path for path in sorted(self._copy.glob(use.file)) if path.is_file()), None)

    def _call(self, use: Use) -> Answer:
        names = {"FOLDER": str(self._copy), "RUN": self._run, "INSIDE": self._inside}
        return call([re.sub("FOLDER|RUN|INSIDE", lambda name: names[name[0]], word) for word in use.words])

    def _results(self, answer: Answer) -> str:
        """Return every number that a command gave: on stdout, in tables, fits, logs and the report."""
        parts = [answer.out.replace(str(self._copy), "STUDY")]
        for pattern in ("losses/losses.csv", "fits/fits.json", "report/report.html"):
            parts += [path.read_text(errors="replace") for path in sorted(self._copy.glob(pattern)) if path.is_file()]
        parts += [sha256(path) for path in sorted(self._copy.glob("exported/*"))]
        logs = [path for path in sorted(self._copy.glob("runs/*/steps.jsonl")) if path.is_file()]
        parts += [loss for path in logs for loss in re.findall(LOGGED_LOSS, path.read_text(errors="replace"))]
        return "\n".join(parts)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None


def _new_lines(before: str, after: str) -> list[str]:
    """Return the lines that are new. Lines that differ only in numbers count as the same."""
    known = {_without_numbers(line) for line in before.splitlines()}
    return [line.strip() for line in after.splitlines() if _without_numbers(line) not in known]


def _without_numbers(text: str) -> str:
    """Return a text without its numbers and spaces."""
    return re.sub(r"[\d.eE+\-−─\s]+", " ", text)


def cases(folder: Path, seed: int, chosen: Sequence[tuple[Use, str, Damage]] | None = None) -> Iterator[Case]:
    """Try the chosen cases, or all of them."""
    laboratory = Laboratory(folder, seed)
    for case in all_cases() if chosen is None else chosen:
        yield laboratory.try_case(*case)


def all_cases() -> list[tuple[Use, str, Damage]]:
    """Return every use of a file with every damage."""
    return [(use, name, damage) for use in USES for name, damage in DAMAGES]


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        tried_cases = list(cases(Path(folder), seed))
    print(cases_table(tried_cases))
    by_file: dict[str, list[Case]] = {}
    for case in tried_cases:
        by_file.setdefault(case.use.split(" by ")[0], []).append(case)
    print(counts_table(by_file))
    print(counts(tried_cases))
    sys.exit(bool(faults(tried_cases)))


if __name__ == "__main__":
    main()
