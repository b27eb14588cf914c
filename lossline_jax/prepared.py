"""What `prepare` makes and the later verbs open: corpora, tokenizers, token stores, evaluation sets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from etils import epath

from lossline_jax.config import fingerprint, to_json
from lossline_jax.data.prepare import PreparedCorpus, prepare_corpus
from lossline_jax.data.store import TokenStore, prepare_store
from lossline_jax.data.tokenizers import Tokenizer, prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.evaluate.suites import PreparedSuite, prepare_suite
from lossline_jax.rundir import StudyDir, read_json, write_json
from lossline_jax.study import RunConfig, StudyConfig, tokenizer_label
from lossline_jax.units import human_count


@dataclass(frozen=True)
class Prepared:
    """Tokenizers and suites by tokenizer config; stores by tokenizer config and corpus."""

    tokenizers: dict[Any, Tokenizer]
    stores: dict[tuple[Any, str], TokenStore]
    suites: dict[Any, PreparedSuite]

    def tokenizer(self, run: RunConfig) -> Tokenizer:
        return self.tokenizers[run.tokenizer]

    def suite(self, run: RunConfig) -> PreparedSuite:
        return self.suites[run.tokenizer]

    def run_stores(self, run: RunConfig) -> dict[str, TokenStore]:
        """The stores of the run's mixture, by corpus."""
        return {name: self.stores[run.tokenizer, name] for name, _ in run.data.mixture}


def make_prepared(study: StudyConfig, folder: StudyDir, say: Callable[[str], None]) -> None:
    """Make what is missing and check what is there; `say` gets a line for each part."""
    corpora = {}
    for corpus in study.corpora:
        corpora[corpus.name] = prepare_corpus(corpus, folder.corpora, study.validation_fraction)
        say(_describe_corpus(corpora[corpus.name]))
    prepared = _assemble(study, folder, corpora, say)
    for store in prepared.stores.values():
        store.verify()
    folders = {name: corpus.folder.name for name, corpus in corpora.items()}
    write_json(_marker(folder), {"identity": _identity(study), "corpora": folders, "complete": True})


def open_prepared(study: StudyConfig, folder: StudyDir) -> Prepared:
    """What `make_prepared` made.

    Raises:
        LosslineError: it has not been made for the study as it is now.
    """
    return _assemble(study, folder, open_corpora(study, folder), say=lambda line: None)


def open_corpora(study: StudyConfig, folder: StudyDir) -> dict[str, PreparedCorpus]:
    """The corpora alone, by name. Raises as `open_prepared` does."""
    marker = read_json(_marker(folder)) if _marker(folder).exists() else {}
    if marker.get("identity") != _identity(study):
        raise LosslineError(f"{folder.root}: not prepared for this study as it is now; run `lossline prepare` first")
    return {name: PreparedCorpus.open(folder.corpora / place) for name, place in marker["corpora"].items()}


def _assemble(
    study: StudyConfig, folder: StudyDir, corpora: dict[str, PreparedCorpus], say: Callable[[str], None]
) -> Prepared:
    tokenizers, stores, suites = {}, {}, {}
    for run in study.runs:
        key = run.tokenizer
        if key not in tokenizers:
            tokenizers[key] = prepare_tokenizer(key, corpora, folder.tokenizers)
            suites[key] = prepare_suite(study.suite, tokenizers[key], corpora, folder.suites)
            say(_describe_tokenizer(tokenizer_label(key), tokenizers[key], suites[key]))
        for name, _ in run.data.mixture:
            if (key, name) not in stores:
                stores[key, name] = prepare_store(corpora[name], tokenizers[key], folder.stores)
                tokens = human_count(stores[key, name].num_tokens)
                say(f"token store {name} in {tokenizer_label(key)}: {tokens} training tokens")
    return Prepared(tokenizers, stores, suites)


def _marker(folder: StudyDir) -> epath.Path:
    return folder.prepared / "prepared.json"


def _identity(study: StudyConfig) -> str:
    """Changes with anything of the study that is read here."""
    runs = [[run.tokenizer, run.data.mixture] for run in study.runs]
    return fingerprint(to_json([study.corpora, study.validation_fraction, study.suite, runs]))


def _describe_corpus(corpus: PreparedCorpus) -> str:
    manifest = corpus.manifest
    documents = f"{manifest['train']['documents']:,} + {manifest['validation']['documents']:,} held out"
    size = human_count(manifest["bytes"])
    return f"corpus {corpus.name}: {documents} documents, {size}B, sha256 {manifest['sha256'][:12]}"


def _describe_tokenizer(label: str, tokenizer: Tokenizer, suite: PreparedSuite) -> str:
    lossy = "" if tokenizer.lossless else "; LOSSY, so losses per byte count the bytes of the original text"
    cut = [f"{each.num_truncated} of {each.n} in {each.name}" for each in suite.sets if each.num_truncated]
    truncated = f"; items that lose the start of their context: {', '.join(cut)}" if cut else ""
    return f"tokenizer {label}: {tokenizer.vocab_size} tokens{lossy}; {len(suite.sets)} evaluation sets{truncated}"
