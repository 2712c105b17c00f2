"""`hubdpo doctor`"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from typing import Annotated, Any

import typer

from hubdpo import console
from hubdpo.cli._options import FormatOption, JsonOption, QuietOption, choose_format, errors_end_here
from hubdpo.version import __version__

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "huggingface_hub")


def register(app: typer.Typer) -> None:
    @app.command()
    def doctor(
        hub: Annotated[bool, typer.Option(help="Ask the Hub who you are.")] = True,
        format: FormatOption = None,
        json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        """Show what hubdpo finds on this machine: versions, devices, disk, the Hub and your login."""
        choose_format(format, json=json, quiet=quiet)
        with errors_end_here():
            found = {**_software(), **_device(), "free_disk_gb": shutil.disk_usage(".").free // 10**9}
            found |= _hub() if hub else {}
            console.table(["", "found"], list(found.items()))
            console.result(f"hubdpo {__version__} on {found['device']}", found)


def _software() -> dict[str, Any]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _device() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"device": f"cpu ({os.cpu_count()} cores)"}
    card = torch.cuda.get_device_properties(0)
    return {"device": f"{torch.cuda.device_count()} x {card.name}", "gpu_memory_gb": card.total_memory // 10**9}


def _hub() -> dict[str, Any]:
    from hubdpo.errors import HubError
    from hubdpo.hub.failures import translate_errors
    from hubdpo.hub.transport import api, endpoint

    try:
        with translate_errors("your login"):
            login = api().whoami()["name"]
    except HubError as problem:
        login = f"unknown: {problem.message}" + (f": `{problem.hint}`" if problem.hint else "")
    return {"endpoint": endpoint(), "login": login}
