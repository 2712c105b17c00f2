"""`hubdpo doctor`"""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from hubdpo import console
from hubdpo.cli.command import command
from hubdpo.version import __version__, library_versions


def register(app: typer.Typer) -> None:
    @command(app)
    def doctor(
        hub: Annotated[bool, typer.Option(help="Ask the Hub for your user name.")] = True,
    ) -> None:
        """Show versions, devices, disk space, the Hub endpoint and your login."""
        report: dict[str, object] = {
            **library_versions(),
            **_device(),
            "free_disk_gb": shutil.disk_usage(".").free // 10**9,
        }
        report |= _hub() if hub else {}
        console.table(["", "found"], list(report.items()))
        console.result(f"hubdpo {__version__} on {report['device']}", report)


def _device() -> dict[str, object]:
    import torch

    if not torch.cuda.is_available():
        return {"device": f"cpu ({os.cpu_count()} cores)"}
    card = torch.cuda.get_device_properties(0)
    return {"device": f"{torch.cuda.device_count()} x {card.name}", "gpu_memory_gb": card.total_memory // 10**9}


def _hub() -> dict[str, object]:
    from hubdpo.errors import HubError
    from hubdpo.hub.failures import translate_errors
    from hubdpo.hub.transport import api, endpoint

    try:
        with translate_errors("your login"):
            login = api().whoami()["name"]
    except HubError as problem:
        login = f"unknown: {problem.message}" + (f": `{problem.hint}`" if problem.hint else "")
    return {"endpoint": endpoint(), "login": login}
