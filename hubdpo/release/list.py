"""The releases of a repo, newest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hubdpo.errors import ConfigError
from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.open import find_type
from hubdpo.hub.reference import parse_ref
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import api
from hubdpo.hub.versions import parse_tag
from hubdpo.release.remote import Remote


@dataclass(frozen=True)
class Listed:
    """One release. `kind`, `files` and `bytes` are None for a tag that hubdpo did not make."""

    tag: str
    commit: str
    date: str
    kind: str | None
    files: int | None
    bytes: int | None
    on_main: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def releases(repo_id: str) -> list[Listed]:
    """List the tags `vX.Y.Z` of a model or dataset, newest first; their files are not downloaded.

    Raise ConfigError when `repo_id` is not USER/NAME, HubError when there is no such repo.
    """
    repo_id, revision = parse_ref(repo_id)
    if revision is not None:
        raise ConfigError(f"all releases of a repo are listed, not `{revision}`", hint=f"hubdpo versions {repo_id}")
    require_online("`versions`")
    remote = Remote(repo_id, find_type(repo_id))
    with translate_errors(repo_id):
        tags = {name: commit for name, commit in remote.tags().items() if parse_tag(name)}
        head = remote.branches().get("main")
        main = remote.bundle(head, remote.tree(head)) if head else None
        return [
            _listed(remote, tag, tags[tag], main.version if main else None)
            for tag in sorted(tags, key=lambda name: parse_tag(name) or (0, 0, 0), reverse=True)
        ]


def _listed(remote: Remote, tag: str, commit: str, main: str | None) -> Listed:
    info = repeat(lambda: api().repo_info(remote.repo_id, repo_type=remote.repo_type, revision=commit))
    bundle = remote.bundle(commit, remote.tree(commit))
    if bundle is not None and tag != f"v{bundle.version}":  # a tag by hand on a release's commit
        bundle = None
    return Listed(
        tag=tag,
        commit=commit,
        date=info.last_modified.date().isoformat() if info.last_modified else "",
        kind=bundle.kind if bundle else None,
        files=len(bundle.files) if bundle else None,
        bytes=sum(entry.size for entry in bundle.files.values()) if bundle else None,
        on_main=tag == f"v{main}",
    )
