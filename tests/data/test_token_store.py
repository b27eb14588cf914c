"""A token store holds the same stream in any number of shards. Damaged stores are refused."""

import json
import os

import numpy as np
import pytest
from etils import epath

from lossline_jax.config.data import ByteTokenizer, FilesCorpus
from lossline_jax.data import token_store as store_module
from lossline_jax.data.corpora.prepare import prepare_corpus
from lossline_jax.data.token_shards import RemoteTokens
from lossline_jax.data.token_store import TokenStore, prepare_store
from lossline_jax.data.tokenizers.base import BytesPerIdTokenizer
from lossline_jax.data.tokenizers.build import prepare_tokenizer
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import write_json

TOKENIZER = prepare_tokenizer(ByteTokenizer(), {}, epath.Path("unused"))


class WideTokenizer(BytesPerIdTokenizer):
    """A tokenizer with one id for each character up to U+10FFFF, so that an id needs more than 16 bits."""

    def __init__(self):
        super().__init__([b""] * 0x110002, bos_id=0x110000, eos_id=0x110001, fingerprint="wide")

    def encode(self, text):
        return np.array([ord(character) for character in text], np.int32)


@pytest.fixture
def corpus(tmp_path):
    lines = [json.dumps({"text": f"Document {k} é {'x' * (k % 7)}"}) for k in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    corpus = FilesCorpus("letters", (f"{tmp_path}/a.jsonl",))
    return prepare_corpus(corpus, epath.Path(tmp_path / "corpora"), 0.25)


def expected_tokens(corpus):
    return np.array([i for text in corpus.train_texts() for i in (256, *text.encode("utf-8"), 257)])


@pytest.mark.parametrize("shard_tokens", [1 << 20, 100, 7, 1])
def test_stream_is_bos_document_eos_in_any_number_of_shards(corpus, tmp_path, shard_tokens):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"), shard_tokens)
    expected = expected_tokens(corpus)
    assert store.num_tokens == len(store.tokens) == len(expected)
    np.testing.assert_array_equal(store.tokens[:], expected)
    raw = [np.fromfile(store.folder / shard["name"], "<u2") for shard in store.manifest["shards"]]
    np.testing.assert_array_equal(np.concatenate(raw), expected)
    assert len(raw) == -(-len(expected) // shard_tokens)
    starts = np.array([0, 3, len(expected) - 11, 5])
    np.testing.assert_array_equal(store.tokens.gather(starts, 11), expected[starts[:, None] + np.arange(11)])
    np.testing.assert_array_equal(store.tokens[4:4], [])
    store.verify()


def test_offsets_and_bytes_are_those_of_each_document(corpus, tmp_path):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"))
    texts = list(corpus.train_texts())
    offsets = store.document_offsets
    for k, text in enumerate(texts):
        ids = store.tokens[int(offsets[k]) : int(offsets[k + 1])]
        assert TOKENIZER.decode(ids[1:-1]) == text
    assert store.document_bytes.tolist() == [len(text.encode("utf-8")) for text in texts]
    assert store.manifest["num_bytes"] == corpus.manifest["train"]["bytes"]
    assert store.manifest["num_documents"] == len(texts)


def test_large_vocabularies_take_four_bytes(corpus, tmp_path):
    store = prepare_store(corpus, WideTokenizer(), epath.Path(tmp_path / "stores"))
    assert store.manifest["dtype"] == "<u4"
    assert store.tokens[:1].tolist() == [0x110000]
    assert store.fingerprint != prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores")).fingerprint


@pytest.mark.parametrize("shard_tokens", [1 << 20, 50])
def test_byte_ranges_read_what_the_map_reads(corpus, tmp_path, shard_tokens):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"), shard_tokens)
    shards = store.manifest["shards"]
    names, counts = [shard["name"] for shard in shards], [shard["tokens"] for shard in shards]
    remote = RemoteTokens(f"file://{store.folder}", names, counts, np.dtype("<u2"))
    starts = np.array([0, 45, 13, store.num_tokens - 60])
    np.testing.assert_array_equal(remote.gather(starts, 60), store.tokens.gather(starts, 60))
    (store.folder / names[0]).unlink()
    with pytest.raises(LosslineError, match="shard is missing"):
        remote.gather(starts, 60)


def test_a_store_is_made_once(corpus, tmp_path):
    folder = epath.Path(tmp_path / "stores")
    first = prepare_store(corpus, TOKENIZER, folder)
    stamp = (first.folder / "tokens-00000.bin").stat().mtime
    second = prepare_store(corpus, TOKENIZER, folder)
    assert (second.folder / "tokens-00000.bin").stat().mtime == stamp
    assert second.fingerprint == first.fingerprint
    assert [path.name for path in folder.iterdir()] == [first.folder.name]


def test_half_made_and_damaged_stores_are_refused(corpus, tmp_path):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"), shard_tokens=300)
    shard, manifest = store.folder / "tokens-00001.bin", store.folder / "manifest.json"
    whole, complete = shard.read_bytes(), manifest.read_text()

    def message():
        with pytest.raises(LosslineError) as caught:
            TokenStore.open(store.folder).verify()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    shard.write_bytes(whole[:-2])
    assert "598 bytes instead of 600" in message()
    shard.write_bytes(whole[:-1] + b"\xff")
    assert "damaged (wrong SHA-256)" in message()
    shard.unlink()
    assert "tokens-00001.bin: this part of the token store is missing" in message()
    shard.write_bytes(whole)
    TokenStore.open(store.folder).verify()
    manifest.write_text(complete.replace('"complete": true', '"complete": false'))
    assert "damaged (its content is not what was written" in message()
    write_json(manifest, {**store.manifest, "complete": False})
    assert "no complete token store" in message()
    manifest.unlink()
    assert "no complete token store" in message()
    remade = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"), shard_tokens=300)
    assert remade.fingerprint == store.fingerprint


def test_tokens_that_changed_since_they_were_sound_are_refused_and_others_not_read_again(corpus, tmp_path, monkeypatch):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"), shard_tokens=300)
    hashed = []
    check = store_module.check_sha256
    monkeypatch.setattr(
        store_module, "check_sha256", lambda path, sha256: hashed.append(path.name) or check(path, sha256)
    )
    store.verify_changed()
    count = len(hashed)
    assert count == len(store.manifest["shards"]) + 2
    store.verify_changed()
    assert len(hashed) == count
    shard = store.folder / "tokens-00001.bin"
    times, whole = os.stat(shard), shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"\xff")
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy program that keeps the times does
    with pytest.raises(LosslineError, match=r"tokens-00001\.bin: damaged \(wrong SHA-256\)"):
        store.verify_changed()
    shard.write_bytes(whole)
    store.verify_changed()
    assert hashed[count:] == ["tokens-00001.bin", "tokens-00001.bin"]
    (store.folder / "verified.json").write_text("{}}")
    store.verify_changed()
    assert len(hashed) == 2 * count + 2


@pytest.mark.parametrize(
    ("field", "value"), [("num_tokens", 7), ("dtype", "<u4"), ("dtype", "no"), ("shards", [{}]), ("sidecars", {})]
)
def test_a_manifest_that_contradicts_itself_is_refused(corpus, tmp_path, field, value):
    store = prepare_store(corpus, TOKENIZER, epath.Path(tmp_path / "stores"))
    manifest = {**store.manifest, field: value}
    (store.folder / "manifest.json").write_text(json.dumps(manifest))  # an earlier version wrote no checksum
    with pytest.raises(LosslineError, match=r"manifest\.json: damaged"):
        TokenStore.open(store.folder)
