"""The releases of a repo, newest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hubdpo.artefacts.manifests.bundle import Kind
from hubdpo.errors import ConfigError
from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.open import find_types, say_which
from hubdpo.hub.reference import parse_ref
from hubdpo.hub.retry import repeat
from hubdpo.hub.snapshot import Snapshot
from hubdpo.hub.transport import api
from hubdpo.hub.versions import newest_first
from hubdpo.release.remote import Remote


@dataclass(frozen=True)
class Listed:
    """One release. `kind`, `files` and `bytes` are None for a tag that hubdpo did not make."""

    tag: str
    commit: str
    date: str
    kind: Kind | None
    files: int | None
    bytes: int | None
    on_main: bool

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def releases(repo_id: str) -> list[Listed]:
    """List the tags `vX.Y.Z` of a model, else a dataset, newest first, without downloading their files.

    Raise ConfigError when `repo_id` is not USER/NAME, HubError when there is no such repo.
    """
    named = parse_ref(repo_id)
    if named.revision is not None:
        hint = f"hubdpo versions {named._replace(revision=None)}"
        raise ConfigError(f"all releases of a repo are listed, not `{named.revision}`", hint=hint)
    require_online("`versions`")
    types = find_types(named)
    say_which(named, types[0], types)
    remote = Remote(named.repo_id, types[0])
    with translate_errors(named.repo_id):
        refs = remote.refs()
        main = remote.at(refs.main).bundle if refs.main else None
        newest = f"v{main.version}" if main else None
        return [
            listed(remote.at(refs.tags[tag]), tag, day_of(remote, refs.tags[tag]), on_main=tag == newest)
            for tag in newest_first(refs.tags)
        ]


def day_of(remote: Remote, commit: str) -> str:
    """Return the day of a commit, YYYY-MM-DD in UTC, "" when the Hub does not tell."""
    info = repeat(lambda: api().repo_info(**remote.named, revision=commit))
    return info.last_modified.date().isoformat() if info.last_modified else ""


def listed(snapshot: Snapshot, tag: str, date: str, *, on_main: bool) -> Listed:
    """Describe the release that a tag names, by the files of its commit."""
    bundle = snapshot.bundle
    if bundle is not None and tag != f"v{bundle.version}":  # somebody tagged a release's commit by hand
        bundle = None
    return Listed(
        tag=tag,
        commit=str(snapshot.commit),
        date=date,
        kind=bundle.kind if bundle else None,
        files=len(bundle.files) if bundle else None,
        bytes=sum(entry.size for entry in bundle.files.values()) if bundle else None,
        on_main=on_main,
    )
