"""A suite as tokens: every validation set and task of a study, made once for a tokenizer and kept on disk."""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from etils import epath

from lossline_jax.config.evaluation import ChoiceTask, ClozeTask, SuiteConfig, ValidationSet
from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.evaluate.packing.rows import PackedRows, Requests, fill_share, pack_sets
from lossline_jax.evaluate.tasks.cloze import cloze_items
from lossline_jax.evaluate.tasks.multiple_choice import read_items
from lossline_jax.evaluate.tasks.specs import TaskSpec, load_spec
from lossline_jax.evaluate.tokenised_set import (
    OPTIONS_APART,
    SCORING,
    TokenisedSet,
    changes_apart,
    tokenise_documents,
    tokenise_items,
)
from lossline_jax.storage.files import read_json, write_atomic, write_json
from lossline_jax.storage.object_store import expanded

if TYPE_CHECKING:
    from lossline_jax.data.corpora.prepare import PreparedCorpus
    from lossline_jax.data.tokenizers.build import Tokenizer

FORMAT = 3  # raised when the meaning of the stored rows changes


@dataclass(frozen=True)
class PreparedSet:
    """What is known of one set before any model sees it."""

    name: str
    kind: str  # "validation" or "task"
    fingerprint: str  # of the tokens and of which of them are scored
    n: int  # documents or items
    num_truncated: int  # items of a task that lost the start of their context to the window
    definition: str  # in words: what is averaged over what, in which context


@dataclass(frozen=True)
class PreparedSuite:
    """All rows of a suite for one tokenizer: of every set that can be scored, and why the others cannot."""

    fingerprint: str
    context_length: int
    sets: tuple[PreparedSet, ...]
    requests: Requests
    blocks: tuple[PackedRows, ...]  # at most six, of one compiled program
    problems: dict[str, str] = field(default_factory=dict)  # of the sets left out, by name: one line each

    @property
    def definitions(self) -> dict[tuple[str, str], str]:
        """The loss definition of each set, by its name and fingerprint."""
        return {(each.name, each.fingerprint): each.definition for each in self.sets}

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
    tokenizer, the corpora, the task specs and the content of the task files. A set with an item, document, spec or
    file that cannot be scored is left out whole, with its reason in `problems`: half a set would pass for all of it.

    Raises:
        LosslineError: a bad setting of the suite, no set that can be scored, or a damaged stored suite.
    """
    _check(suite, corpora)
    specs, unloaded = _load_specs(suite)
    identity = {
        "format": FORMAT,
        "scoring": SCORING,
        "suite": suite,
        "tokenizer": tokenizer.fingerprint,
        "corpora": {c: corpora[c].fingerprint for c in sorted(_corpora_of(suite))},
        "task_specs": specs,
        "task_spec_problems": unloaded,
        "task_files_sha256": {task.name: _sha256_of_file(task.path) for task in suite.choice},
        **_options_identity(suite, tokenizer),
    }
    folder = epath.Path(folder_of_suites) / fingerprint(identity)
    if not (folder / "manifest.json").exists():
        for name in identity["corpora"]:  # a damaged corpus is no fault of a set, to be left out and kept so
            corpora[name].verify("validation")
        sets, problems = _tokenise(suite, tokenizer, corpora, specs, unloaded)
        if not sets:
            first = next(iter(problems.values()))
            raise LosslineError(f"suite: none of its {len(problems)} sets can be scored; the first: {first}")
        _store(folder, identity, suite, sets, problems)
    return load_suite(folder)


def _options_identity(suite: SuiteConfig, tokenizer: "Tokenizer") -> dict[str, int]:
    """Return nothing for other tokenizers: their suites are what they were before there was this number."""
    return {"options_apart": OPTIONS_APART} if changes_apart(tokenizer) and (suite.cloze or suite.choice) else {}


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
    _check_sizes(suite)
    for name in sorted(_corpora_of(suite)):
        if name not in corpora:
            raise LosslineError(
                f"suite: unknown corpus {name!r}{suggestion(name, corpora)}; the study has {sorted(corpora)}"
            )


def _check_sizes(suite: SuiteConfig) -> None:
    """Of one document or item there is no standard error."""
    least = {"max_documents": 2, "max_document_bytes": 1, "max_items": 2}
    for kind in ("validation", "choice"):
        for each in getattr(suite, kind):
            for name in [name for name in least if hasattr(each, name)]:
                value = getattr(each, name)
                if value is not None and value < least[name]:
                    raise LosslineError(
                        f"suite.{kind}: {name}={value} of {each.name!r} is too few; it must be at least {least[name]}"
                    )


def _load_specs(suite: SuiteConfig) -> tuple[dict[str, TaskSpec], dict[str, str]]:
    """The specs of the tasks that have one, by task, and why each of the others cannot be loaded."""
    specs, problems = {}, {}
    for task in suite.choice:
        if task.spec is not None:
            try:
                specs[task.name] = load_spec(task.spec)
            except LosslineError as error:
                problems[task.name] = str(error)
    return specs, problems


def _sha256_of_file(path: str) -> str | None:
    """Return the digest of a file. None: it cannot be read, so the suite is made again once it can."""
    try:
        with epath.Path(expanded(path)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _tokenise(
    suite: SuiteConfig,
    tokenizer: "Tokenizer",
    corpora: Mapping[str, "PreparedCorpus"],
    specs: Mapping[str, TaskSpec],
    unloaded: Mapping[str, str],
) -> tuple[list[TokenisedSet], dict[str, str]]:
    """The sets that can be scored, in the order of the suite, and why each of the others cannot."""

    def validation(config: ValidationSet) -> TokenisedSet:
        return tokenise_documents(config, corpora[config.corpus].validation_texts(), tokenizer, suite)

    def cloze(task: ClozeTask) -> TokenisedSet:
        items = cloze_items(task, corpora[task.corpus].validation_texts())
        return tokenise_items(task.name, items, tokenizer, suite)

    def choice(task: ChoiceTask) -> TokenisedSet:
        if task.name in unloaded:
            raise LosslineError(unloaded[task.name])
        spec = specs.get(task.name)
        items = read_items(task, spec)
        return tokenise_items(task.name, items, tokenizer, suite, prompts=spec.source if spec else None)

    sets: list[TokenisedSet] = []
    problems: dict[str, str] = {}
    makers: list[tuple[Callable[[Any], TokenisedSet], Any]] = [
        *((validation, each) for each in suite.validation),
        *((cloze, each) for each in suite.cloze),
        *((choice, each) for each in suite.choice),
    ]
    for make, config in makers:
        try:
            sets.append(make(config))
        except LosslineError as error:
            problems[config.name] = str(error)
    return sets, problems


def _store(
    folder: epath.Path, identity: dict, suite: SuiteConfig, sets: list[TokenisedSet], problems: dict[str, str]
) -> None:
    requests, blocks = pack_sets([each.requests for each in sets], suite.context_length)
    arrays = _named_arrays(requests, "requests.")
    for k, block in enumerate(blocks):
        arrays |= _named_arrays(block, f"block{k}.")
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomic(folder / "rows.npz", packed.getvalue())
    manifest = {
        "fingerprint": folder.name,
        "identity": to_json(identity),
        "context_length": suite.context_length,
        "sets": [
            dataclasses.asdict(PreparedSet(s.name, s.kind, s.fingerprint, s.n, s.num_truncated, s.definition))
            for s in sets
        ],
        "problems": problems,
        "row_lengths": [block.row_length for block in blocks],
        "rows": [len(block.ids_BT) for block in blocks],
        "fill": round(fill_share(blocks), 4),
        "rows_sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
    }
    write_json(folder / "manifest.json", manifest)


def is_current(folder: epath.Path, suite: SuiteConfig, tokenizer: "Tokenizer") -> bool:
    """Return whether a stored suite has the tokens that options would get now.

    Raises:
        LosslineError: it is missing or damaged.
    """
    wanted = _options_identity(suite, tokenizer)
    stored = read_json(folder / "manifest.json").get("identity")
    return isinstance(stored, dict) and wanted.items() <= stored.items()


def load_suite(folder: epath.Path) -> PreparedSuite:
    """A stored suite.

    Raises:
        LosslineError: it is missing or damaged.
    """
    mend = "delete the folder and run `lossline-jax prepare` again"
    manifest = read_json(folder / "manifest.json", {"row_lengths": list, "rows_sha256": str}, mend)
    try:
        data = (folder / "rows.npz").read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["rows_sha256"]:
            raise LosslineError(f"{folder}/rows.npz: damaged (its SHA-256 is not the manifest's); {mend}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            requests = Requests(**_fields(arrays, "requests."))
            blocks = [PackedRows(**_fields(arrays, f"block{k}.")) for k in range(len(manifest["row_lengths"]))]
        if manifest["fingerprint"] != folder.name:
            raise LosslineError(f"{folder}: holds the suite {manifest['fingerprint']!r}; {mend}")
        return PreparedSuite(
            fingerprint=manifest["fingerprint"],
            context_length=manifest["context_length"],
            sets=tuple(PreparedSet(**each) for each in manifest["sets"]),
            requests=requests,
            blocks=tuple(blocks),
            problems=manifest["problems"],
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, BadZipFile) as error:
        raise LosslineError(f"{folder}: this stored suite is incomplete ({error}); {mend}") from error


# A field and its name in `rows.npz`, which stays as it was so that suites stored before stay valid.
_STORED_NAMES = {"duplicate_of_Q": "twin_Q", "visible_until_BT": "until_BT", "has_branches": "branching"}
_FIELD_NAMES = {stored: field for field, stored in _STORED_NAMES.items()}


def _named_arrays(record: Requests | PackedRows, prefix: str) -> dict[str, Any]:
    """Return the fields of one dataclass by their stored names."""
    return {f"{prefix}{_STORED_NAMES.get(name, name)}": value for name, value in vars(record).items()}


def _fields(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Return the fields of one dataclass from its stored arrays; single values as Python's own."""
    field_arrays = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    return {_FIELD_NAMES.get(name, name): array if array.ndim else array.item() for name, array in field_arrays.items()}
