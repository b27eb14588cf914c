"""Start a headless Chromium, for tests of pages as a reader sees them."""

import shutil
import time
from collections.abc import Callable

import pytest


@pytest.fixture(scope="module")
def browser():
    """Start the Chromium of this machine. The test is skipped if there is none; nothing is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition on the page holds.

    The content policy of the page forbids `wait_for_function` of Playwright.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.05)
