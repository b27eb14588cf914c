"""The claim of a run's folder: claim.json tells what it belongs to, from before the first step on."""

from typing import Any

from lossline_jax.config.serialise import fingerprint, from_json, to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import checkpoint_meta, checkpointed_step


def claim(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Write down what a run's folder belongs to, or refuse one that belongs to something else.

    Raises:
        LosslineError: the folder was begun with another configuration, or with other data or another tokenizer.
    """
    if not directory.claim_file.exists():
        _refuse_foreign_checkpoints(directory, run, data_fingerprint)
        write_json(directory.claim_file, {"run": to_json(run), "data_fingerprint": data_fingerprint})
        return
    found = read_json(directory.claim_file, {"run": dict, "data_fingerprint": str})
    mend = "put it back, or move the folder away to train anew"
    if not _is_claimed_by(run, found["run"]):
        raise LosslineError(f"{directory.claim_file}: the configuration was changed under an existing run; {mend}")
    if found["data_fingerprint"] != data_fingerprint:
        raise LosslineError(
            f"{directory.claim_file}: the corpus, its split or the tokenizer was changed under an existing run; {mend}"
        )


def _is_claimed_by(run: RunConfig, claimed: dict[str, Any]) -> bool:
    """Return whether the claimed configuration is that of the run. Fields it lacks have their defaults."""
    try:
        return from_json(RunConfig, claimed) == run
    except LosslineError:
        return False


def _refuse_foreign_checkpoints(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Refuse a folder without a claim whose newest checkpoint belongs to something else."""
    if not checkpointed_step(directory):
        return
    meta = checkpoint_meta(directory)
    if [meta.get("run_fingerprint"), meta.get("data_fingerprint")] != [fingerprint(run), data_fingerprint]:
        raise LosslineError(
            f"{directory.claim_file}: missing, and the checkpoints beside it are of another configuration, corpus or "
            "tokenizer; put it back, or move the folder away to train anew"
        )
