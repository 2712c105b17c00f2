"""`hubdpo serve-hub`, `doctor` and `demo`: try things out on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.artefacts.folders.cache import cache_folder
from hubdpo.cli.command import command, error_boundary
from hubdpo.cli.serving import until_stopped
from hubdpo.machine.refusals import in_units
from hubdpo.version import __version__, library_versions


def serve_hub(
    folder: Annotated[Path, typer.Argument(help="Folder of the repos; created if missing.", metavar="DIR")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 picks a free port.")
    ] = 0,
    token: Annotated[
        list[str] | None,
        typer.Option(
            help="Token to accept; repeatable. Other users of the machine can see it in the process list.",
            metavar="NAME:VALUE[:read|write]",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File of tokens, one per line, readable by you alone.", metavar="FILE")
    ] = None,
    org: Annotated[
        list[str] | None,
        typer.Option(help="Organisation, whose members own the repos NAME/*; repeatable.", metavar="NAME:USER,USER"),
    ] = None,
    access_log: Annotated[
        str | None, typer.Option(help="File to append a line to for each request; `-` is stderr.", metavar="FILE")
    ] = None,
) -> None:
    """Serve a local Hub until stopped.

    Set HF_ENDPOINT to the printed address, and HF_TOKEN. Any Hub client
    then works with this server, through Xet or (HF_HUB_DISABLE_XET=1) LFS.

    All data lives in DIR; to back it up, stop the server and copy DIR.
    Tokens come from --token-file, HUBDPO_HUB_TOKENS (space-separated) or
    --token, and are stored as hashes. User NAME owns the repos NAME/*.
    """
    with error_boundary():
        from hubdpo.loopback.http.access_log import AccessLog
        from hubdpo.loopback.limits import ignore_full_disk
        from hubdpo.loopback.server import LoopbackHub
        from hubdpo.loopback.storage.tokens import declared_in_environment, declared_in_file
        from hubdpo.view.hub.pages import HubPages

        tokens, orgs = declared_in_environment(os.environ)
        tokens += token or ()
        orgs += org or ()
        if token_file is not None:
            declared = declared_in_file(token_file)
            tokens, orgs = tokens + declared.tokens, declared.orgs + orgs
        log = AccessLog(access_log).write if access_log else lambda _: None
        server = LoopbackHub(folder, port=port, tokens=tokens, orgs=orgs, done=log, pages=HubPages())
        sys.unraisablehook = ignore_full_disk
        console.result(f"HF_ENDPOINT={server.endpoint}", {"HF_ENDPOINT": server.endpoint})
        console.info(f"serving {folder}, to browsers too; stop with Ctrl-C")
        try:
            until_stopped(server.serve_forever)
        finally:
            server.stop()


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


@command()
def demo(
    folder: Annotated[
        Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the demo's files.")
    ] = Path("demo-run"),
) -> None:
    """Run every stage on this machine, from prepare to load, without network or account."""
    from hubdpo.demo.road import run

    run(folder)
