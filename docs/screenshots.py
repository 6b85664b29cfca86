"""Photograph report/index.html for the README: at a desk in light, and on a phone in dark.

python docs/screenshots.py
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "report/index.html"
SHOTS = {
    "page-desk.png": {"viewport": {"width": 1280, "height": 1250}, "color_scheme": "light"},
    "page-phone.png": {"viewport": {"width": 360, "height": 1250}, "color_scheme": "dark"},
}


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, settings in SHOTS.items():
            page = browser.new_page(**settings)
            page.goto(PAGE.as_uri())
            charts = page.locator(".chart").count()
            page.wait_for_function(f"document.querySelectorAll('.chart[data-live]').length === {charts}")
            page.screenshot(path=FOLDER / name)
        browser.close()


if __name__ == "__main__":
    main()
