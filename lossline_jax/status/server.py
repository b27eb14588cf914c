"""Serve the report of a study that is still running, to this machine alone (`lossline-jax report --watch`)."""

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
from lossline_jax.status.live import FileState, LiveProgress, rows_mark
from lossline_jax.storage.paths import StudyDir

HOST = "127.0.0.1"
SECONDS_BETWEEN_LOOKS = 5.0  # at least, between two checks for new rows
REST = 4  # pause after a rebuild, as a multiple of the rebuild's duration: the study needs the processor too
NO_ROWS, BUILDING = "no checkpoint has been scored yet", "the losses so far are being fitted and drawn"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'",
}


class LiveReport:
    """The latest build of the report, and the progress of the runs.

    Args:
        study: the study.
        folder: the study's folder.
        build: a function that makes the report from the present loss rows and returns its HTML.
    """

    def __init__(self, study: StudyConfig, folder: StudyDir, build: Callable[[], str]) -> None:
        self.study, self.folder, self._build = study, folder, build
        self._progress = LiveProgress(study, folder)
        self._report, self._note = "", NO_ROWS
        self._version = 0  # number of builds of the report
        self._seen: dict[str, FileState] = {}  # `rows_mark` at the last build

    def rebuild_if_grown(self) -> bool:
        """Build the report again if there are new rows. Return whether a build was tried."""
        try:
            mark = rows_mark(self.study, self.folder)
            if mark == self._seen:
                return False
            self._seen = mark
            self._note = self._note if self._report else BUILDING
            self._report, self._note = self._build(), ""
            self._version += 1
        except LosslineError as error:  # too few rows for a line: the next rows may be enough
            self._note = str(error)
        return True

    def page(self) -> str:
        """Return the report with the live part at its top, or the live part alone before the first report."""
        live = _text("live.html")
        if self._report:
            return self._report.replace("<main>", f"{live}<main>", 1)
        colours = {"light": css_variables(dark=False), "dark": css_variables(dark=True)}
        return Template(_text("alone.html")).substitute(colours, study=html.escape(self.study.name), live=live)

    def progress(self) -> dict[str, Any]:
        """Return the data of the live part. A new `version` tells the live part to load the newer report."""
        return self._progress.read() | {"version": self._version, "note": self._note}


def start_server(watch: LiveReport, port: int) -> ThreadingHTTPServer:
    """Start a server that answers requests in threads until its `shutdown()` is called.

    Args:
        watch: the report to serve.
        port: the port. 0: any free port; the server's `server_address` has the chosen one.

    Raises:
        LosslineError: the server cannot listen on the port.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(watch))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LosslineError(
            f"--port {port}: the server cannot listen on it ({reason}); give another port, or 0 for any free port"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def serve(watch: LiveReport, port: int, info: Callable[[str], None]) -> None:
    """Serve the report until Ctrl-C, and rebuild it when there are new rows.

    Args:
        watch: the report to serve.
        port: the port. 0: any free port.
        info: the function that writes a line to the console.

    Raises:
        LosslineError: the server cannot listen on the port.
    """
    server = start_server(watch, port)
    info(f"http://{HOST}:{server.server_address[1]}/   Ctrl-C ends it; the study goes on")
    try:
        while True:
            start = time.monotonic()
            watch.rebuild_if_grown()
            time.sleep(max(SECONDS_BETWEEN_LOOKS, REST * (time.monotonic() - start)))
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
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                # Another site may let its name resolve to this address (DNS rebinding), to read the page.
                self.send_error(403, "Only by its own name")
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
            with contextlib.suppress(ConnectionError):  # the reader has closed the page
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Write no line for a request: the terminal belongs to the reader."""

    return Handler


def _text(name: str) -> str:
    return resources.files("lossline_jax.status").joinpath("assets", name).read_text(encoding="utf-8")
