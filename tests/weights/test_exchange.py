"""The command line imports and exports weights without a change, and refuses unusable input."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from lossline_jax.cli.main import main
from lossline_jax.config.data import ByteTokenizer
from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.model import GPT2Config, Mamba2Config
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.data.tokenizers.export import tokenizer_json
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.models.model import build_model
from lossline_jax.storage.paths import StudyDir
from lossline_jax.train.checkpoint import load_checkpoint_params as load_checkpoint
from lossline_jax.weights.exchange import resolve_model
from lossline_jax.weights.huggingface.load import load_pretrained_params
from lossline_jax.weights.huggingface.save import save_pretrained
from lossline_jax.weights.imported_model import imported_tokenizer, open_imported
from lossline_jax.weights.registry import add_scored_model, scored_models

pytest.importorskip("safetensors", reason="pip install -e '.[hf]'")
BYTES = prepare_tokenizer(ByteTokenizer(), {}, epath.Path("unused"))
GPT2 = GPT2Config(d_model=16, num_layers=2, num_heads=2, max_positions=24)


def public_model(folder, config=GPT2, key=0, vocab_size=260):
    """Write a folder like a downloaded model. Its vocabulary is padded beyond the 258 tokens of the tokenizer."""
    model = build_model(config, vocab_size)
    params = model.init(jax.random.key(key))
    ids = {"bos_id": BYTES.bos_id, "eos_id": BYTES.eos_id}
    save_pretrained(folder, model, params, tokenizer_json=tokenizer_json(BYTES), **ids)
    return model, params


def test_import_and_export_give_back_every_weight(tmp_path, capsys):
    model, params = public_model(tmp_path / "public")
    main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours", "--data", "pile", "--seed", "3"])
    assert "gpt2 d16-L2, 11.1k parameters (6.59k without embeddings), steps [0]" in capsys.readouterr().err
    imported, directory = open_imported(tmp_path / "ours")
    assert imported.factors == {
        "data": "pile",
        "tokenizer": f"hf-{imported.tokenizer_sha256[:8]}",
        "architecture": "gpt2",
        "size": "d16-L2",
        "context_length": 24,
        "optimiser": "unknown",
        "seed": 3,
        "batch": None,
        "algorithm": "data-parallel",
        "objective": "next-token",
        "sparsity": "dense",
        "start": "scratch",
    }
    stored = load_checkpoint(directory, 0, model, make_mesh(ExecutionConfig()))
    jax.tree.map(np.testing.assert_array_equal, stored, params)

    main(["export-weights", f"{tmp_path}/ours", "--out", f"{tmp_path}/again"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "public" / name).read_bytes()
    main(["export-weights", f"{tmp_path}/ours", "--out", f"{tmp_path}/half", "--dtype", "bfloat16", "--no-tokenizer"])
    assert sorted(path.name for path in (tmp_path / "half").iterdir()) == ["config.json", "model.safetensors"]
    half = load_pretrained_params(tmp_path / "half", model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8), half, params)


def test_an_intervention_of_a_public_model_is_in_its_factors_and_its_id(tmp_path, capsys):
    public_model(tmp_path / "public")
    flags = {"batch": 4096, "algorithm": "diloco-M2", "objective": "distil-7B", "sparsity": "2:4", "start": "prune@7B"}
    ids = {open_imported(import_model(tmp_path, "plain"))[0].run_id}
    for name, value in flags.items():
        imported, _ = open_imported(import_model(tmp_path, name, f"--{name}", str(value)))
        assert imported.factors[name] == value
        ids.add(imported.run_id)
    assert len(ids) == len(flags) + 1
    with pytest.raises(SystemExit):
        import_model(tmp_path, "none", "--batch", "0")
    assert "--batch: 0 must be positive" in capsys.readouterr().err
    for label in ("", " ", "a\nb"):
        with pytest.raises(SystemExit):
            import_model(tmp_path, "none", "--sparsity", label)
        assert "--sparsity: " in (message := capsys.readouterr().err)
        assert message.count("\n") == 1
    assert not (tmp_path / "none").exists()


def import_model(folder, name, *flags):
    main(["import-weights", f"{folder}/public", "--out", f"{folder}/{name}", *flags])
    return folder / name


def test_a_tokenizer_that_changed_since_the_import_is_not_exported(tmp_path, capsys):
    public_model(tmp_path / "public")
    main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours"])
    path = tmp_path / "ours" / "tokenizer.json"
    path.write_text(path.read_text().replace('"a"', '"~~"', 1))
    with pytest.raises(SystemExit):
        main(["export-weights", f"{tmp_path}/ours", "--out", f"{tmp_path}/again"])
    assert "tokenizer.json: damaged (wrong SHA-256); import the model again" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_steps_of_one_model_share_a_folder(tmp_path, capsys):
    for step in (2, 1):
        public_model(tmp_path / f"step{step}", key=step)
        flags = ["--name", "pythia", "--step", str(step), "--tokens-seen", str(100 * step)]
        for _ in range(2):  # the second import changes nothing
            main(["import-weights", f"{tmp_path}/step{step}", "--out", f"{tmp_path}/ours", *flags])
    imported, _ = open_imported(tmp_path / "ours")
    assert imported.steps == (1, 2)
    assert [imported.tokens_at(step) for step in (1, 2, 3)] == [100, 200, None]
    capsys.readouterr()
    refused = {
        ("step1", "--name", "pythia", "--step", "2"): "holds other weights or another --tokens-seen of step 2",
        ("step1", "--name", "other", "--step", "3"): "holds a model with name='pythia', and this one has 'other'",
    }
    for (source, *flags), message in refused.items():
        with pytest.raises(SystemExit) as stop:
            main(["import-weights", f"{tmp_path}/{source}", "--out", f"{tmp_path}/ours", *flags])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_an_import_that_was_killed_is_done_anew(tmp_path):
    public_model(tmp_path / "public")
    command = ["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours"]
    main(command)
    (tmp_path / "ours" / "model.json").unlink()
    (tmp_path / "ours" / "checkpoints" / "00000000" / "meta.json").unlink()
    main(command)
    assert open_imported(tmp_path / "ours")[0].steps == (0,)


def test_an_import_that_was_killed_before_its_last_line_takes_the_weights_of_the_next(tmp_path):
    flags = ["--out", f"{tmp_path}/ours", "--name", "same"]
    public_model(tmp_path / "first", key=0)
    main(["import-weights", f"{tmp_path}/first", *flags])
    (tmp_path / "ours" / "model.json").unlink()  # the checkpoint is complete
    model, params = public_model(tmp_path / "second", key=1)
    main(["import-weights", f"{tmp_path}/second", *flags])
    stored = load_checkpoint(open_imported(tmp_path / "ours")[1], 0, model, make_mesh(ExecutionConfig()))
    jax.tree.map(np.testing.assert_array_equal, stored, params)


def test_a_study_remembers_the_models_that_it_scores(tmp_path):
    public_model(tmp_path / "public")
    main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours"])
    study = StudyDir(epath.Path(tmp_path / "study"))
    assert scored_models(study) == []
    for _ in range(2):
        add_scored_model(study, *open_imported(tmp_path / "ours"))
    (entry,) = scored_models(study)
    assert (entry.model, entry.weights.root) == (open_imported(tmp_path / "ours")[0], epath.Path(tmp_path / "ours"))
    (tmp_path / "ours").rename(tmp_path / "gone")  # the study keeps its own copy of these facts
    assert scored_models(study) == [entry]

    study.loss_rows(entry.model.run_id).parent.mkdir(parents=True)
    study.loss_rows(entry.model.run_id).write_text("")
    main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/mended", "--data", "pile"])
    add_scored_model(study, *open_imported(tmp_path / "mended"))
    assert [entry.model.data for entry in scored_models(study)] == ["pile"]  # the same weights with more facts
    assert not study.loss_rows(entry.model.run_id).exists()


def test_two_models_of_one_name_are_two_models(tmp_path):
    study = StudyDir(epath.Path(tmp_path / "study"))
    for place in ("a", "b"):
        public_model(tmp_path / place / "final", key=ord(place))
        imported, weights = resolve_model(study, f"{tmp_path}/{place}/final")
        add_scored_model(study, imported, weights)
    assert len({entry.model.run_id for entry in scored_models(study)}) == 2
    again, _ = resolve_model(study, f"{tmp_path}/b/final")
    assert again.run_id == imported.run_id


def test_the_special_tokens_are_those_of_config_json(tmp_path):
    public_model(tmp_path / "public")
    config = json.loads((tmp_path / "public" / "config.json").read_text())
    (tmp_path / "public" / "config.json").write_text(json.dumps({**config, "bos_token_id": 257}))
    main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours"])
    imported, directory = open_imported(tmp_path / "ours")
    tokenizer = prepare_tokenizer(imported_tokenizer(imported, directory), {}, epath.Path("unused"))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (257, 257)
    assert tokenizer.fingerprint == imported.tokenizer_sha256 != BYTES.fingerprint


def _without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def _with_other_bos(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": 259}))


def _with_truncated_weights(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("damage", "words", "message"),
    [
        (_without_tokenizer, [], "tokenizer.json: no such file; put the model's tokenizer.json beside its weights"),
        (_with_other_bos, [], "has no tokens [259, 257], which are given as its BOS and EOS"),
        (_with_truncated_weights, [], "model.safetensors: damaged or no safetensors file"),
        (None, ["--context-length", "-1"], "--context-length: -1 must be positive"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_leaves_no_model(tmp_path, capsys, damage, words, message):
    public_model(tmp_path / "public")
    if damage is not None:
        damage(tmp_path / "public")
    with pytest.raises(SystemExit) as stop:
        main(["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours", *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "ours" / "model.json").exists()


def test_a_model_without_a_stated_context_asks_for_it(tmp_path, capsys):
    config = Mamba2Config(d_model=16, num_layers=1, num_heads=2, d_state=4, d_inner=32)
    public_model(tmp_path / "public", config)
    command = ["import-weights", f"{tmp_path}/public", "--out", f"{tmp_path}/ours"]
    with pytest.raises(SystemExit):
        main(command)
    assert "--context-length TOKENS" in capsys.readouterr().err
    main([*command, "--context-length", "64"])
    assert open_imported(tmp_path / "ours")[0].context_length == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import-weights", "--out", "x"], "name a folder first"),
        (["import-weights", "nowhere"], "nowhere/config.json: no such file"),
        (["export-weights"], "name a study first"),
        (["export-weights", "ours", "--step", "7"], "--step 7 is not one of its checkpoints [0]"),
        (["export-weights", "ours", "--run", "r"], "ours is an imported model and has no runs"),
        (["export-weights", "ours", "--out", "public"], "is there already and not an empty folder"),
        (["evaluate", "s", "--checkpoint", "a", "--checkpoint", "b"], "--checkpoint: give it once"),
        (["import-wieghts", "x"], "did you mean 'import-weights'"),
    ],
)
def test_wrong_words_are_answered_in_one_line(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    public_model(Path("public"))
    main(["import-weights", "public", "--out", "ours"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in err
    assert err.count("\n") == 1
