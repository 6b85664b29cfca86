"""A browser that all tests of pages share."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

NO_BROWSER = "there is no Chromium here: `make browser` gets it from Debian's packages"


@pytest.fixture(scope="session")
def chromium():
    """This machine's Chromium, without a window."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
