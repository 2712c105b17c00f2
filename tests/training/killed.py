"""A run as a kill left it: its later checkpoints are gone, and its manifest says that it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from hubdpo.artefacts.manifests.run import RunManifest


def killed_copy(run: Path, copy: Path, *, after: int) -> Path:
    """Copy a finished run whose every step is saved, or some, as a kill after step `after` would have left it."""
    shutil.copytree(run, copy)
    for checkpoint in copy.glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > after:
            shutil.rmtree(checkpoint)
    RunManifest.read(copy / "run.json").model_copy(update={"status": "running"}).write(copy / "run.json")
    return copy
