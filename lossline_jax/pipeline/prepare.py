"""The data of a study: corpora, tokenizers, token stores and evaluation sets.

`prepare` makes the data, and the later verbs open it. Read `prepare_data` first, then `open_prepared_data`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lossline_jax import logs
from lossline_jax.config.data import FilesCorpus, TokenizerConfig
from lossline_jax.config.evaluation import SuiteConfig
from lossline_jax.config.labels import tokenizer_label
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.corpora.files import files_left_out
from lossline_jax.data.corpora.prepare import PreparedCorpus, prepare_corpus
from lossline_jax.data.token_store import TokenStore, prepare_store
from lossline_jax.data.tokenizers.build import Tokenizer, prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.suite import PreparedSuite, is_current, load_suite, prepare_suite
from lossline_jax.formatting import counted, human_count
from lossline_jax.pipeline.failures import raise_failures
from lossline_jax.pipeline.held_out import require_held_out
from lossline_jax.pipeline.study_files import save_study
from lossline_jax.plan.storage_and_epochs import FEW_EPOCHS, epochs_of
from lossline_jax.storage.files import path_inside, read_json, write_json
from lossline_jax.storage.leftovers import remove_leftovers
from lossline_jax.storage.paths import StudyDir


@dataclass(frozen=True)
class PreparedData:
    """The opened data of all runs of a study.

    Attributes:
        tokenizers: by tokenizer config.
        stores: token stores, by tokenizer config and name of the corpus.
        suites: evaluation suites, by tokenizer config and by the suite's config for a context length.
        windows: the suite's config, before it is adapted to the context length of a run.
    """

    tokenizers: dict[TokenizerConfig, Tokenizer]
    stores: dict[tuple[TokenizerConfig, str], TokenStore]
    suites: dict[tuple[TokenizerConfig, SuiteConfig], PreparedSuite]
    windows: SuiteConfig

    def tokenizer(self, run: RunConfig) -> Tokenizer:
        """Return the tokenizer of a run."""
        return self.tokenizers[run.tokenizer]

    def suite(self, run: RunConfig) -> PreparedSuite:
        """Return the suite that a run is scored on."""
        return self.suites[run.tokenizer, self.windows.for_context(run.context_length)]

    @property
    def problems(self) -> dict[str, str]:
        """The reasons why evaluation sets cannot be scored with at least one tokenizer, by the name of the set."""
        return {name: reason for suite in self.suites.values() for name, reason in suite.problems.items()}

    def run_stores(self, run: RunConfig) -> dict[str, TokenStore]:
        """Return the token stores of the run's mixture, by the name of the corpus."""
        return {name: self.stores[run.tokenizer, name] for name, _ in run.data.mixture}


def prepare_data(study: StudyConfig, folder: StudyDir, info: Callable[[str], None]) -> PreparedData:
    """Make the missing parts and check the existing ones.

    Args:
        study: the study.
        folder: its folder.
        info: called with a line of text for each part.
    """
    folders = (folder.root, folder.prepared, folder.corpora, folder.tokenizers, folder.stores, folder.suites)
    suite_folders = folder.suites.iterdir() if folder.suites.exists() else ()
    for part in remove_leftovers(*folders, *suite_folders):
        info(f"{part}: removed, because a killed process had left it incomplete")
    corpora = {}
    for corpus in study.corpora:
        corpora[corpus.name] = prepare_corpus(corpus, folder.corpora, study.validation_fraction)
        info(_describe_corpus(corpora[corpus.name]))
        if left_out := files_left_out(corpus) if isinstance(corpus, FilesCorpus) else []:
            info(f"corpus {corpus.name}: {len(left_out)} files of other kinds are not read, such as {left_out[0]}")
    require_held_out(study, corpora)

    def suite(run: RunConfig, windows: SuiteConfig, tokenizer: Tokenizer) -> PreparedSuite:
        return prepare_suite(windows, tokenizer, corpora, folder.suites)

    prepared = _assemble(study, folder, corpora, suite, info=info)
    for store in prepared.stores.values():
        store.verify()
    for line in _epochs_warnings(study, prepared):
        info(line)
    folder_names = {name: corpus.folder.name for name, corpus in corpora.items()}
    suite_of_run = {run.run_id: prepared.suite(run).fingerprint for run in study.runs}
    marker = {"identity": _identity(study), "corpora": folder_names, "suites": suite_of_run, "complete": True}
    write_json(folder.prepared_file, marker)
    return prepared


def _epochs_warnings(study: StudyConfig, prepared: PreparedData) -> list[str]:
    """Return a line for each training set that some runs read more than `FEW_EPOCHS` times."""
    runs: dict[tuple[str, float], list[int]] = {}
    for index, run in enumerate(study.runs):
        available = {name: store.num_tokens for name, store in prepared.run_stores(run).items()}
        for name, epochs in epochs_of(run, available).items():
            runs.setdefault((name, round(epochs, 1)), []).append(index)
    many = {key: indices for key, indices in runs.items() if key[1] > FEW_EPOCHS}
    return [
        f"warning: {len(indices)} runs ({indices[0]}, ...) read corpus {name!r} {epochs:g} times, and repeated text "
        "teaches less; give them more text or fewer tokens"
        for (name, epochs), indices in many.items()
    ]


def open_prepared_data(study: StudyConfig, folder: StudyDir) -> PreparedData:
    """Open the data that `prepare_data` made.

    The task files are not read again, so all verbs see the same evaluation sets.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        LosslineError: the data has not been made, or was made for an earlier version of the study.
    """
    corpora, stored = open_corpora(study, folder), read_json(folder.prepared_file, {"suites": dict})["suites"]

    def suite(run: RunConfig, windows: SuiteConfig, tokenizer: Tokenizer) -> PreparedSuite:
        if run.run_id not in stored:
            raise LosslineError(f"{folder.prepared_file}: run {run.run_id} is newer; run `lossline-jax prepare` again")
        suite_folder = path_inside(folder.suites, stored[run.run_id], folder.prepared_file)
        if not is_current(suite_folder, windows, tokenizer):
            raise LosslineError(
                f"{suite_folder}: made by an earlier lossline, which put a space before options that begin inside a "
                "word; run `lossline-jax prepare` again: the sets with such options are scored again, "
                "the others keep their rows"
            )
        return load_suite(suite_folder)

    return _assemble(study, folder, corpora, suite, info=lambda line: None)


def open_corpora(study: StudyConfig, folder: StudyDir) -> dict[str, PreparedCorpus]:
    """Open the corpora alone, and return them by name.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        LosslineError: the data has not been made, or was made for an earlier version of the study.
    """
    marker = read_json(folder.prepared_file, {"corpora": dict}) if folder.prepared_file.exists() else {}
    if marker.get("identity") != _identity(study):
        raise LosslineError(
            f"{folder.root}: not prepared for this study as it is now; run `lossline-jax prepare` first"
        )
    return {
        name: PreparedCorpus.open(path_inside(folder.corpora, subfolder, folder.prepared_file))
        for name, subfolder in marker["corpora"].items()
    }


def _assemble(
    study: StudyConfig,
    folder: StudyDir,
    corpora: dict[str, PreparedCorpus],
    suite: Callable[[RunConfig, SuiteConfig, Tokenizer], PreparedSuite],
    *,
    info: Callable[[str], None],
) -> PreparedData:
    """Make or open each tokenizer, suite and token store once. `suite` makes or opens the suite of a run."""
    tokenizers: dict[TokenizerConfig, Tokenizer] = {}
    stores: dict[tuple[TokenizerConfig, str], TokenStore] = {}
    suites: dict[tuple[TokenizerConfig, SuiteConfig], PreparedSuite] = {}
    for run in study.runs:
        config = run.tokenizer
        if config not in tokenizers:
            tokenizers[config] = prepare_tokenizer(config, corpora, folder.tokenizers)
            info(_describe_tokenizer(tokenizer_label(config), tokenizers[config]))
        windows = study.suite.for_context(run.context_length)
        if (config, windows) not in suites:
            suites[config, windows] = suite(run, windows, tokenizers[config])
            info(_describe_suite(tokenizer_label(config), suites[config, windows]))
        for name, _ in run.data.mixture:
            if (config, name) not in stores:
                stores[config, name] = prepare_store(corpora[name], tokenizers[config], folder.stores)
                tokens = human_count(stores[config, name].num_tokens)
                info(f"token store {name} in {tokenizer_label(config)}: {tokens} training tokens")
    return PreparedData(tokenizers, stores, suites, study.suite)


def _identity(study: StudyConfig) -> str:
    """Return a fingerprint of the parts of the study that this module reads."""
    runs = [[run.tokenizer, run.context_length, run.data.mixture] for run in study.runs]
    return fingerprint([study.corpora, study.validation_fraction, study.suite, runs])


def _describe_corpus(corpus: PreparedCorpus) -> str:
    manifest = corpus.manifest
    documents = f"{manifest['train']['documents']:,} + {manifest['validation']['documents']:,} held out"
    size = human_count(manifest["bytes"])
    num_files = manifest["source"].get("files")  # other kinds of corpora have no count of files
    files = f" in {counted(num_files, 'file')}" if isinstance(num_files, int) else ""
    repeats = manifest.get("duplicates_dropped", 0)
    dropped = f"; {repeats:,} repeated documents are left out" if repeats else ""
    return f"corpus {corpus.name}: {documents} documents{files}, {size}B, sha256 {manifest['sha256'][:12]}{dropped}"


def _describe_tokenizer(label: str, tokenizer: Tokenizer) -> str:
    lossy = "" if tokenizer.lossless else "; LOSSY, so losses per byte count the bytes of the original text"
    return f"tokenizer {label}: {tokenizer.vocab_size} tokens{lossy}"


def _describe_suite(label: str, suite: PreparedSuite) -> str:
    counts = [f"{item.num_truncated} of {item.n} in {item.name}" for item in suite.sets if item.num_truncated]
    truncated = f"; items that lose the start of their context: {', '.join(counts)}" if counts else ""
    shapes = ", ".join(f"{len(block.ids_BT)} x {block.row_length}" for block in suite.blocks)
    return (
        f"evaluation sets in {label}: {len(suite.sets)}, {sum(suite.requests.tokens_Q):,} tokens to score in rows of "
        f"{shapes}, {suite.fill:.0%} full{truncated}"
    )


def prepare(study: StudyConfig, folder: StudyDir) -> None:
    """Make the corpora, tokenizers, token stores and evaluation sets.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        LosslineError: an input cannot be read, or a set cannot be scored.
    """
    raise_failures({}, make_study_data(study, folder))


def make_study_data(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Make the data, and return the reasons why evaluation sets cannot be scored, by the name of the set."""
    save_study(study, folder)
    return prepare_data(study, folder, logs.info).problems
