"""A suite as tokens: every validation set and task of a study, made once for a tokenizer and kept on disk."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from lossline_jax.config import fingerprint, suggestion, to_json
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.cloze import cloze_items
from lossline_jax.evaluate.config import SuiteConfig
from lossline_jax.evaluate.rows import Requests, RowBlock, fill_share, mix_sets
from lossline_jax.evaluate.sets import TokenisedSet, tokenise_documents, tokenise_items
from lossline_jax.evaluate.tasks import read_items
from lossline_jax.rundir import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from lossline_jax.data.prepare import PreparedCorpus
    from lossline_jax.data.tokenizers import Tokenizer

FORMAT = 1  # raised when the meaning of the stored rows changes


@dataclass(frozen=True)
class PreparedSet:
    """What is known of one set before any model sees it."""

    name: str
    kind: str  # "validation" or "task"
    fingerprint: str  # of the tokens and of which of them are scored
    n: int  # documents or items
    num_truncated: int  # items of a task that lost the start of their context to the window


@dataclass(frozen=True)
class PreparedSuite:
    """All rows of a suite for one tokenizer."""

    fingerprint: str
    context_length: int
    sets: tuple[PreparedSet, ...]
    requests: Requests
    blocks: tuple[RowBlock, ...]  # at most three, one a row length

    @property
    def fill(self) -> float:
        """Share of the computed positions that hold a token and no padding."""
        return fill_share(self.blocks)


def prepare_suite(
    suite: SuiteConfig,
    tokenizer: "Tokenizer",
    corpora: Mapping[str, "PreparedCorpus"],
    folder_of_suites: epath.Path,
) -> PreparedSuite:
    """The suite in the tokens of one tokenizer: read where it is on disk already, else made and stored.

    Stored as `<fingerprint>/rows.npz` and, after it, `manifest.json`; the fingerprint covers the suite, the
    tokenizer, the corpora and the content of the task files.

    Raises:
        LosslineError: a setting, set, file or item that cannot be scored, or a damaged stored suite.
    """
    _check(suite, corpora)
    identity = {
        "format": FORMAT,
        "suite": to_json(suite),
        "tokenizer": tokenizer.fingerprint,
        "corpora": {c: corpora[c].fingerprint for c in sorted(_corpora_of(suite))},
        "task_files_sha256": {task.name: _sha256_of_file(task.path) for task in suite.choice},
    }
    folder = epath.Path(folder_of_suites) / fingerprint(identity)
    if not (folder / "manifest.json").exists():
        _store(folder, identity, suite, _tokenise(suite, tokenizer, corpora))
    return load_suite(folder)


def _corpora_of(suite: SuiteConfig) -> set[str]:
    return {item.corpus for item in (*suite.validation, *suite.cloze)}


def _check(suite: SuiteConfig, corpora: Mapping[str, Any]) -> None:
    if not suite.set_names:
        raise LosslineError("suite: it has no sets; add a ValidationSet, a ClozeTask or a ChoiceTask")
    for name in suite.set_names:
        if suite.set_names.count(name) > 1:
            raise LosslineError(f"suite: two sets are called {name!r}; rename or remove one")
    if not 0 <= suite.overlap < suite.context_length:
        raise LosslineError(
            f"suite.overlap: {suite.overlap} is not in 0 .. {suite.context_length - 1}; it must be less than "
            "suite.context_length"
        )
    for name in sorted(_corpora_of(suite)):
        if name not in corpora:
            raise LosslineError(
                f"suite: unknown corpus {name!r}{suggestion(name, corpora)}; the study has {sorted(corpora)}"
            )


def _sha256_of_file(path: str) -> str:
    try:
        return hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise LosslineError(f"{path}: cannot read this task file ({error.strerror or error})") from error


def _tokenise(
    suite: SuiteConfig, tokenizer: "Tokenizer", corpora: Mapping[str, "PreparedCorpus"]
) -> list[TokenisedSet]:
    validation = [
        tokenise_documents(item, corpora[item.corpus].validation_texts(), tokenizer, suite) for item in suite.validation
    ]
    cloze = [(task.name, cloze_items(task, corpora[task.corpus].validation_texts())) for task in suite.cloze]
    choice = [(task.name, read_items(task)) for task in suite.choice]
    return validation + [tokenise_items(name, items, tokenizer, suite) for name, items in cloze + choice]


def _store(folder: epath.Path, identity: dict, suite: SuiteConfig, sets: list[TokenisedSet]) -> None:
    requests, blocks = mix_sets([each.requests for each in sets], suite.context_length)
    arrays = {f"requests.{name}": array for name, array in vars(requests).items()}
    for k, block in enumerate(blocks):
        arrays |= {f"block{k}.{name}": array for name, array in vars(block).items()}
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    write_atomic(folder / "rows.npz", packed.getvalue())
    manifest = {
        "fingerprint": folder.name,
        "identity": identity,
        "context_length": suite.context_length,
        "sets": [dataclasses.asdict(PreparedSet(s.name, s.kind, s.fingerprint, s.n, s.num_truncated)) for s in sets],
        "row_lengths": [block.row_length for block in blocks],
        "rows": [len(block.ids_BT) for block in blocks],
        "fill": round(fill_share(blocks), 4),
        "rows_sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
    }
    write_json(folder / "manifest.json", manifest)


def load_suite(folder: epath.Path) -> PreparedSuite:
    """A stored suite.

    Raises:
        LosslineError: it is missing or damaged.
    """
    manifest = read_json(folder / "manifest.json")
    mend = "delete the folder and run `lossline prepare` again"
    try:
        data = (folder / "rows.npz").read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["rows_sha256"]:
            raise LosslineError(f"{folder}/rows.npz: damaged (its SHA-256 is not the manifest's); {mend}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            requests = Requests(**_fields(arrays, "requests."))
            blocks = [RowBlock(**_fields(arrays, f"block{k}.")) for k in range(len(manifest["row_lengths"]))]
        return PreparedSuite(
            fingerprint=manifest["fingerprint"],
            context_length=manifest["context_length"],
            sets=tuple(PreparedSet(**each) for each in manifest["sets"]),
            requests=requests,
            blocks=tuple(blocks),
        )
    except (OSError, KeyError, TypeError) as error:
        raise LosslineError(f"{folder}: this stored suite is incomplete ({error}); {mend}") from error


def _fields(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
