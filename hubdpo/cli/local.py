"""`hubdpo doctor` and `demo`: try things out on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.artefacts.folders.cache import cache_folder
from hubdpo.cli.command import command
from hubdpo.errors import Stopped
from hubdpo.machine.refusals import AGAIN, in_units
from hubdpo.version import __version__, library_versions


@command()
def doctor(hub: Annotated[bool, typer.Option(help="Ask the Hub for your user name.")] = True) -> None:
    """Show versions, devices, disk space, the Hub endpoint and your login."""
    report: dict[str, object] = {
        **library_versions(),
        **_device(),
        "free_disk_gb": shutil.disk_usage(".").free // 10**9,
        "cache": f"{cache_folder()} ({in_units(_size_of(cache_folder()))})",
    }
    report |= _hub() if hub else {}
    console.table(["", "found"], list(report.items()))
    console.result(f"hubdpo {__version__} on {report['device']}", report)


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another process may move it
            size += path.stat().st_size
    return size


def _device() -> dict[str, object]:
    import torch

    if not torch.cuda.is_available():
        return {"device": f"cpu ({os.cpu_count()} cores)"}
    card = torch.cuda.get_device_properties(0)
    return {"device": f"{torch.cuda.device_count()} x {card.name}", "gpu_memory_gb": card.total_memory // 10**9}


def _hub() -> dict[str, object]:
    from hubdpo.errors import HubError
    from hubdpo.hub.failures import is_offline, translate_errors
    from hubdpo.hub.transport import api, endpoint

    if is_offline():
        return {"endpoint": endpoint(), "login": "unknown: offline mode is on"}
    try:
        with translate_errors(""):
            login = api().whoami()["name"]
    except HubError as problem:
        login = "unknown"
        console.warn(f"your login is unknown: {problem.message}")
        console.hint(problem.hint or "hubdpo doctor --no-hub")
    return {"endpoint": endpoint(), "login": login}


@command(stopped=f"{AGAIN}: it starts over in the same folder")
def demo(
    folder: Annotated[
        Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the demo's files.")
    ] = Path("demo-run"),
) -> None:
    """Run every stage on this machine, from prepare to load, without network or account."""
    from hubdpo.demo.road import run

    try:
        run(folder)
    except Stopped:  # its hint goes on with one stage, on a Hub that has ended with the demo
        raise KeyboardInterrupt from None
