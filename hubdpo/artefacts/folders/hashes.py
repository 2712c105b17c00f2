"""SHA-256 of large files, which are read once: the hash is remembered until a file changes.

A base of 15 GB takes some ten seconds to hash. Every write to a file, and whatever takes its place, gives it another
change time, which no program can set back.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.cache import cache_folder, why_not_cached
from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.artefacts.manifests.manifest import fingerprint, sha256_file, write_atomic
from hubdpo.errors import ArtefactError

SHA256 = re.compile("[0-9a-f]{64}")
LARGE = 16 * 2**20
"""Bytes from which on it is faster to look a hash up."""
SETTLED = 2.0
"""Seconds after which another write gives a file another time, also where a disk stores whole seconds."""


def files_hash(folder: Path, patterns: Iterable[str]) -> str:
    """Return the hash of the files of a folder that match the patterns, and of their names in it."""
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return fingerprint({path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, remembered if the file is large and was not written just now."""
    info = path.stat()
    if info.st_size < LARGE:
        return sha256_file(path)
    state = [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
    remembered = cache_folder("hashes") / f"{fingerprint(str(path.resolve()))}.json"
    try:
        known = read_object(remembered)
    except (OSError, ArtefactError):
        known = {}  # not hashed yet, or a file that is not hubdpo's
    if known.get("state") == state and SHA256.fullmatch(str(known.get("sha256"))):
        return str(known["sha256"])
    is_settled = time.time() - max(info.st_mtime, info.st_ctime) > SETTLED
    digest = sha256_file(path)
    if is_settled:
        try:
            write_atomic(remembered, json.dumps({"state": state, "sha256": digest}))
        except Exception as error:
            console.warn(f"the hash of {path} cannot be kept: {why_not_cached(error, remembered.parent)}")
    return digest
