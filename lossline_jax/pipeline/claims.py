"""The claim of a run's folder: claim.json tells what it belongs to, from before the first step on."""

from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.run_records import checkpoint_steps, newest_checkpoint


def claim(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Write down what a run's folder belongs to, or refuse one that belongs to something else.

    Raises:
        LosslineError: the folder was begun with another configuration, or with other data or another tokenizer.
    """
    wanted = {"run": to_json(run), "data_fingerprint": data_fingerprint}
    if not directory.claim_file.exists():
        _refuse_foreign_checkpoints(directory, run, data_fingerprint)
        write_json(directory.claim_file, wanted)
        return
    found = read_json(directory.claim_file, {"run": dict, "data_fingerprint": str})
    mend = "put it back, or move the folder away to train anew"
    if found["run"] != wanted["run"]:
        raise LosslineError(f"{directory.claim_file}: the configuration was changed under an existing run; {mend}")
    if found["data_fingerprint"] != data_fingerprint:
        raise LosslineError(
            f"{directory.claim_file}: the corpus, its split or the tokenizer was changed under an existing run; {mend}"
        )


def _refuse_foreign_checkpoints(directory: RunDir, run: RunConfig, data_fingerprint: str) -> None:
    """Refuse a folder without a claim whose newest checkpoint belongs to something else."""
    if not checkpoint_steps(directory):
        return
    meta = newest_checkpoint(directory)
    if meta is None or (meta.run_fingerprint, meta.data_fingerprint) != (fingerprint(run), data_fingerprint):
        raise LosslineError(
            f"{directory.claim_file}: missing, and the checkpoints beside it are of another configuration, corpus or "
            "tokenizer; put it back, or move the folder away to train anew"
        )
