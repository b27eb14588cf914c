"""`lossline-jax report --watch`: the report of a study that is still running, served to this machine alone."""

import contextlib
import html
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from string import Template
from typing import Any

from lossline_jax.config.study import StudyConfig
from lossline_jax.errors import LosslineError
from lossline_jax.report.figures.style import css_variables
from lossline_jax.status.live import LiveProgress, rows_mark
from lossline_jax.storage.paths import StudyDir

HOST = "127.0.0.1"
SECONDS_BETWEEN_LOOKS = 5.0
REST = 4  # times as long as a rebuild took, before the next: the study needs the processor too
NO_ROWS, BUILDING = "no checkpoint has been scored yet", "the losses so far are being fitted and drawn"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'",
}


class LiveReport:
    """The page as it was last built, and how far the runs are.

    Args:
        build: makes the report from the rows that there are, and returns its HTML.
    """

    def __init__(self, study: StudyConfig, folder: StudyDir, build: Callable[[], str]):
        self.study, self.folder, self._build = study, folder, build
        self._progress = LiveProgress(study, folder)
        self._report, self._note = "", NO_ROWS
        self._version = 0  # of the report: counts how often it was built
        self._seen: dict[str, Any] = {}

    def rebuild_if_grown(self) -> bool:
        """Build the report anew where rows have come since; says whether it tried."""
        try:
            mark = rows_mark(self.study, self.folder)
            if mark == self._seen:
                return False
            self._seen = mark
            self._note = self._note if self._report else BUILDING
            self._report, self._note = self._build(), ""
            self._version += 1
        except LosslineError as error:  # too little to draw a line: the next rows may mend it
            self._note = str(error)
        return True

    def page(self) -> str:
        """The report with the live part at its head; before there is one, the live part alone."""
        live = _text("live.html")
        if self._report:
            return self._report.replace("<main>", f"{live}<main>", 1)
        colours = {"light": css_variables(dark=False), "dark": css_variables(dark=True)}
        return Template(_text("alone.html")).substitute(colours, study=html.escape(self.study.name), live=live)

    def progress(self) -> dict[str, Any]:
        """What the live part shows, and the version of the report, by which it knows that there is a newer one."""
        return self._progress.read() | {"version": self._version, "note": self._note}


def start_server(watch: LiveReport, port: int) -> ThreadingHTTPServer:
    """Answer requests in threads until `shutdown()` is called; `server_port` is the port, which 0 leaves open.

    Raises:
        LosslineError: the port cannot be had.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watch))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LosslineError(
            f"--port {port}: cannot be listened on ({reason}); give another, or 0 for any that is free"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def serve(watch: LiveReport, port: int, info: Callable[[str], None]) -> None:
    """Serve, and rebuild as rows come, until interrupted."""
    server = start_server(watch, port)
    info(f"http://{HOST}:{server.server_port}/   Ctrl-C ends it; the study goes on")
    try:
        while True:
            began = time.monotonic()
            watch.rebuild_if_grown()
            time.sleep(max(SECONDS_BETWEEN_LOOKS, REST * (time.monotonic() - began)))
    except KeyboardInterrupt:
        info("stopped watching")
    finally:
        server.shutdown()
        server.server_close()


def _handler(watch: LiveReport) -> type[BaseHTTPRequestHandler]:
    answers = {
        "/": (lambda: watch.page(), "text/html; charset=utf-8"),
        "/progress.json": (lambda: json.dumps(watch.progress()), "application/json"),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.server.server_port
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                self.send_error(403, "Only by its own name")  # a page elsewhere whose name was made to lead here
            elif self.path not in answers:
                self.send_error(404)
            else:
                self._answer(*answers[self.path])

        def _answer(self, make: Callable[[], str], media_type: str) -> None:
            try:
                status, content = 200, make().encode()
            except LosslineError as error:  # a damaged file in the study's folder
                status, content, media_type = 500, str(error).encode(), "text/plain; charset=utf-8"
            self.send_response(status)
            for name, value in (HEADERS | {"Content-Type": media_type, "Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            with contextlib.suppress(ConnectionError):  # the reader has left
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing a request: the terminal is for the reader."""

    return Handler


def _text(name: str) -> str:
    return resources.files("lossline_jax.status").joinpath("assets", name).read_text(encoding="utf-8")
