"""The folder of what runs share and can make again: token ids and reference log-probs. It may be deleted any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str = "") -> Path:
    """Return the folder, which may not exist yet, of one kind of files; of all kinds by default."""
    home = os.environ.get("HUBDPO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hubdpo"
    return Path(home).expanduser() / kind
