"""Every path of a study, of a run and of an imported model."""

from dataclasses import dataclass

from etils import epath


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    root: epath.Path

    @property
    def claim_file(self) -> epath.Path:
        """The configuration and the data that this folder belongs to."""
        return self.root / "claim.json"

    @property
    def lock_file(self) -> epath.Path:
        return self.root / "lock"

    @property
    def steps_file(self) -> epath.Path:
        """One JSON object a logged training step."""
        return self.root / "steps.jsonl"

    @property
    def tensorboard(self) -> epath.Path:
        """The same rows as event files."""
        return self.root / "tensorboard"

    @property
    def profile(self) -> epath.Path:
        """Traces of some steps, where they were asked for."""
        return self.root / "profile"

    @property
    def checkpoints(self) -> epath.Path:
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> epath.Path:
        """Folder of the checkpoint after `step` updates."""
        return self.checkpoints / f"{step:08d}"

    @property
    def done_file(self) -> epath.Path:
        return self.root / "done.json"

    @property
    def failed_file(self) -> epath.Path:
        return self.root / "failed.json"


@dataclass(frozen=True)
class ModelDir(RunDir):
    """Paths of a model that was trained elsewhere: model.json, tokenizer.json and checkpoints/."""

    @property
    def model_file(self) -> epath.Path:
        """What the model is, and what its rows in a losses table say of it."""
        return self.root / "model.json"

    @property
    def tokenizer_file(self) -> epath.Path:
        return self.root / "tokenizer.json"

    @property
    def elsewhere_file(self) -> epath.Path:
        """In a study: which folder has the checkpoints, if this one has not."""
        return self.root / "elsewhere.json"

    @property
    def suite_file(self) -> epath.Path:
        """In a study: the prepared suite that the model is scored on."""
        return self.root / "suite.json"


@dataclass(frozen=True)
class StudyDir:
    """Paths of one study."""

    root: epath.Path

    @property
    def study_file(self) -> epath.Path:
        return self.root / "study.json"

    @property
    def prepared(self) -> epath.Path:
        return self.root / "prepared"

    @property
    def prepared_file(self) -> epath.Path:
        """What was prepared, for which study, and which suite each run is scored on."""
        return self.prepared / "prepared.json"

    @property
    def corpora(self) -> epath.Path:
        return self.prepared / "corpora"

    @property
    def tokenizers(self) -> epath.Path:
        return self.prepared / "tokenizers"

    @property
    def stores(self) -> epath.Path:
        return self.prepared / "stores"

    @property
    def suites(self) -> epath.Path:
        return self.prepared / "suites"

    def run(self, run_id: str) -> RunDir:
        return RunDir(self.root / "runs" / run_id)

    @property
    def imported(self) -> epath.Path:
        """A folder for each model from elsewhere that is scored on the study's sets."""
        return self.root / "imported"

    def imported_model(self, run_id: str) -> ModelDir:
        return ModelDir(self.imported / run_id)

    @property
    def losses(self) -> epath.Path:
        return self.root / "losses"

    def loss_rows(self, run_id: str) -> epath.Path:
        """The rows of one run, a JSON object a line: the source that the tables are built from."""
        return self.losses / "rows" / f"{run_id}.jsonl"

    def scoring_lock(self, run_id: str) -> epath.Path:
        """Held by the one process that adds rows of a run; another may train the run meanwhile."""
        return self.losses / "rows" / f"{run_id}.lock"

    def unscored_file(self, run_id: str) -> epath.Path:
        """Why checkpoints of a run could not be scored; absent where all could."""
        return self.losses / "unscored" / f"{run_id}.json"

    @property
    def losses_csv(self) -> epath.Path:
        return self.losses / "losses.csv"

    @property
    def losses_parquet(self) -> epath.Path:
        return self.losses / "losses.parquet"

    @property
    def fits_file(self) -> epath.Path:
        return self.root / "fits" / "fits.json"

    @property
    def report(self) -> epath.Path:
        return self.root / "report"

    @property
    def report_file(self) -> epath.Path:
        return self.report / "report.html"
