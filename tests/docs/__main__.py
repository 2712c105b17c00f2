"""Run pages: `python -m tests.docs [--props FOLDER] [PAGE ...]`.

The folder keeps what the commands find, for later runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hubdpo import console
from hubdpo.loopback.server import LoopbackHub
from hubdpo.view.hub.pages import HubPages
from tests.docs.hubs import Hubs
from tests.docs.pages import PAGES, ROOT
from tests.docs.props import ACCOUNTS, TOKEN, make_files, make_folders_and_repos
from tests.docs.run import Page, captured


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("pages", nargs="*", type=Path)
    asked.add_argument("--props", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="hubdpo-docs-") as scratch:
        props = (options.props or Path(scratch) / "props").resolve()
        # of one process: the Hub, its cache and its token
        os.environ.update(
            HF_HOME=str(Path(scratch) / "hf-home"), HUBDPO_CACHE=str(Path(scratch) / "cache"), HF_TOKEN=TOKEN,
            HF_HUB_DISABLE_XET="1", PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        made = (props / "hub").exists()
        if made:
            shutil.copytree(props / "hub", Path(scratch) / "hub")
        with LoopbackHub(Path(scratch) / "hub", **({} if made else ACCOUNTS), pages=HubPages()) as hub:
            os.environ["HF_ENDPOINT"] = hub.endpoint
            console.quiet_libraries()
            if not made:
                props.mkdir(parents=True, exist_ok=True)
                with captured():
                    make_files(props)
                    make_folders_and_repos(props)
        if not made:  # the Hub has stopped, and its folder is complete
            shutil.copytree(Path(scratch) / "hub", props / "hub")
        port = int(hub.endpoint.rpartition(":")[2])  # HF_ENDPOINT has been read
        with Hubs(Path(scratch) / "hub", port) as hubs:
            failed = [page for page in options.pages or PAGES if not _ran(page.resolve(), props, Path(scratch), hubs)]
    return 1 if failed else 0


def _ran(page: Path, props: Path, scratch: Path, hubs: Hubs) -> bool:
    failed = Page(props, Path(tempfile.mkdtemp(dir=scratch)), hubs).run(page)
    os.chdir(ROOT)
    for fault in failed:
        print(f"FAILED {fault}", file=sys.stderr)  # noqa: T201
    print(f"{page.relative_to(ROOT)}: {len(failed)} failed")  # noqa: T201
    return not failed


if __name__ == "__main__":
    sys.exit(main())
