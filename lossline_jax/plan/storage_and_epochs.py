"""Two costs of a run that are easily overlooked: the disk that its checkpoints take, and the epochs of its text."""

import math
from collections.abc import Mapping

from lossline_jax.config.data import Corpus, FilesCorpus
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.inputs import file_kind
from lossline_jax.storage.paths import StudyDir

# Up to four epochs are nearly as good as new text, and more lose their worth: Muennighoff et al. 2023 (arXiv
# 2305.16264).
FEW_EPOCHS = 4
_PARAMETER_BYTES = 4  # float32
_MOMENTS_BYTES = 8  # two float32 numbers for each parameter


def checkpoint_bytes(run: RunConfig, num_parameters: int, execution: ExecutionConfig) -> int:
    """Return the bytes of the checkpoints that a finished run keeps.

    Args:
        run: the run.
        num_parameters: number of its parameters.
        execution: gives the number of checkpoints that are kept, and of those that keep their moments.
    """
    kept = len(run.checkpoint_steps)
    kept = kept if execution.keep_checkpoints is None else min(kept, execution.keep_checkpoints)
    with_moments = kept if execution.keep_moments is None else min(kept, execution.keep_moments)
    return num_parameters * (_PARAMETER_BYTES * kept + _MOMENTS_BYTES * with_moments)


def most_tokens(study: StudyConfig) -> dict[str, float]:
    """Return the largest number of tokens that each training corpus can have, before anything is prepared.

    A corpus has at most one token for each byte. The true number is often several times smaller; `prepare` counts it.

    Args:
        study: the study.

    Returns:
        Tokens by name of the corpus. A corpus of unknown size is missing.
    """
    trained_on = {name for run in study.runs for name, _ in run.data.mixture}
    sizes = {corpus.name: _most_bytes(corpus) for corpus in study.corpora if corpus.name in trained_on}
    return {name: size for name, size in sizes.items() if size}


def require_files(study: StudyConfig, folder: StudyDir) -> None:
    """Raise LosslineError where the files of a corpus are not there: `prepare` would end with the same message.

    Args:
        study: the study.
        folder: its folder. A prepared study no longer needs the files.
    """
    corpora = [corpus for corpus in study.corpora if isinstance(corpus, FilesCorpus)]
    if corpora and not folder.prepared_file.exists():
        from lossline_jax.data.corpora.files import find_files  # needs pyarrow, which a plan of other corpora does not

        for corpus in corpora:
            find_files(corpus)


def epochs_of(run: RunConfig, available: Mapping[str, float]) -> dict[str, float]:
    """Return how often a run reads each corpus of its mixture. A corpus of unknown size without a cap is left out.

    Args:
        run: the run.
        available: tokens of each corpus, by name. A corpus of unknown size is missing.
    """
    total = sum(weight for _, weight in run.data.mixture)
    cap = math.inf if run.data.unique_tokens is None else run.data.unique_tokens
    epochs = {}
    for name, weight in run.data.mixture:
        unique = min(available.get(name, math.inf), cap * weight / total)
        if math.isfinite(unique):
            epochs[name] = run.tokens * weight / total / unique
    return epochs


def _most_bytes(corpus: Corpus) -> float | None:
    """Return the largest number of bytes of text that a corpus can have. None: it is not known."""
    if isinstance(corpus, FilesCorpus):
        from lossline_jax.data.corpora.files import find_files  # needs pyarrow, which a plan of other corpora does not

        try:
            paths = find_files(corpus)
        except LosslineError:  # a prepared study no longer needs the files; `require_files` refuses another one
            return corpus.max_bytes
        if all(not file_kind(path).compression and file_kind(path).form != "parquet" for path in paths):
            return min(sum(path.stat().length for path in paths), corpus.max_bytes or float("inf"))
    return corpus.max_bytes
