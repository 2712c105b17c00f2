"""Say what a base is. Whatever keeps results of a base, or compares two bases, asks here.

On the Hub a base is a repo at a commit. A folder has no commit and may be moved, so it is the hash of its files.
"""

from __future__ import annotations

from pathlib import Path

from hubdpo.artefacts.folders.hashes import files_hash
from hubdpo.artefacts.folders.model_files import CONFIG, INDEX
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.hub.snapshot import Snapshot

COMPUTING = (CONFIG, INDEX, "*.safetensors")
"""Files that decide what a model computes from token ids; no other weights are read."""


def model_hash(folder: Path) -> str:
    """Return the hash of what the model in a folder computes."""
    return files_hash(folder, COMPUTING)


def identified(files: Snapshot) -> BaseRef:
    """Return the reference to a base by which it is known again."""
    if files.commit is None:
        folder = Path(files.name)
        return BaseRef(name=folder.resolve().name, sha256=model_hash(folder))
    return BaseRef(name=files.name, repo_id=files.name, revision=files.commit)


def key_of(base: BaseRef) -> str:
    """Return what the results of an identified base are kept under."""
    return base.sha256 or base.place


def told_apart_by(base: BaseRef, other: BaseRef) -> dict[str, str | None]:
    """Return what is another value for `base` than for `other`, with the two exchanged, if they are two bases.

    hubdpo 0.4 and earlier recorded no hash: of its folders only the name is known.
    """
    if base.sha256 and other.sha256:
        return {"base files": base.sha256}
    return {"base": base.name, "base revision": base.revision}


def is_another(base: BaseRef, other: BaseRef) -> bool:
    """Tell whether two references are of different bases, as far as they tell."""
    return told_apart_by(base, other) != told_apart_by(other, base)
