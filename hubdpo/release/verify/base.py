"""The base of a released adapter: whether it is still on the Hub, and whether it has changed since."""

from __future__ import annotations

import fnmatch

from pydantic import BaseModel

from hubdpo import console
from hubdpo.artefacts.folders.model_files import COPIED_FILES
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.errors import HubError, VerificationFailed
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


def look_up_base(base: BaseRef, *, needed: bool) -> BaseState | None:
    """Return the state of the base, with a warning when its main branch has another model or licence than recorded.

    Warn too when the base cannot be had. Where it is `needed`, raise VerificationFailed when the Hub does not have the
    base at its commit, HubError when it does not answer.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if base.repo_id is None or base.revision is None:
        return None
    name, pinned = base.repo_id, base.revision
    kind = HubError
    try:
        with translate_errors(f"{name}@{pinned[:12]}"):
            try:
                now = repeat(lambda: api().model_info(name))
                moved = now.sha != pinned and _model_files(name, str(now.sha)) != _model_files(name, pinned)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                kind = VerificationFailed
                raise
    except HubError as problem:
        message = f"the base cannot be had: {problem.message}"
        if needed:
            raise kind(message, hint=f"where it is private, log in with access to it; {HASHES_ALONE}") from None
        console.warn(message)
        return BaseState(repo_id=name, revision=pinned, license=base.license)
    licence = now.card_data.license if now.card_data else None
    licence = licence if isinstance(licence, str) else None
    if moved:
        console.warn(f"`{name}` has moved on to {str(now.sha)[:12]}; the adapter stays on {pinned[:12]}")
    if base.license and licence not in (None, base.license):
        console.warn(f"`{name}` is under {licence} now; it was under {base.license}")
    return BaseState(
        repo_id=name, revision=pinned, main=now.sha, moved=moved, license=base.license, license_now=licence
    )


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
