"""Make the study to damage: the old study of tests/golden in the present format, with two imported models."""

import contextlib
import hashlib
import io
from pathlib import Path

import jax
from etils import epath

from lossline_jax.config.data import ByteTokenizer
from lossline_jax.config.model import LlamaConfig
from lossline_jax.data.token_store import TokenStore
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.data.tokenizers.export import tokenizer_json
from lossline_jax.losses.table import append_rows, read_loss_rows, write_table
from lossline_jax.models.model import build_model
from lossline_jax.pipeline.study_files import open_study, write_manifest
from lossline_jax.storage.files import read_json, write_json
from lossline_jax.storage.staged_folder import MANIFEST
from lossline_jax.storage.step_log import StepLog
from lossline_jax.weights.huggingface.save import save_pretrained
from tests.robustness.outcomes import call

OLD_STUDY = Path(__file__).parents[1] / "golden" / "old_study"
ONE_DEVICE = ("--execution.data-parallel", "1", "--execution.no-tensorboard")


def as_written_now(folder: Path) -> None:
    """Write every file of an old study's folder again, which adds the checksums of this version."""
    study, directory = open_study(str(folder))
    for path in map(epath.Path, folder.rglob("*.json")):
        if not path.name.startswith("."):
            write_json(path, read_json(path))
    for path in directory.stores.iterdir():
        TokenStore.open(path).verify()
    for path in directory.corpora.iterdir():
        manifest = read_json(path / MANIFEST)
        for split in ("train", "validation"):
            manifest[split]["sha256"] = sha256(Path(path / f"{split}.jsonl"))
        write_json(path / MANIFEST, manifest)
    rows = []
    for path in map(epath.Path, sorted(folder.glob("losses/rows/*.jsonl"))):
        of_run = read_loss_rows(path)
        path.unlink()
        append_rows(path, of_run)
        rows += of_run
    write_table(rows, directory.losses_csv, directory.losses_parquet)
    for run in study.runs:
        StepLog(directory.run(run.run_id), after_step=run.num_steps)
    write_json(directory.unscored_file(study.runs[0].run_id), {"reason": "step 5: its checkpoint is gone"})
    write_manifest(study, directory)


def import_models(folder: Path, elsewhere: Path) -> None:
    """Let a study score two imported models. The weights of `inside` lie in the study, those of `beside` beside it."""
    tokenizer = prepare_tokenizer(ByteTokenizer(), {}, epath.Path("unused"))
    model = build_model(LlamaConfig(16, 1, num_heads=2, d_ff=32), tokenizer.vocab_size)
    for key, name in enumerate(("inside", "beside")):
        with contextlib.redirect_stderr(io.StringIO()):
            ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
            params, public = model.init(jax.random.key(key)), elsewhere / name
            save_pretrained(public, model, params, context_length=32, tokenizer_json=tokenizer_json(tokenizer), **ids)
        if name == "beside":
            _must(["import-weights", str(public), "--out", str(elsewhere / "imported")])
            public = elsewhere / "imported"
        _must(["evaluate", str(folder), "--checkpoint", str(public), *ONE_DEVICE])
    _must(["fit", str(folder)])


def _must(arguments: list[str]) -> None:
    answer = call(arguments)
    assert answer.code == 0, answer.err


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
