"""The config of the evaluation sets that checkpoints are scored on. This module does not import jax."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ValidationSet:
    """An evaluation set of the held-out documents of one corpus of the study."""

    corpus: str
    max_documents: int | None = 200  # a larger set is sampled by document hash; None: score all
    max_document_bytes: int | None = None  # score only this much of each start, in whole characters; None: all of it

    @property
    def name(self) -> str:
        """The name of the evaluation set, which is the name of its corpus."""
        return self.corpus


@dataclass(frozen=True)
class ClozeTask:
    """A multiple-choice task that asks which text continues a given text.

    The choices are the true continuation and continuations from other held-out documents.
    """

    corpus: str
    num_items: int = 200
    context_bytes: int = 200
    continuation_bytes: int = 100
    num_choices: int = 4
    seed: int = 0

    @property
    def name(self) -> str:
        """The name of the evaluation set: the corpus and `_cloze`."""
        return f"{self.corpus}_cloze"


@dataclass(frozen=True)
class ChoiceTask:
    """A multiple-choice task from a JSONL(.gz) or Parquet file; docs/tasks.md lists the accepted forms of a row."""

    name: str
    path: str
    max_items: int | None = None  # a larger file is sampled evenly from start to end; None: use all items
    spec: str | None = None  # how a row becomes an item: "hellaswag" or "my_tasks.toml:name"; None: lossline's own form


@dataclass(frozen=True)
class SuiteConfig:
    """Every evaluation set that each checkpoint of a study is scored on.

    All models are scored at one context length, unless `own_context` is set.
    """

    validation: tuple[ValidationSet, ...] = ()
    cloze: tuple[ClozeTask, ...] = ()
    choice: tuple[ChoiceTask, ...] = ()
    context_length: int = 256  # tokens per window; the same for every model of the study
    overlap: int = 128  # tokens of a window that serve as context only: the previous window has scored them
    own_context: bool = False  # True: score each model at its training context; `overlap` scales in proportion

    def for_context(self, trained_with: int) -> "SuiteConfig":
        """Return the suite for a model that was trained with `trained_with` tokens of context.

        Args:
            trained_with: context length of the model's training, in tokens.
        """
        if not self.own_context:
            return self
        overlap = self.overlap * trained_with // self.context_length
        return replace(self, context_length=trained_with, overlap=overlap, own_context=False)

    @property
    def set_names(self) -> tuple[str, ...]:
        """The names of all evaluation sets, in the order of the fields above."""
        return tuple(item.name for item in (*self.validation, *self.cloze, *self.choice))
