"""The paths of a study, of a run and of an imported model. The module docstring of files.py lists the layout."""

from dataclasses import dataclass

from etils import epath


@dataclass(frozen=True)
class RunDir:
    """The paths of one run."""

    root: epath.Path

    @property
    def claim_file(self) -> epath.Path:
        """The config of the run and the fingerprint of the data that this folder belongs to."""
        return self.root / "claim.json"

    @property
    def lock_file(self) -> epath.Path:
        """The lock of the process that trains the run."""
        return self.root / "lock"

    @property
    def steps_file(self) -> epath.Path:
        """One JSON object for each logged training step."""
        return self.root / "steps.jsonl"

    @property
    def tensorboard(self) -> epath.Path:
        """Event files with the rows of `steps_file`."""
        return self.root / "tensorboard"

    @property
    def profile(self) -> epath.Path:
        """Traces of some steps, if the user asked for a profile."""
        return self.root / "profile"

    @property
    def checkpoints(self) -> epath.Path:
        """One folder for each checkpoint."""
        return self.root / "checkpoints"

    def checkpoint(self, step: int) -> epath.Path:
        """Return the folder of the checkpoint after `step` updates."""
        return self.checkpoints / f"{step:08d}"

    @property
    def done_file(self) -> epath.Path:
        """The `RunResult` of a finished run."""
        return self.root / "done.json"

    @property
    def failed_file(self) -> epath.Path:
        """The `RunFailure` of a failed run."""
        return self.root / "failed.json"


@dataclass(frozen=True)
class ModelDir(RunDir):
    """The paths of a model that was trained elsewhere: model.json, tokenizer.json and checkpoints/."""

    @property
    def model_file(self) -> epath.Path:
        """The config of the model, and its description in the rows of a losses table."""
        return self.root / "model.json"

    @property
    def tokenizer_file(self) -> epath.Path:
        """The tokenizer of the model."""
        return self.root / "tokenizer.json"

    @property
    def elsewhere_file(self) -> epath.Path:
        """The name of the folder with the checkpoints, for a model in a study without checkpoints of its own."""
        return self.root / "elsewhere.json"

    @property
    def suite_file(self) -> epath.Path:
        """The prepared suite that the model is scored on, for a model in a study."""
        return self.root / "suite.json"


@dataclass(frozen=True)
class StudyDir:
    """The paths of one study."""

    root: epath.Path

    @property
    def study_file(self) -> epath.Path:
        """The resolved study."""
        return self.root / "study.json"

    @property
    def prepared(self) -> epath.Path:
        """Everything that `lossline-jax prepare` makes."""
        return self.root / "prepared"

    @property
    def prepared_file(self) -> epath.Path:
        """The list of prepared data, the study they are for, and the suite that each run is scored on."""
        return self.prepared / "prepared.json"

    @property
    def corpora(self) -> epath.Path:
        """One folder for each prepared corpus."""
        return self.prepared / "corpora"

    @property
    def tokenizers(self) -> epath.Path:
        """One folder for each prepared tokenizer."""
        return self.prepared / "tokenizers"

    @property
    def stores(self) -> epath.Path:
        """One folder for each token store."""
        return self.prepared / "stores"

    @property
    def suites(self) -> epath.Path:
        """One folder for each tokenised evaluation suite."""
        return self.prepared / "suites"

    def run(self, run_id: str) -> RunDir:
        """Return the paths of one run."""
        return RunDir(self.root / "runs" / run_id)

    @property
    def imported(self) -> epath.Path:
        """One folder for each model from elsewhere that is scored on the study's evaluation sets."""
        return self.root / "imported"

    def imported_model(self, run_id: str) -> ModelDir:
        """Return the paths of one imported model."""
        return ModelDir(self.imported / run_id)

    @property
    def losses(self) -> epath.Path:
        """The losses tables and the rows they are built from."""
        return self.root / "losses"

    def loss_rows(self, run_id: str) -> epath.Path:
        """Return the file with the rows of one run, as JSON lines. The tables are built from these files."""
        return self.losses / "rows" / f"{run_id}.jsonl"

    def scoring_lock(self, run_id: str) -> epath.Path:
        """Return the lock of the one process that adds rows of a run. Another process may train the run meanwhile."""
        return self.losses / "rows" / f"{run_id}.lock"

    def unscored_file(self, run_id: str) -> epath.Path:
        """Return the file that says why checkpoints of a run could not be scored. It is absent if all were scored."""
        return self.losses / "unscored" / f"{run_id}.json"

    @property
    def losses_csv(self) -> epath.Path:
        """The losses table as CSV."""
        return self.losses / "losses.csv"

    @property
    def losses_parquet(self) -> epath.Path:
        """The losses table as Parquet."""
        return self.losses / "losses.parquet"

    @property
    def fits_file(self) -> epath.Path:
        """The fits of the study."""
        return self.root / "fits" / "fits.json"

    @property
    def report(self) -> epath.Path:
        """The folder of the report."""
        return self.root / "report"

    @property
    def report_file(self) -> epath.Path:
        """The page of the report."""
        return self.report / "report.html"
