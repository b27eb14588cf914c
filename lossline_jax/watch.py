"""`lossline report --watch`: the report of a study that is still running, served to this machine alone."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from lossline_jax.errors import LosslineError
from lossline_jax.imported import registered
from lossline_jax.rundir import StudyDir
from lossline_jax.study import StudyConfig
from lossline_jax.table import read_rows
from lossline_jax.views import last_step, run_state

HOST = "127.0.0.1"
SECONDS_BETWEEN_LOOKS = 5.0
REST = 4  # times as long as a rebuild took, before the next: the study needs the processor too


class Watch:
    """The page as it was last built, and what is known of the runs right now.

    Args:
        build: rebuilds the report from the rows that there are, and returns its HTML.
    """

    def __init__(self, study: StudyConfig, folder: StudyDir, build: Callable[[], str]):
        self.study, self.folder, self._build = study, folder, build
        self._page, self._version, self._note = "", 0, "no checkpoint has been scored yet"
        self._seen: dict[str, int] = {}

    def rebuild_if_grown(self) -> bool:
        """Build the page anew where rows have come since; says whether it did."""
        rows = {run_id: len(read_rows(self.folder.loss_rows(run_id))) for run_id in _run_ids(self.study, self.folder)}
        if rows == self._seen or not any(rows.values()):
            return False
        self._seen = rows
        try:
            self._page, self._note = self._build(), ""
            self._version += 1
        except LosslineError as error:  # too little to draw a line: the next rows may mend it
            self._note = str(error)
        return True

    def page(self) -> str:
        """The report with the live part, or before there is one the live part alone."""
        live = resources.files("lossline_jax").joinpath("watch.html").read_text(encoding="utf-8")
        if self._page:
            return self._page.replace("<main>", f"{live}<main>", 1)
        head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{self.study.name} · lossline</title>"
        return f"{head}<link rel=icon href=data:,>{live}</html>"

    def progress(self) -> dict[str, Any]:
        """What the live part shows: the version of the page, and a row a run."""
        return {
            "study": self.study.name,
            "version": self._version,
            "note": self._note,
            "runs": [self._run(run.run_id, run.num_steps) for run in self.study.runs],
        }

    def _run(self, run_id: str, num_steps: int) -> dict[str, Any]:
        directory = self.folder.run(run_id)
        step, last = last_step(directory)
        state, note = run_state(directory, last)
        left = (num_steps - step) * last["step_seconds"] if last and state == "running" else None
        loss = last["loss_nats_per_token"] if last else None
        speed = last["tokens_per_second"] if last and state == "running" else None
        told = {"step": step, "num_steps": num_steps, "loss": loss, "tokens_per_second": speed, "seconds_left": left}
        return {"run_id": run_id, "state": state, "note": note if state == "failed" else "", **told}


def frame_of_rows(study: StudyConfig, folder: StudyDir):
    """The losses table as far as it has come, from the rows of each run."""
    import pandas as pd

    rows = [row for run_id in _run_ids(study, folder) for row in read_rows(folder.loss_rows(run_id))]
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def serve(watch: Watch, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted.

    Raises:
        LosslineError: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watch))
    except (OSError, OverflowError) as error:
        raise LosslineError(f"--port {port}: cannot be listened on ({error}); give another, or 0 for any") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"http://{HOST}:{server.server_port}/  (Ctrl-C ends it; the study goes on)")
    try:
        while True:
            began = time.monotonic()
            built = watch.rebuild_if_grown()
            took = time.monotonic() - began
            time.sleep(max(SECONDS_BETWEEN_LOOKS, REST * took if built else 0.0))
    except KeyboardInterrupt:
        say("stopped watching")
    finally:
        server.shutdown()
        server.server_close()


def _run_ids(study: StudyConfig, folder: StudyDir) -> list[str]:
    return [run.run_id for run in study.runs] + [entry.model.run_id for entry in registered(folder)]


def _handler(watch: Watch) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (HOST, "localhost"):  # another name that leads here: a page elsewhere asking for ours
                self.send_error(403, "only for this machine")
            elif self.path == "/":
                self._send(watch.page(), "text/html; charset=utf-8")
            elif self.path == "/progress.json":
                self._send(json.dumps(watch.progress()), "application/json")
            else:
                self.send_error(404)

        def _send(self, text: str, media_type: str) -> None:
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing a request: the terminal shows the study."""

    return Handler
