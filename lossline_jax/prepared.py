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
    """Corpora by name; tokenizers and suites by tokenizer config; stores by tokenizer config and corpus."""

    corpora: dict[str, PreparedCorpus]
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


def make_prepared(study: StudyConfig, folder: StudyDir, say: Callable[[str], None]) -> Prepared:
    """Make what is missing and open the rest; `say` gets a line for each part."""
    corpora = {}
    for corpus in study.corpora:
        corpora[corpus.name] = prepare_corpus(corpus, folder.corpora, study.validation_fraction)
        say(_describe_corpus(corpora[corpus.name]))
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
    write_json(_marker(folder), {"identity": _identity(study), "complete": True})
    return Prepared(corpora, tokenizers, stores, suites)


def open_prepared(study: StudyConfig, folder: StudyDir) -> Prepared:
    """What `prepare` made for this study.

    Raises:
        LosslineError: it has not been made for the study as it is now.
    """
    marker = _marker(folder)
    if not marker.exists() or read_json(marker).get("identity") != _identity(study):
        raise LosslineError(f"{folder.root}: not prepared for this study as it is now; run `lossline prepare` first")
    return make_prepared(study, folder, say=lambda line: None)


def open_corpora(study: StudyConfig, folder: StudyDir) -> list[PreparedCorpus]:
    """The prepared corpora alone."""
    return [prepare_corpus(corpus, folder.corpora, study.validation_fraction) for corpus in study.corpora]


def _marker(folder: StudyDir) -> epath.Path:
    return folder.prepared / "prepared.json"


def _identity(study: StudyConfig) -> str:
    """Changes with anything that `make_prepared` reads."""
    runs = [[run.tokenizer, run.data.mixture] for run in study.runs]
    return fingerprint(to_json([study.corpora, study.validation_fraction, study.suite, runs]))


def _describe_corpus(corpus: PreparedCorpus) -> str:
    manifest = corpus.manifest
    documents = f"{manifest['train']['documents']:,} + {manifest['validation']['documents']:,} held out"
    size = human_count(manifest["bytes"])
    return f"corpus {corpus.name}: {documents} documents, {size}B, sha256 {manifest['sha256'][:12]}"


def _describe_tokenizer(label: str, tokenizer: Tokenizer, suite: PreparedSuite) -> str:
    lossy = "" if tokenizer.lossless else "; LOSSY, so losses per byte count the bytes of the original text"
    return f"tokenizer {label}: {tokenizer.vocab_size} tokens{lossy}; {len(suite.sets)} evaluation sets"
