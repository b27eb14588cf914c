"""Send the step log of a run to TensorBoard and to Weights & Biases. The run's folder holds the same numbers."""

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from etils import epath

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.serialise import to_json
from lossline_jax.config.study import RunConfig
from lossline_jax.errors import LosslineError
from lossline_jax.storage.files import is_remote, write_atomic
from lossline_jax.storage.paths import RunDir
from lossline_jax.storage.step_log import StepLog

Row = Mapping[str, Any]  # a row of the step log
TAGS = {  # name in the trackers, by the key of a row
    "loss_nats_per_token": "train/loss_nats_per_token",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens_seen": "train/tokens_seen",
    "tokens_per_second": "speed/tokens_per_second",
    "mfu": "speed/mfu",
    "step_seconds": "speed/step_seconds",
    "input_wait_seconds": "speed/input_wait_seconds",
    "memory_bytes": "speed/memory_bytes",
}
EVALUATION_PREFIX = "eval/"  # of the name in the trackers; the name of the evaluation set follows. In nats per token.
EVENT_FILE = "events.out.tfevents."  # beginning of the name of files that TensorBoard reads


class Tracker(Protocol):
    """A view of a run that is being trained, outside the run's folder."""

    def log(self, row: Row) -> None:
        """Show a row of the step log."""

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        """Show the losses of a checkpoint that was just scored, in nats per token by evaluation set."""

    def flush(self) -> None:
        """Make the logged values safe, because a checkpoint is about to be saved."""

    def close(self) -> None:
        """Close the view, because the process stops training the run, at its end or before."""


def open_trackers(run: RunConfig, run_dir: RunDir, execution: ExecutionConfig, log: StepLog) -> list[Tracker]:
    """Open the trackers that `execution` asks for. Only process 0 calls this.

    Args:
        run: the run.
        run_dir: its folder.
        execution: the settings that name the trackers.
        log: the step log, with the rows of earlier processes.

    Raises:
        LosslineError: a package is missing, or W&B refuses the login.
    """
    trackers: list[Tracker] = []
    if execution.tensorboard:
        trackers.append(TensorBoard(run_dir.tensorboard, log.rows))
    if execution.wandb_project is not None:
        trackers.append(WandB(execution.wandb_project, run, run_dir, log.last_step))
    return trackers


class TensorBoard:
    """An event file that has every row of the step log once, even if the run was killed and resumed.

    A process that begins or resumes the run writes a new file, with a later name, from the rows of the step log. It
    then empties the older file, so that a running TensorBoard starts again with the new one. A local file gets each
    row at once. A file in an object store is replaced as a whole at every `flush`. The step log works in the same way.

    Args:
        folder: `<run>/tensorboard`.
        rows: rows of the step log, up to the step from which the run continues.

    Raises:
        LosslineError: the package tensorboardX is missing.
    """

    def __init__(self, folder: epath.Path, rows: Sequence[Row]) -> None:
        try:
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c
        except ImportError as error:
            raise LosslineError(
                f"execution.tensorboard: cannot import {error.name}; `pip install tensorboardX`, or go without by "
                "--execution.no-tensorboard"
            ) from error
        # A protobuf module makes its classes at run time, so the type checker does not see them.
        self._event, self._summary, self._crc = event_pb2, summary_pb2.Summary, masked_crc32c  # pyright: ignore[reportAttributeAccessIssue]
        earlier = sorted(folder.glob(f"{EVENT_FILE}*")) if folder.exists() else []
        self._file = folder / _next_name(earlier)
        self._appends = not is_remote(folder)
        records = [self._first_records(), *map(self._row_record, rows), *self._evaluations(earlier)]
        self._written, self._unwritten = (
            b"".join(records),
            b"",
        )  # in an object store; a local file has no unwritten part
        write_atomic(self._file, self._written)
        for file in earlier:
            write_atomic(file, b"")  # not deleted: a TensorBoard that reads a deleted file never opens the next one

    def log(self, row: Row) -> None:
        """Append a row of the step log."""
        self._append(self._row_record(row))

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        """Append the losses of a scored checkpoint, in nats per token by evaluation set."""
        values = {EVALUATION_PREFIX + name: loss for name, loss in losses.items()}
        self._append(self._record(step, time.time(), values))

    def flush(self) -> None:
        """Write the file to the object store if it has new records."""
        if self._unwritten:
            self._written, self._unwritten = self._written + self._unwritten, b""
            write_atomic(self._file, self._written)

    def close(self) -> None:
        """Flush."""
        self.flush()

    def _append(self, record: bytes) -> None:
        if self._appends:
            with self._file.open("ab") as file:
                file.write(record)
        else:
            self._unwritten += record

    def _first_records(self) -> bytes:
        """Return the records that tell a reader to forget the steps of earlier files."""
        version = self._event.Event(wall_time=time.time(), file_version="brain.Event:2")
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        event = self._event.Event(wall_time=time.time(), step=0, session_log=start)
        return self._tf_record(version) + self._tf_record(event)

    def _row_record(self, row: Row) -> bytes:
        values = {tag: row[key] for key, tag in TAGS.items() if row.get(key) is not None}
        return self._record(row["step"], row["time"], values)

    def _record(self, step: int, wall_time: float, values: Mapping[str, float]) -> bytes:
        scalars = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        return self._tf_record(
            self._event.Event(wall_time=wall_time, step=step, summary=self._summary(value=scalars)),
        )

    def _tf_record(self, event: Any) -> bytes:
        """Return an event as a TFRecord: the length and the content, each with its checksum."""
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        return b"".join([length, struct.pack("<I", self._crc(length)), content, struct.pack("<I", self._crc(content))])

    def _evaluations(self, files: Sequence[epath.Path]) -> Iterator[bytes]:
        """Yield the losses of scored checkpoints in earlier files, the last ones of each step. No log has them."""
        losses = {}
        for event in (event for file in files for event in self._events(file.read_bytes())):
            for value in event.summary.value:
                if value.tag.startswith(EVALUATION_PREFIX):
                    losses[event.step, value.tag] = event.wall_time, value.simple_value
        for (step, tag), (wall_time, value) in sorted(losses.items()):
            yield self._record(step, wall_time, {tag: value})

    def _events(self, content: bytes) -> Iterator[Any]:
        """Yield the events of a file that this class wrote. An incomplete last event, after a kill, is left out."""
        offset = 0
        while offset + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, offset)
            if offset + 16 + length > len(content):
                return
            yield self._event.Event.FromString(content[offset + 12 : offset + 12 + length])
            offset += 16 + length


def _next_name(earlier: Sequence[epath.Path]) -> str:
    """Return a file name that sorts after the earlier ones, even if the clock was set back.

    TensorBoard reads the files in the order of their names, and never goes back.
    """
    last = max((int(file.name.removeprefix(EVENT_FILE).split(".")[0]) for file in earlier), default=0)
    return f"{EVENT_FILE}{max(int(time.time()), last + 1):010d}.{socket.gethostname()}"


class WandB:
    """A run of Weights & Biases with the run's own id, so that a resumed run continues in it.

    W&B cannot remove logged steps. A step that is trained again after a kill has the same values as before, so it is
    not logged twice.

    Args:
        project: name of the W&B project.
        run: gives W&B the id, the name and the configuration.
        run_dir: folder for W&B's own files, if it is on a local disk.
        last_step: the last step that the step log had, before it was cut to the step from which the run continues.

    Raises:
        LosslineError: the package wandb is missing, or W&B refuses the login.
    """

    def __init__(self, project: str, run: RunConfig, run_dir: RunDir, last_step: int) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]  (an optional extra)
        except ImportError as error:
            raise LosslineError(
                f"execution.wandb_project: cannot import {error.name}; `pip install wandb`, or leave it out"
            ) from error
        try:
            self._run = wandb.init(
                project=project,
                id=run.run_id,
                name=run.run_id,
                resume="allow",
                config=to_json(run),
                dir=None if is_remote(run_dir.root) else str(run_dir.root),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise LosslineError(
                f"execution.wandb_project: W&B refuses ({reason}); log in with `wandb login`, or set WANDB_MODE=offline"
            ) from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._last_logged = max(last_step, int(self._run.summary.get("step") or 0))

    def log(self, row: Row) -> None:
        """Log a row of the step log, unless its step was logged before."""
        if row["step"] > self._last_logged:
            values = {tag: row[key] for key, tag in TAGS.items() if row.get(key) is not None}
            self._run.log({"step": row["step"], **values})

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        """Log the losses of a scored checkpoint, in nats per token by evaluation set."""
        self._run.log({"step": step, **{EVALUATION_PREFIX + name: loss for name, loss in losses.items()}})

    def flush(self) -> None:
        """Do nothing, because W&B's own process has the values already."""

    def close(self) -> None:
        """End the W&B run."""
        self._run.finish()
