"""Headless Chromium for tests that look at a page as a reader would."""

import shutil
import time
from collections.abc import Callable

import pytest


@pytest.fixture(scope="module")
def browser():
    """Of the system: nothing is downloaded. Skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what a page does by itself; its content policy forbids Playwright's own `wait_for_function`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)
