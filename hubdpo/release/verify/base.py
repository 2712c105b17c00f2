"""The base of a released adapter: whether it is still on the Hub, and whether it has changed since."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from pydantic import BaseModel

from hubdpo import console
from hubdpo.artefacts.folders.model_files import BASE_PATTERNS, COPIED_FILES
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import HubError, VerificationFailed
from hubdpo.hub.client import fetch
from hubdpo.hub.failures import translate_errors
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api

HASHES_ALONE = "`--check hashes` compares the files alone"
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", *COPIED_FILES)


class BaseState(BaseModel):
    """The base of an adapter: its pinned commit, and the commit of its main branch now (None when unknown)."""

    repo_id: str
    revision: str
    main: str | None = None
    moved: bool | None = None
    license: str | None = None
    license_now: str | None = None


def look_up_base(folder: Path) -> BaseState | None:
    """Return the state of the base, with a warning when its main branch has another model or licence than recorded."""
    base = RunManifest.read(folder / RUN_FILE).base
    if base.repo_id is None or base.revision is None:
        return None
    name, pinned = base.repo_id, base.revision
    state = BaseState(repo_id=name, revision=pinned, license=base.license)
    try:
        with translate_errors(name):
            now = repeat(lambda: api().model_info(name))
            moved = now.sha != pinned and _model_files(name, str(now.sha)) != _model_files(name, pinned)
    except HubError as problem:
        console.warn(f"the base cannot be looked up: {problem.message}")
        return state
    licence = now.card_data.license if now.card_data else None
    state = BaseState(
        repo_id=name, revision=pinned, main=now.sha, moved=moved, license=base.license,
        license_now=licence if isinstance(licence, str) else None,
    )  # fmt: skip
    if state.moved:
        console.warn(f"`{name}` has moved on to {str(now.sha)[:12]}; the adapter stays on {pinned[:12]}")
    if base.license and state.license_now not in (None, base.license):
        console.warn(f"`{name}` is under {state.license_now} now; it was under {base.license}")
    return state


def _model_files(repo_id: str, revision: str) -> dict[str, str | None]:
    """Return the hashes of the files that make a model what it is. A new card or commit alone is not a new model.

    A release of hubdpo, for one, is a commit beside the commit on main that has the same files.
    """
    info = repeat(lambda: api().model_info(repo_id, revision=revision, files_metadata=True))
    return {
        file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id
        for file in info.siblings or []
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in MODEL_FILES)
    }


def fetch_base(name: str, revision: str, *, exists: bool) -> Path:
    """Download the base. Unless it is known to exist, ask the Hub first: a cached base may be gone from there."""
    from huggingface_hub import errors

    with translate_errors(name):
        try:
            if not exists:
                repeat(lambda: api().repo_info(name, revision=revision))
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as problem:
            raise VerificationFailed(
                f"the base {name}@{revision[:12]} cannot be had: {type(problem).__name__}",
                hint=f"log in with access to it; {HASHES_ALONE}",
            ) from None
        return repeat(lambda: fetch(name, revision, allow_patterns=BASE_PATTERNS))
