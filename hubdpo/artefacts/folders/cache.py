"""The folder of what runs share and can make again: token ids, reference log-probs and hashes of large files.

It may be deleted any time.
"""

from __future__ import annotations

import os
from pathlib import Path

from hubdpo.errors import HubdpoError
from hubdpo.machine.refusals import machine_error


def cache_folder(kind: str = "") -> Path:
    """Return the folder, which may not exist yet, of one kind of files; of all kinds by default."""
    home = os.environ.get("HUBDPO_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hubdpo"
    return Path(home).expanduser() / kind


def why_not_cached(problem: Exception, folder: Path) -> str:
    """Say why this machine does not take a file of the cache, which a run can do without. Raise any other error."""
    refusal = None if isinstance(problem, HubdpoError) else machine_error(problem, [folder])
    if refusal is None and not isinstance(problem, OSError):
        raise problem
    return refusal.message if refusal is not None else str(problem)
