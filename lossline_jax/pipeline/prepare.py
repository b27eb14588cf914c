"""What `prepare` makes and the later verbs open: corpora, tokenizers, token stores, evaluation sets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lossline_jax import logs
from lossline_jax.config.evaluation import SuiteConfig
from lossline_jax.config.serialise import fingerprint
from lossline_jax.config.study import RunConfig, StudyConfig, tokenizer_label
from lossline_jax.data.corpora.prepare import PreparedCorpus, prepare_corpus
from lossline_jax.data.token_store import TokenStore, prepare_store
from lossline_jax.data.tokenizers.build import Tokenizer, prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.suite import PreparedSuite, is_current, load_suite, prepare_suite
from lossline_jax.formatting import human_count
from lossline_jax.pipeline.failures import raise_failures
from lossline_jax.pipeline.study_files import save_study
from lossline_jax.storage.files import path_inside, read_json, write_json
from lossline_jax.storage.leftovers import remove_leftovers
from lossline_jax.storage.paths import StudyDir


@dataclass(frozen=True)
class PreparedData:
    """Tokenizers by their config, suites by it and their windows, stores by it and the corpus."""

    tokenizers: dict[Any, Tokenizer]
    stores: dict[tuple[Any, str], TokenStore]
    suites: dict[tuple[Any, SuiteConfig], PreparedSuite]
    windows: SuiteConfig

    def tokenizer(self, run: RunConfig) -> Tokenizer:
        return self.tokenizers[run.tokenizer]

    def suite(self, run: RunConfig) -> PreparedSuite:
        return self.suites[run.tokenizer, self.windows.for_context(run.context_length)]

    @property
    def problems(self) -> dict[str, str]:
        """The evaluation sets that no model can be scored on, with the reason; with some tokenizer or with all."""
        return {name: why for suite in self.suites.values() for name, why in suite.problems.items()}

    def run_stores(self, run: RunConfig) -> dict[str, TokenStore]:
        """The stores of the run's mixture, by corpus."""
        return {name: self.stores[run.tokenizer, name] for name, _ in run.data.mixture}


def prepare_data(study: StudyConfig, folder: StudyDir, info: Callable[[str], None]) -> PreparedData:
    """Make what is missing and check what is there; `info` gets a line for each part."""
    places = (folder.root, folder.prepared, folder.corpora, folder.tokenizers, folder.stores, folder.suites)
    suites = folder.suites.iterdir() if folder.suites.exists() else ()
    for part in remove_leftovers(*places, *suites):
        info(f"{part}: removed, a killed process left it")
    corpora = {}
    for corpus in study.corpora:
        corpora[corpus.name] = prepare_corpus(corpus, folder.corpora, study.validation_fraction)
        info(_describe_corpus(corpora[corpus.name]))

    def suite(run: RunConfig, windows: SuiteConfig, tokenizer: Tokenizer) -> PreparedSuite:
        return prepare_suite(windows, tokenizer, corpora, folder.suites)

    prepared = _assemble(study, folder, corpora, suite, info=info)
    for store in prepared.stores.values():
        store.verify()
    folders = {name: corpus.folder.name for name, corpus in corpora.items()}
    suites = {run.run_id: prepared.suite(run).fingerprint for run in study.runs}
    marker = {"identity": _identity(study), "corpora": folders, "suites": suites, "complete": True}
    write_json(folder.prepared_file, marker)
    return prepared


def open_prepared_data(study: StudyConfig, folder: StudyDir) -> PreparedData:
    """What `prepare_data` made. Task files are not read again: a set never falls out between two verbs.

    Raises:
        LosslineError: it has not been made for the study as it is now.
    """
    corpora, stored = open_corpora(study, folder), read_json(folder.prepared_file, {"suites": dict})["suites"]

    def suite(run: RunConfig, windows: SuiteConfig, tokenizer: Tokenizer) -> PreparedSuite:
        if run.run_id not in stored:
            raise LosslineError(f"{folder.prepared_file}: run {run.run_id} is newer; run `lossline-jax prepare` again")
        place = path_inside(folder.suites, stored[run.run_id], folder.prepared_file)
        if not is_current(place, windows, tokenizer):
            raise LosslineError(
                f"{place}: an earlier lossline made it, which put a space before options that begin inside a word; "
                "run `lossline-jax prepare` again: the sets with such options are scored again, "
                "the others keep their rows"
            )
        return load_suite(place)

    return _assemble(study, folder, corpora, suite, info=lambda line: None)


def open_corpora(study: StudyConfig, folder: StudyDir) -> dict[str, PreparedCorpus]:
    """The corpora alone, by name. Raises as `open_prepared_data` does."""
    marker = read_json(folder.prepared_file, {"corpora": dict}) if folder.prepared_file.exists() else {}
    if marker.get("identity") != _identity(study):
        raise LosslineError(
            f"{folder.root}: not prepared for this study as it is now; run `lossline-jax prepare` first"
        )
    return {
        name: PreparedCorpus.open(path_inside(folder.corpora, place, folder.prepared_file))
        for name, place in marker["corpora"].items()
    }


def _assemble(
    study: StudyConfig,
    folder: StudyDir,
    corpora: dict[str, PreparedCorpus],
    suite: Callable[[RunConfig, SuiteConfig, Tokenizer], PreparedSuite],
    *,
    info: Callable[[str], None],
) -> PreparedData:
    tokenizers, stores, suites = {}, {}, {}
    for run in study.runs:
        key = run.tokenizer
        if key not in tokenizers:
            tokenizers[key] = prepare_tokenizer(key, corpora, folder.tokenizers)
            info(_describe_tokenizer(tokenizer_label(key), tokenizers[key]))
        windows = study.suite.for_context(run.context_length)
        if (key, windows) not in suites:
            suites[key, windows] = suite(run, windows, tokenizers[key])
            info(_describe_suite(tokenizer_label(key), suites[key, windows]))
        for name, _ in run.data.mixture:
            if (key, name) not in stores:
                stores[key, name] = prepare_store(corpora[name], tokenizers[key], folder.stores)
                tokens = human_count(stores[key, name].num_tokens)
                info(f"token store {name} in {tokenizer_label(key)}: {tokens} training tokens")
    return PreparedData(tokenizers, stores, suites, study.suite)


def _identity(study: StudyConfig) -> str:
    """Changes with anything of the study that is read here."""
    runs = [[run.tokenizer, run.context_length, run.data.mixture] for run in study.runs]
    return fingerprint([study.corpora, study.validation_fraction, study.suite, runs])


def _describe_corpus(corpus: PreparedCorpus) -> str:
    manifest = corpus.manifest
    documents = f"{manifest['train']['documents']:,} + {manifest['validation']['documents']:,} held out"
    size = human_count(manifest["bytes"])
    return f"corpus {corpus.name}: {documents} documents, {size}B, sha256 {manifest['sha256'][:12]}"


def _describe_tokenizer(label: str, tokenizer: Tokenizer) -> str:
    lossy = "" if tokenizer.lossless else "; LOSSY, so losses per byte count the bytes of the original text"
    return f"tokenizer {label}: {tokenizer.vocab_size} tokens{lossy}"


def _describe_suite(label: str, suite: PreparedSuite) -> str:
    cut = [f"{each.num_truncated} of {each.n} in {each.name}" for each in suite.sets if each.num_truncated]
    truncated = f"; items that lose the start of their context: {', '.join(cut)}" if cut else ""
    shapes = ", ".join(f"{len(block.ids_BT)} x {block.row_length}" for block in suite.blocks)
    return (
        f"evaluation sets in {label}: {len(suite.sets)}, {sum(suite.requests.tokens_Q):,} tokens to score in rows of "
        f"{shapes}, {suite.fill:.0%} full{truncated}"
    )


def prepare(study: StudyConfig, folder: StudyDir) -> None:
    """Make corpora, tokenizers, token stores and evaluation sets.

    Raises:
        LosslineError: an input cannot be read, or a set cannot be scored.
    """
    raise_failures({}, make_study_data(study, folder))


def make_study_data(study: StudyConfig, folder: StudyDir) -> dict[str, str]:
    """Do the same, and return why sets cannot be scored, by name."""
    save_study(study, folder)
    return prepare_data(study, folder, logs.info).problems
