"""The step log for the eyes of TensorBoard and of Weights & Biases: views of what the run's folder holds anyway."""

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

Row = Mapping[str, Any]  # of the step log
TAGS = {  # by the key of a row
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
EVALUATED = "eval/"  # and the name of the set: nats a token of a checkpoint
EVENT_FILE = "events.out.tfevents."  # what TensorBoard looks for


class Tracker(Protocol):
    """Shows a run elsewhere while it is trained."""

    def log(self, row: Row) -> None:
        """A row of the step log."""

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        """Losses of a checkpoint that was just scored, in nats a token, by evaluation set."""

    def flush(self) -> None:
        """A checkpoint is about to be saved: what was logged is not to be lost any more."""

    def close(self) -> None:
        """The process stops training the run, at its end or before."""


def open_trackers(run: RunConfig, run_dir: RunDir, execution: ExecutionConfig, log: StepLog) -> list[Tracker]:
    """The trackers that `execution` asks for; only process 0 has any.

    Raises:
        LosslineError: a package is missing, or W&B does not let us in.
    """
    trackers: list[Tracker] = []
    if execution.tensorboard:
        trackers.append(TensorBoard(run_dir.tensorboard, log.rows))
    if execution.wandb_project is not None:
        trackers.append(WandB(execution.wandb_project, run, run_dir, log.last_step))
    return trackers


class TensorBoard:
    """One event file with every row of the step log once, whatever was killed and resumed before.

    A process that begins or resumes the run writes the file anew from the rows that are left, under a later name,
    and then empties the older one: a TensorBoard that is looking on starts over with it. As with the step log, a
    local file gains each row at once, and one in an object store is put whole at every `flush`.

    Args:
        folder: `<run>/tensorboard`.
        rows: of the step log, up to where the run stands.
    """

    def __init__(self, folder: epath.Path, rows: Sequence[Row]):
        try:
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c
        except ImportError as error:
            raise LosslineError(
                f"execution.tensorboard: cannot import {error.name}; `pip install tensorboardX`, or go without by "
                "--execution.no-tensorboard"
            ) from error
        self._event, self._summary, self._crc = event_pb2, summary_pb2.Summary, masked_crc32c
        earlier = sorted(folder.glob(f"{EVENT_FILE}*")) if folder.exists() else []
        self._file = folder / _next_name(earlier)
        self._appends = not is_remote(folder)
        records = [self._beginning(), *map(self._row_record, rows), *self._evaluations(earlier)]
        self._in_store, self._waiting = b"".join(records), b""  # the content of an object, and what it lacks
        write_atomic(self._file, self._in_store)
        for file in earlier:
            write_atomic(file, b"")  # not deleted: a TensorBoard that reads it would never get to the next one

    def log(self, row: Row) -> None:
        self._append(self._row_record(row))

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        self._append(self._record(step, time.time(), {EVALUATED + name: loss for name, loss in losses.items()}))

    def flush(self) -> None:
        if self._waiting:
            self._in_store, self._waiting = self._in_store + self._waiting, b""
            write_atomic(self._file, self._in_store)

    def close(self) -> None:
        self.flush()

    def _append(self, record: bytes) -> None:
        if self._appends:
            with self._file.open("ab") as file:
                file.write(record)
        else:
            self._waiting += record

    def _beginning(self) -> bytes:
        """Tells a reader to forget what earlier files have told of any step."""
        version = self._event.Event(wall_time=time.time(), file_version="brain.Event:2")
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        return self._framed(version) + self._framed(self._event.Event(wall_time=time.time(), step=0, session_log=start))

    def _row_record(self, row: Row) -> bytes:
        values = {tag: row[key] for key, tag in TAGS.items() if row.get(key) is not None}
        return self._record(row["step"], row["time"], values)

    def _record(self, step: int, wall_time: float, values: Mapping[str, float]) -> bytes:
        scalars = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        return self._framed(
            self._event.Event(wall_time=wall_time, step=step, summary=self._summary(value=scalars)),
        )

    def _framed(self, event: Any) -> bytes:
        """As a TFRecord: length and content, each with its checksum."""
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        return b"".join([length, struct.pack("<I", self._crc(length)), content, struct.pack("<I", self._crc(content))])

    def _evaluations(self, files: Sequence[epath.Path]) -> Iterator[bytes]:
        """The losses of scored checkpoints in earlier files, which no log of the run has; the last of each."""
        losses = {}
        for event in (event for file in files for event in self._events(file.read_bytes())):
            for value in event.summary.value:
                if value.tag.startswith(EVALUATED):
                    losses[event.step, value.tag] = event.wall_time, value.simple_value
        for (step, tag), (wall_time, value) in sorted(losses.items()):
            yield self._record(step, wall_time, {tag: value})

    def _events(self, content: bytes) -> Iterator[Any]:
        """Those of a file of ours; what a kill cut short is left out."""
        at = 0
        while at + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            if at + 16 + length > len(content):
                return
            yield self._event.Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length


def _next_name(earlier: Sequence[epath.Path]) -> str:
    """Sorts after the earlier ones even if the clock has been put back: TensorBoard reads forwards only."""
    last = max((int(file.name.removeprefix(EVENT_FILE).split(".")[0]) for file in earlier), default=0)
    return f"{EVENT_FILE}{max(int(time.time()), last + 1):010d}.{socket.gethostname()}"


class WandB:
    """The same as a run of Weights & Biases, whose id is the run's, so that a resumed run goes on in it.

    W&B cannot take back what it was told. Steps that are trained again after a kill have the values they had, so
    they are not told twice.

    Args:
        project: of W&B.
        run: gives W&B the id, the name and the configuration.
        run_dir: gets W&B's own files, where it is on a local disk.
        last_step: the last one that the step log had before it was cut to where the run stands.
    """

    def __init__(self, project: str, run: RunConfig, run_dir: RunDir, last_step: int):
        try:
            import wandb
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
        self._told = max(last_step, int(self._run.summary.get("step") or 0))

    def log(self, row: Row) -> None:
        if row["step"] > self._told:
            values = {tag: row[key] for key, tag in TAGS.items() if row.get(key) is not None}
            self._run.log({"step": row["step"], **values})

    def log_evaluation(self, step: int, losses: Mapping[str, float]) -> None:
        self._run.log({"step": step, **{EVALUATED + name: loss for name, loss in losses.items()}})

    def flush(self) -> None:
        """Nothing: W&B's own process has it already."""

    def close(self) -> None:
        self._run.finish()
