"""Prepare a suite: tokenise every validation set and task of a study once for a tokenizer, and store the rows on disk.

Read `PreparedSuite` and `prepare_suite` first.
"""

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
from lossline_jax.storage.files import file_sha256, read_json, write_atomic, write_json
from lossline_jax.storage.object_store import expanded

if TYPE_CHECKING:
    from lossline_jax.data.corpora.prepare import PreparedCorpus
    from lossline_jax.data.tokenizers.build import Tokenizer

FORMAT = 3  # version of the stored rows; raise it when their meaning changes


@dataclass(frozen=True)
class PreparedSet:
    """A description of one set that is ready to be scored."""

    name: str
    kind: str  # "validation" or "task"
    fingerprint: str  # fingerprint of the tokens and of the choice of scored tokens
    n: int  # documents or items
    num_truncated: int  # items of a task whose context lost its start, because the window is too short
    definition: str  # the loss in words: the quantity, the average, and the context


@dataclass(frozen=True)
class PreparedSuite:
    """A suite in the tokens of one tokenizer: the rows of each set that can be scored, and the problems of the rest."""

    fingerprint: str
    context_length: int  # inputs of the longest row, in tokens
    sets: tuple[PreparedSet, ...]
    requests: Requests
    blocks: tuple[PackedRows, ...]  # at most six, scored by one compiled program
    problems: dict[str, str] = field(default_factory=dict)  # one line for each set that is left out, by name

    @property
    def definitions(self) -> dict[tuple[str, str], str]:
        """The loss definition of each set, by the set's name and fingerprint."""
        return {(prepared_set.name, prepared_set.fingerprint): prepared_set.definition for prepared_set in self.sets}

    @property
    def fill(self) -> float:
        """The share of computed positions that hold a token and not padding."""
        return fill_share(self.blocks)


def prepare_suite(
    suite: SuiteConfig,
    tokenizer: "Tokenizer",
    corpora: Mapping[str, "PreparedCorpus"],
    folder_of_suites: epath.Path,
) -> PreparedSuite:
    """Return the suite in the tokens of one tokenizer. It is made and stored unless it is on disk already.

    The suite is stored as `<fingerprint>/rows.npz` and after that `<fingerprint>/manifest.json`. The fingerprint covers
    the suite, the tokenizer, the corpora, the task specs and the content of the task files.

    A set is left out whole if an item, document, spec or file of it cannot be scored, because nobody would notice that
    a part is missing. `problems` has the reason.

    Args:
        suite: the sets and tasks, and the context.
        tokenizer: the tokenizer of the runs to score.
        corpora: the prepared corpora of the study, by name.
        folder_of_suites: the folder that holds a folder for each suite.

    Raises:
        LosslineError: a setting of the suite is invalid, no set can be scored, or the stored suite is damaged.
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
        for name in identity["corpora"]:  # here, because a damaged corpus must not end up in `problems`
            corpora[name].verify("validation")
        sets, problems = _tokenise(suite, tokenizer, corpora, specs=specs, unloaded=unloaded)
        if not sets:
            first = next(iter(problems.values()))
            raise LosslineError(f"suite: none of its {len(problems)} sets can be scored; the first: {first}")
        _store(folder, sets, identity=identity, context_length=suite.context_length, problems=problems)
    return load_suite(folder)


def _options_identity(suite: SuiteConfig, tokenizer: "Tokenizer") -> dict[str, int]:
    """Return the part of the identity that depends on `OPTIONS_APART`.

    It is empty for a tokenizer that `OPTIONS_APART` does not concern, so suites stored before that number stay valid.
    """
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
    """Refuse limits that are too small. A standard error needs at least two documents or items."""
    least = {"max_documents": 2, "max_document_bytes": 1, "max_items": 2}
    for kind in ("validation", "choice"):
        for config in getattr(suite, kind):
            for name in [name for name in least if hasattr(config, name)]:
                value = getattr(config, name)
                if value is not None and value < least[name]:
                    raise LosslineError(
                        f"suite.{kind}: {name}={value} of {config.name!r} is too few; it must be at least {least[name]}"
                    )


def _load_specs(suite: SuiteConfig) -> tuple[dict[str, TaskSpec], dict[str, str]]:
    """Return the specs by task name, and for each spec that cannot be loaded the problem by task name."""
    specs, problems = {}, {}
    for task in suite.choice:
        if task.spec is not None:
            try:
                specs[task.name] = load_spec(task.spec)
            except LosslineError as error:
                problems[task.name] = str(error)
    return specs, problems


def _sha256_of_file(path: str) -> str | None:
    """Return the digest of a file. None: the file cannot be read, so the suite is made again when the file is there."""
    try:
        return file_sha256(epath.Path(expanded(path)))
    except OSError:
        return None


def _tokenise(
    suite: SuiteConfig,
    tokenizer: "Tokenizer",
    corpora: Mapping[str, "PreparedCorpus"],
    *,
    specs: Mapping[str, TaskSpec],
    unloaded: Mapping[str, str],
) -> tuple[list[TokenisedSet], dict[str, str]]:
    """Return the sets that can be scored, in the order of the suite, and the problems of the other sets by name."""

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
        *((validation, set_config) for set_config in suite.validation),
        *((cloze, set_config) for set_config in suite.cloze),
        *((choice, set_config) for set_config in suite.choice),
    ]
    for make, config in makers:
        try:
            sets.append(make(config))
        except LosslineError as error:
            problems[config.name] = str(error)
    return sets, problems


def _store(
    folder: epath.Path, sets: list[TokenisedSet], *, identity: dict, context_length: int, problems: dict[str, str]
) -> None:
    requests, blocks = pack_sets([tokenised.requests for tokenised in sets], context_length)
    arrays = _named_arrays(requests, "requests.")
    for k, block in enumerate(blocks):
        arrays |= _named_arrays(block, f"block{k}.")
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomic(folder / "rows.npz", packed.getvalue())
    manifest = {
        "fingerprint": folder.name,
        "identity": to_json(identity),
        "context_length": context_length,
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
    """Return whether the options of a stored suite have the same tokens as a suite that is made now.

    Args:
        folder: the folder of the stored suite.
        suite: the configuration of the suite.
        tokenizer: the tokenizer of the suite.

    Raises:
        LosslineError: the stored suite is missing or damaged.
    """
    present_identity = _options_identity(suite, tokenizer)
    stored_identity = read_json(folder / "manifest.json").get("identity")
    return isinstance(stored_identity, dict) and present_identity.items() <= stored_identity.items()


def load_suite(folder: epath.Path) -> PreparedSuite:
    """Read a stored suite.

    Args:
        folder: the folder of the stored suite.

    Raises:
        LosslineError: the stored suite is missing or damaged.
    """
    fix = "delete the folder and run `lossline-jax prepare` again"
    manifest = read_json(folder / "manifest.json", {"row_lengths": list, "rows_sha256": str}, fix)
    try:
        data = (folder / "rows.npz").read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["rows_sha256"]:
            raise LosslineError(f"{folder}/rows.npz: damaged (its SHA-256 is not the manifest's); {fix}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            requests = Requests(**_fields(arrays, "requests."))
            blocks = [PackedRows(**_fields(arrays, f"block{k}.")) for k in range(len(manifest["row_lengths"]))]
        if manifest["fingerprint"] != folder.name:
            raise LosslineError(f"{folder}: holds the suite {manifest['fingerprint']!r}; {fix}")
        return PreparedSuite(
            fingerprint=manifest["fingerprint"],
            context_length=manifest["context_length"],
            sets=tuple(PreparedSet(**entry) for entry in manifest["sets"]),
            requests=requests,
            blocks=tuple(blocks),
            problems=manifest["problems"],
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, BadZipFile) as error:
        raise LosslineError(f"{folder}: this stored suite is incomplete ({error}); {fix}") from error


# The fields whose name in `rows.npz` is another one. The stored names never change, so that stored suites stay valid.
_STORED_NAMES = {"duplicate_of_Q": "twin_Q", "visible_until_BT": "until_BT", "has_branches": "branching"}
_FIELD_NAMES = {stored: field for field, stored in _STORED_NAMES.items()}


def _named_arrays(record: Requests | PackedRows, prefix: str) -> dict[str, Any]:
    """Return the fields of one dataclass, by their stored names."""
    return {f"{prefix}{_STORED_NAMES.get(name, name)}": value for name, value in vars(record).items()}


def _fields(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Return the fields of one dataclass from its stored arrays. A single value becomes a Python number or bool."""
    field_arrays = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    return {_FIELD_NAMES.get(name, name): array if array.ndim else array.item() for name, array in field_arrays.items()}
