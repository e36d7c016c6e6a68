"""The browser of these tests."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.cdp import Page, browser_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    if CHROMIUM is None:
        why = "no Chromium on this machine (Debian: the package chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return CHROMIUM


@pytest.fixture
async def tab(chromium: str, tmp_path: Path) -> AsyncIterator[Page]:
    """An empty tab of a browser of its own."""
    async with browser_page(chromium, tmp_path / "profile") as page:
        yield page
