"""Take the pictures of README and docs: pages of the demo's dataset and run, in headless Chromium (`make pictures`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view.server import ViewServer
from hubdpo.view.thing import Thing
from tests.view.conftest import ARGUMENTS, CHROMIUM

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
PAGES = {"pairs": ("data", "/?q=how", 1180, 760), "curves": ("run", "/", 1180, 660)}
"""Name: folder of the demo, address, and size in pixels."""


def main() -> None:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        sys.exit("no Chromium on this machine; install the package `chromium`")
    with tempfile.TemporaryDirectory(prefix="hubdpo-pictures-") as place, sync_playwright() as playwright:
        demo = Path(place) / "demo"
        command = [sys.executable, "-m", "hubdpo", "demo", "--output-dir", str(demo)]
        subprocess.run(command, check=True, env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name, (folder, address, width, height) in PAGES.items():
            server = ViewServer(Thing(FolderSnapshot(demo / folder, all_files=True), folder))
            server.start()
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=2)
            page.goto(server.address.rstrip("/") + address, wait_until="networkidle")
            page.screenshot(path=PICTURES / f"{name}.png")
            page.close()
            server.close()
        browser.close()


if __name__ == "__main__":
    main()
