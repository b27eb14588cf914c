"""What a checkpoint is scored on, without jax."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ValidationSet:
    """The held-out documents of one corpus of the study."""

    corpus: str
    max_documents: int | None = 200  # sampled by hash where there are more
    max_document_bytes: int | None = None  # score no more than the start of each, cut between two characters

    @property
    def name(self) -> str:
        return self.corpus


@dataclass(frozen=True)
class ClozeTask:
    """Which text continues this one? The true continuation against those of other held-out documents."""

    corpus: str
    num_items: int = 200
    context_bytes: int = 200
    continuation_bytes: int = 100
    num_choices: int = 4
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.corpus}_cloze"


@dataclass(frozen=True)
class ChoiceTask:
    """Items from a JSONL(.gz) or Parquet file; docs/tasks.md has the forms that a row may take."""

    name: str
    path: str
    max_items: int | None = None  # spread evenly over the file where there are more
    spec: str | None = None  # how a row becomes an item: "hellaswag" or "my_tasks.toml:name"; None: our own form


@dataclass(frozen=True)
class SuiteConfig:
    """Every set that each checkpoint of a study is scored on, at one context length for all models unless asked."""

    validation: tuple[ValidationSet, ...] = ()
    cloze: tuple[ClozeTask, ...] = ()
    choice: tuple[ChoiceTask, ...] = ()
    context_length: int = 256  # tokens a window; the same for every model of the study
    overlap: int = 128  # tokens of a window that are context already scored in the window before
    own_context: bool = False  # score each model at the context it was trained with instead, overlap in proportion

    def for_context(self, trained_with: int) -> "SuiteConfig":
        """What a model is scored on that was trained with so many tokens of context."""
        if not self.own_context:
            return self
        overlap = self.overlap * trained_with // self.context_length
        return replace(self, context_length=trained_with, overlap=overlap, own_context=False)

    @property
    def set_names(self) -> tuple[str, ...]:
        return tuple(item.name for item in (*self.validation, *self.cloze, *self.choice))
