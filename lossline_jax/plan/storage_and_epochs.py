"""Two costs of a run that are easily overlooked: the disk that its checkpoints take, and the epochs of its text."""

from lossline_jax.config.data import Corpus, FilesCorpus
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.inputs import file_kind

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


def fewest_epochs(run: RunConfig, study: StudyConfig) -> float | None:
    """Return how often a run reads a corpus at least, before anything is prepared. None: nothing is known.

    A corpus has at most one token for each byte. The true number of epochs is often several times larger; `prepare`
    counts it.

    Args:
        run: the run.
        study: its study.
    """
    corpora = {corpus.name: corpus for corpus in study.corpora}
    total = sum(weight for _, weight in run.data.mixture)
    cap = run.data.unique_tokens
    epochs = []
    for name, weight in run.data.mixture:
        sizes = [_most_bytes(corpora[name]) if name in corpora else None, None if cap is None else cap * weight / total]
        known_sizes = [size for size in sizes if size]
        if known_sizes:
            epochs.append(run.tokens * weight / total / min(known_sizes))
    return max(epochs, default=None)


def _most_bytes(corpus: Corpus) -> float | None:
    """Return the largest number of bytes of text that a corpus can have. None: it is not known."""
    if isinstance(corpus, FilesCorpus):
        from lossline_jax.data.corpora.files import find_files  # needs pyarrow, which a plan of other corpora does not

        try:
            paths = find_files(corpus)
        except LosslineError:  # the files are elsewhere; `prepare` reports it
            return corpus.max_bytes
        if all(not file_kind(path).compression and file_kind(path).form != "parquet" for path in paths):
            return min(sum(path.stat().length for path in paths), corpus.max_bytes or float("inf"))
    return corpus.max_bytes
