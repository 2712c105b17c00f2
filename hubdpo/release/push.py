"""The push stage: a folder in, one tagged and verified release on the Hub out.

The tag is the commit point. Files go to a branch of their own, are downloaded again and compared; only then the tag is
claimed, which the Hub grants once; then `main` follows. Killed or cut off anywhere, the same command goes on: every
step reads what is there, and the branch's name holds the id of the bundle.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.artefacts.folders.kinds import folder_kind, read_run
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.manifest import (
    CARD_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    RELEASE_FILE,
    RUN_FILE,
    write_atomic,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.config import PushConfig
from hubdpo.config.push import BUMPS
from hubdpo.config.takes import takes
from hubdpo.errors import ArtefactError, ConfigError, HubError, VersionTaken
from hubdpo.hub.client import RepoType, resolve
from hubdpo.hub.failures import require_online, translate_errors
from hubdpo.hub.retry import repeat
from hubdpo.hub.transport import PUBLIC_HUB, api, endpoint
from hubdpo.hub.versions import bump, highest
from hubdpo.model.generation import stops_elsewhere
from hubdpo.release.bundle import BundleContent, adapter_bundle, dataset_bundle, merged_bundle
from hubdpo.release.card import compose, warn_of_edit_on_the_way, warn_of_lost
from hubdpo.release.collection import add_to_collection, check_collection
from hubdpo.release.dry_run import show_plan
from hubdpo.release.pull_request import propose
from hubdpo.release.refusals import check_links, check_rows
from hubdpo.release.remote import Remote, bundle_line, check_ours, check_visibility, holds, stage_name
from hubdpo.release.verify.verify import release_url, verify_commit


@takes(PushConfig, "folder", "repo")
def push(config: PushConfig) -> Release:
    """Publish a dataset, run or merged model as X.Y.Z and return the release.

    Publishing the same bundle again writes nothing. Raise ArtefactError or LicenceError before the Hub is asked;
    VersionTaken when the tag holds another bundle; VerificationFailed, with no tag made, when the download differs;
    HubError when the Hub refuses or an outcome stays unknown. With `create_pr` the files are proposed in a pull
    request, verified alike, and nothing is released.
    """
    _refuse(config)
    content = _bundle(config)
    if content.kind == "adapter" and (sentence := stops_elsewhere(RunManifest.read(config.folder / RUN_FILE))):
        console.warn(sentence)
    repo_type: RepoType = "dataset" if content.kind == "dataset" else "model"
    remote = Remote(config.repo, repo_type)
    require_online("`push`")
    if endpoint() != PUBLIC_HUB:
        console.info(f"the Hub is {endpoint()}")
    with translate_errors(config.repo):
        repeat(lambda: api().whoami())  # a token that is refused is told before anything is made
        if config.version in BUMPS:
            config = _numbered(config, remote)
            content = _bundle(config)
        composed = compose(content, config.folder, remote)
        content = composed.content
        if config.collection:
            check_collection(config.collection)
        warn_of_lost(composed.lost, show=config.dry_run)
        if config.dry_run:
            show_plan(config, content, remote)
            return _release(config, content, remote, "")
        if config.create_pr:
            return _propose(config, content, remote)
        try:
            commit, fresh = _publish(config, content, remote)
        except VersionTaken:
            # the list of refs may have lagged behind the tag, whose card has the sections that it was made with
            content = compose(_bundle(config), config.folder, remote).content
            if content.manifest == composed.content.manifest:
                raise
            commit, fresh = _publish(config, content, remote)
        warn_of_edit_on_the_way(composed, remote)
    release = _release(config, content, remote, commit)
    release = release.model_copy(update={"checked": config.check if fresh else _checked_before(config, release)})
    _keep_receipt(config.folder, content.card, release)
    if config.collection:
        release = _collect(config.collection, release, remote)
    return release


def _keep_receipt(folder: Path, card: str, release: Release) -> None:
    """Write the card and the receipt into the folder. Where that fails the release stands, so there is a warning."""
    try:
        # the card first: a receipt beside an older card would make its sections look edited
        write_atomic(folder / CARD_FILE, card)
        release.write(folder / RELEASE_FILE)
    except OSError as problem:
        console.warn(
            f"{release.repo} {release.tag} is released, but its receipt and its card cannot be kept in `{folder}`: "
            f"{problem.strerror}; the same command again, where it can be written to, keeps them"
        )


def _collect(collection: str, release: Release, remote: Remote) -> Release:
    """Add the repo to the collection. Where that fails the release stands all the same, so there is a warning."""
    try:
        return release.model_copy(update={"collection": add_to_collection(collection, remote)})
    except HubError as problem:
        console.warn(
            f"{release.repo} {release.tag} is released, but not in the collection `{collection}`: {problem.message}; "
            "the same command again tries that alone"
        )
        return release


def _propose(config: PushConfig, content: BundleContent, remote: Remote) -> Release:
    tag = f"v{config.version}"
    if remote.exists() and (taken := remote.tags().get(tag)) is not None:
        check_ours(remote, content, tag, taken)
    title = config.commit_message or f"Release {tag}"
    found = propose(remote, content, title, check=config.check)
    release = _release(config, content, remote, found.commit)
    proposed = {"url": found.url, "checked": config.check}
    return release.model_copy(update=proposed | {"pull_request": found.url if found.number else None})


def _refuse(config: PushConfig) -> None:
    """Raise ArtefactError, before the Hub is asked, for what must not leave the machine and takes long to look for."""
    kind = folder_kind(config.folder)
    if kind == "dataset":
        _check_options_of_dataset(config)
    check_links(config.folder)
    if kind == "dataset" and config.secrets == "refuse":
        check_rows(config.folder)


def _bundle(config: PushConfig) -> BundleContent:
    kind = folder_kind(config.folder)
    if kind == "dataset":
        return dataset_bundle(config.folder, config.version, repo=config.repo)
    if kind == "merged":
        base = _base(config, MergeManifest.read(config.folder / MERGE_FILE).base)
        return merged_bundle(
            config.folder, config.version, repo=config.repo, base=base, license=config.license,
            license_name=config.license_name, license_link=config.license_link,
        )  # fmt: skip
    run = read_run(config.folder)
    base = _base(config, run.base)
    return adapter_bundle(
        config.folder, run, config.version, repo=config.repo, base=base, license=config.license,
        license_name=config.license_name, license_link=config.license_link,
    )  # fmt: skip


def _check_options_of_dataset(config: PushConfig) -> None:
    """Raise ConfigError for options that the release of a dataset has no use for."""
    for name in ("license_name", "license_link", "base_model", "base_revision"):
        if getattr(config, name) is not None:
            raise ConfigError(f"`--{name.replace('_', '-')}` is not for datasets", hint="leave it out")
    stated = PrepareManifest.read(config.folder / PREPARE_FILE).license
    if config.license not in (None, stated):
        own = f"`{stated}`" if stated else "none"
        raise ConfigError(
            f"`--license` is not for datasets: the card of `{config.folder}` states {own}",
            hint=f"hubdpo prepare ... -o {shlex.quote(str(config.folder))} --license {shlex.quote(config.license)}",
        )


def _numbered(config: PushConfig, remote: Remote) -> PushConfig:
    """Turn `patch`, `minor` or `major` into a number: the newest release's own when it holds this very folder.

    So the same command, run again after a kill or for nothing, makes no second release of the same files.
    """
    tags = remote.tags() if remote.exists() else {}
    newest = highest(tags)
    if newest is not None:
        same = config.model_copy(update={"version": newest.removeprefix("v")})
        if holds(remote.tree(tags[newest]), compose(_bundle(same), config.folder, remote).content):
            return same
    version = bump(newest, config.version)
    console.info(f"version   {version}, {config.version} after {newest or 'no release'}")
    return config.model_copy(update={"version": version})


def _base(config: PushConfig, base: BaseRef) -> BaseRef:
    """Return the base as others will load it: the run's own, or the Hub id given for a local folder."""
    if config.base_model is None:
        return base
    revision = resolve(config.base_model, config.base_revision)
    return base.model_copy(update={"repo_id": config.base_model, "name": config.base_model, "revision": revision})


def _checked_before(config: PushConfig, release: Release) -> Any:
    """Return how this very release was verified when it was published from this folder, None when it was not."""
    try:
        receipt = Release.read(config.folder / RELEASE_FILE)
    except ArtefactError:
        return None
    same = (receipt.repo, receipt.commit) == (release.repo, release.commit)
    return receipt.checked if same else None


def _publish(config: PushConfig, content: BundleContent, remote: Remote) -> tuple[str, bool]:
    """Walk the steps of the protocol; return the commit of the release, and whether it was verified just now."""
    tag = f"v{config.version}"
    stage = stage_name(content)
    title = config.commit_message or f"Release {tag}"
    remote.create(private=config.private)
    check_visibility(remote, config.private)

    released = remote.tags().get(tag)
    staging = released is None
    if released is not None:
        check_ours(remote, content, tag, released)
        console.info(f"{config.repo} {tag} is published already")
    else:
        remote.start_branch(stage, remote.branches()["main"])
        console.info(f"sending {len(content.files)} files, {_size(content)}")
        staged = remote.bring(stage, content, title)
        assert staged is not None
        console.info("downloading them again to compare")
        verify_commit(config.repo, remote.repo_type, staged, expected=content.manifest, check=config.check)
        released = remote.make_tag(tag, staged, f"{title}\n\n{bundle_line(content)}")
        if released is None:
            raise HubError(f"whether the tag {tag} was made stays unknown", hint="run the same command again")
        if released != staged:
            try:
                check_ours(remote, content, tag, released)
            except VersionTaken:
                remote.drop_branch(stage)  # lost a race: leave nothing behind
                raise
    remote.bring("main", content, title, never_back=True)
    if staging or stage in remote.branches():  # the list may lag behind a branch that was just made
        remote.drop_branch(stage)
    return released, staging


def _release(config: PushConfig, content: BundleContent, remote: Remote, commit: str) -> Release:
    tag = f"v{config.version}"
    return Release(
        repo=config.repo,
        kind=content.kind,
        version=config.version,
        tag=tag,
        commit=commit,
        bundle_id=content.manifest.bundle_id,
        url=release_url(config.repo, remote.repo_type, tag),
        endpoint=endpoint(),
        files=list(content.files),
    )


def _size(content: BundleContent) -> str:
    total = sum(entry.size for entry in content.manifest.files.values())
    return f"{total / 1e6:.1f} MB" if total >= 1e6 else f"{total / 1e3:.0f} kB"
