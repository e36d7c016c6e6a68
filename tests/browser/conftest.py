"""Where the browser is; what needs one is skipped without it."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium() -> str:
    if CHROMIUM is None:
        why = "no Chromium on this machine (Debian: the package chromium)"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return CHROMIUM
