"""Check that enough documents are held out for the two axes of a study, before anything is tokenised."""

from collections.abc import Mapping

from lossline_jax.config.data import Corpus, FilesCorpus
from lossline_jax.config.study import StudyConfig
from lossline_jax.data.corpora.files import find_files
from lossline_jax.data.corpora.prepare import VALIDATION, PreparedCorpus
from lossline_jax.errors import LosslineError
from lossline_jax.storage.inputs import file_kind

FEWEST = 2  # documents of a validation set; one alone has no standard error


def require_held_out(study: StudyConfig, corpora: Mapping[str, PreparedCorpus]) -> None:
    """Refuse a study whose x or y is a set without enough held-out documents. Without it, no line can be fitted.

    Args:
        study: the study.
        corpora: its prepared corpora, by name.

    Raises:
        LosslineError: a set of an axis lacks documents. The message says what to change.
    """
    needed = {item.name: (item.corpus, FEWEST) for item in study.suite.validation}
    needed |= {task.name: (task.corpus, task.num_choices) for task in study.suite.cloze}
    configs = {corpus.name: corpus for corpus in study.corpora}
    for name in (study.x, study.y):
        corpus, fewest = needed.get(name, ("", 0))
        if corpus not in corpora:  # the suite is checked elsewhere
            continue
        manifest = corpora[corpus].manifest
        held_out = manifest[VALIDATION]["documents"]
        if held_out < fewest:
            total = manifest["train"]["documents"] + held_out
            raise LosslineError(
                f"evaluation set {name!r}: {held_out} of the {total} documents of corpus {corpus!r} are held out, and "
                f"at least {fewest} are needed; {_cure(configs[corpus])}"
            )


def _cure(corpus: Corpus) -> str:
    """Return what gives the corpus more held-out documents. Text files may be divided."""
    more = "give it more documents, or raise validation_fraction of the study"
    if not isinstance(corpus, FilesCorpus) or not _has_text_files(corpus):
        return more
    if corpus.split == "file":
        return (
            "each .txt file is one document: divide the files by FilesCorpus(split='blank lines') or split=2000 "
            f"(bytes), by the flag --split where the experiment has one, or {more}"
        )
    if corpus.split == "blank lines":
        return f"the files have few blank lines: divide them by bytes, such as FilesCorpus(split=2000), or {more}"
    pieces = f"pieces of {corpus.split} bytes"
    return f"the .txt files are divided into {pieces}: give split (--split) a smaller number, or {more}"


def _has_text_files(corpus: FilesCorpus) -> bool:
    try:
        return any(file_kind(path).form == "txt" for path in find_files(corpus))
    except LosslineError:  # a prepared study may be on a machine without the raw files
        return False
