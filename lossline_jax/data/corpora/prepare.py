"""A prepared corpus on disk: documents without duplicates, split by their hash, and a manifest."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from etils import epath

from lossline_jax.config.data import BuiltinCorpus, Corpus
from lossline_jax.config.serialise import fingerprint, to_json
from lossline_jax.data.corpora.read import describe_source, licence, read_documents
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import write_json
from lossline_jax.storage.staged_folder import (
    MANIFEST,
    check_sha256,
    is_complete,
    mend_of,
    read_folder_manifest,
    staged_folder,
)

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class PreparedCorpus:
    """The documents of one corpus under `folder`: `train.jsonl`, `validation.jsonl`, `manifest.json`."""

    folder: epath.Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: epath.Path) -> "PreparedCorpus":
        """Open a prepared corpus.

        Args:
            folder: folder of the corpus.

        Raises:
            LosslineError: the folder is missing or incomplete.
        """
        fields = {"name": str, "sha256": str, "validation_fraction": (int, float), "bytes": int}
        manifest = read_folder_manifest(folder, "corpus", {**fields, TRAIN: dict, VALIDATION: dict})
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return self.manifest["name"]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the documents and of their split, which decide the content of a token store."""
        return fingerprint([self.name, self.manifest["sha256"], self.manifest["validation_fraction"]])

    def train_texts(self) -> Iterator[str]:
        """Return the documents to train on, in order. Raises as `verify`."""
        return self._texts(TRAIN)

    def validation_texts(self) -> Iterator[str]:
        """Return the held-out documents, in order. A small corpus may have none. Raises as `verify`."""
        return self._texts(VALIDATION)

    def verify(self, split: str) -> None:
        """Compare the text of a split with the manifest.

        The manifest has the SHA-256 of the split. A manifest of an earlier version only has the size.

        Args:
            split: `train` or `validation`.

        Raises:
            LosslineError: names the damaged file.
        """
        path, recorded = self.folder / f"{split}.jsonl", self.manifest[split]
        if "sha256" in recorded:
            check_sha256(path, recorded["sha256"])
            return
        sizes = [len(text.encode("utf-8", "surrogatepass")) for text in self._read(path)]
        if [len(sizes), sum(sizes)] != [recorded.get("documents"), recorded.get("bytes")]:
            raise LosslineError(
                f"{path}: damaged ({len(sizes)} documents of {sum(sizes)} bytes, the manifest has "
                f"{recorded.get('documents')} of {recorded.get('bytes')}); {mend_of(self.folder)}"
            )

    def _texts(self, split: str) -> Iterator[str]:
        self.verify(split)
        yield from self._read(self.folder / f"{split}.jsonl")

    def _read(self, path: epath.Path) -> Iterator[str]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = json.loads(line)["text"]
                except (ValueError, KeyError, TypeError) as error:
                    raise LosslineError(
                        f"{path}: damaged (line {number} is not a document: {error}); {mend_of(self.folder)}"
                    ) from error
                if not isinstance(text, str):
                    raise LosslineError(f"{path}: damaged (line {number} is not a document); {mend_of(self.folder)}")
                yield text


def prepare_corpus(corpus: Corpus, folder_of_corpora: epath.Path, validation_fraction: float) -> PreparedCorpus:
    """Write the documents of `corpus` to disk, or open the corpus that an earlier call wrote.

    The corpus is written again if its config has changed. A builtin corpus is also written again if the version of its
    package has changed.

    Args:
        corpus: config of the corpus.
        folder_of_corpora: folder in which the corpus gets a folder.
        validation_fraction: fraction of documents that are held out. The hash of a document decides, not its position.

    Raises:
        LosslineError: the input is bad (see `read_documents`), there is no text, no text is left to train on, or
            the user's files have changed since they were prepared.
    """
    if not 0 <= validation_fraction < 1:
        raise LosslineError(f"validation_fraction {validation_fraction} must be at least 0 and less than 1")
    version = describe_source(corpus) if isinstance(corpus, BuiltinCorpus) else None
    identity = fingerprint([corpus, validation_fraction, version])
    folder = folder_of_corpora / f"{corpus.name}-{identity}"
    if is_complete(folder):
        prepared = PreparedCorpus.open(folder)
        _refuse_changed_files(corpus, prepared)
        return prepared
    with staged_folder(folder) as part:
        manifest = _write_documents(corpus, part, validation_fraction)
        write_json(part / MANIFEST, manifest)
    return PreparedCorpus.open(folder)


def hash_fraction(digest: bytes) -> float:
    """Return the first eight bytes of a digest as a number in [0, 1), which does not depend on a document's position.

    Args:
        digest: digest of the document.
    """
    return int.from_bytes(digest[:8], "big") / 2**64


def _refuse_changed_files(corpus: Corpus, prepared: PreparedCorpus) -> None:
    """Refuse files that have changed since they were prepared.

    Missing files are accepted, since a prepared study may be copied to a machine without them.
    """
    try:
        source = describe_source(corpus)
    except LosslineError:
        return
    if source != prepared.manifest["source"]:
        raise LosslineError(
            f"corpus {corpus.name!r}: its files are not those that were prepared; to prepare it "
            f"again, delete {prepared.folder} or give the corpus another name"
        )


def _write_documents(corpus: Corpus, part: epath.Path, validation_fraction: float) -> dict[str, Any]:
    counts: dict[str, dict[str, Any]] = {split: {"documents": 0, "bytes": 0} for split in (TRAIN, VALIDATION)}
    digests = {split: hashlib.sha256() for split in counts}
    total_bytes = duplicates = skipped = 0
    document_digests: set[bytes] = set()
    corpus_digest = hashlib.sha256()
    with (
        (part / f"{TRAIN}.jsonl").open("wb") as train,
        (part / f"{VALIDATION}.jsonl").open("wb") as validation,
    ):
        files: dict[str, IO[bytes]] = {TRAIN: train, VALIDATION: validation}
        for document in read_documents(corpus):
            data = document.text.encode("utf-8")
            digest = hashlib.sha256(data).digest()
            if not document.text.strip():
                skipped += 1
                continue
            if digest in document_digests:
                duplicates += 1
                continue
            document_digests.add(digest)
            corpus_digest.update(digest)
            split = VALIDATION if hash_fraction(digest) < validation_fraction else TRAIN
            line = (json.dumps({"text": document.text}, ensure_ascii=False) + "\n").encode("utf-8")
            files[split].write(line)
            digests[split].update(line)
            counts[split]["documents"] += 1
            counts[split]["bytes"] += len(data)
            total_bytes += len(data)
            if corpus.max_bytes is not None and total_bytes >= corpus.max_bytes:
                break
    _refuse_empty(corpus.name, counts, skipped)
    return {
        "name": corpus.name,
        "config": to_json(corpus),
        "source": describe_source(corpus),
        "licence": licence(corpus),
        "documents": len(document_digests),
        "bytes": total_bytes,
        "duplicates_dropped": duplicates,
        "skipped": skipped,  # empty documents, and modules of `code` that do not parse
        "validation_fraction": validation_fraction,
        **{split: {**counts[split], "sha256": digests[split].hexdigest()} for split in counts},
        "sha256": corpus_digest.hexdigest(),  # of the documents' SHA-256 digests, in order
        "complete": True,
    }


def _refuse_empty(name: str, counts: dict[str, dict[str, int]], skipped: int) -> None:
    if counts[TRAIN]["documents"]:
        return
    held_out = counts[VALIDATION]["documents"]
    if held_out:
        raise LosslineError(
            f"corpus {name!r}: all its {held_out} documents fall into the validation split; add documents or "
            "lower validation_fraction"
        )
    raise LosslineError(f"corpus {name!r} is empty: no text in it ({skipped} empty documents); check its source")
