"""The push stage: a folder in, one tagged and verified release on the Hub out."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hubdpo import console
from hubdpo.artefacts.folders.kinds import folder_kind, read_run
from hubdpo.artefacts.folders.sweep_folder import best_run, is_sweep
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import (
    CARD_FILE,
    EVAL_FILE,
    MERGE_FILE,
    PREPARE_FILE,
    PROBES_FILE,
    RELEASE_FILE,
    write_atomic,
)
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import BaseRef, RunManifest
from hubdpo.cards.model.ranked import lacks_original
from hubdpo.config import PushConfig
from hubdpo.config.base import flag_of
from hubdpo.config.push import BUMPS, Check
from hubdpo.config.takes import takes
from hubdpo.errors import ArtefactError, ConfigError, HubError, Instead, VerificationFailed, VersionTaken
from hubdpo.hub.client import exists, other_type, resolve
from hubdpo.hub.failures import require_login, require_online, translate_errors
from hubdpo.hub.reference import type_option
from hubdpo.hub.transport import PUBLIC_HUB, endpoint
from hubdpo.hub.versions import bump, highest, is_higher, major
from hubdpo.model.generation import stops_elsewhere
from hubdpo.release.card import compose, warn_of_edits, warn_of_late_edit
from hubdpo.release.drafts import Draft, adapter_draft, check_links, dataset_draft, merged_draft
from hubdpo.release.dry_run import show_plan
from hubdpo.release.protocol import publish
from hubdpo.release.pull_request import propose
from hubdpo.release.remote import Refs, Remote, add_to_collection, check_collection, check_visibility
from hubdpo.release.snapshot import Plan, ReleaseSnapshot
from hubdpo.release.verify.loads import BaseState, look_up_base
from hubdpo.release.verify.verify import receipt_of


@takes(PushConfig, "folder", "repo")
def push(config: PushConfig) -> Release:
    """Publish a dataset, a run, the best run of a sweep, or a merged model as X.Y.Z, and return the release.

    Publishing the same files again writes nothing. With `create_pr` the files are proposed in a pull request, verified
    alike, and nothing is released. Raise ArtefactError or LicenceError before the Hub is asked; VersionTaken when the
    tag holds another release; VerificationFailed, with no tag made, when the download differs; HubError when the Hub
    refuses or an outcome stays unknown.
    """
    return publish_folder(config).release


class Pushed(NamedTuple):
    """A release, and whether this very call published it, or would without `dry_run`."""

    release: Release
    is_new: bool


def publish_folder(config: PushConfig) -> Pushed:
    """Publish a folder, as `push` says; of a sweep, its best run."""
    if is_sweep(config.folder):
        best, why = best_run(config.folder)
        console.info(f"takes     {best}, the best run of the sweep: {why}")
        config = config.model_copy(update={"folder": best})
    draft = _checked_draft(config)
    require_online("`push`")
    if endpoint() != PUBLIC_HUB:
        console.info(f"the Hub is {endpoint()}")
    remote = Remote(config.repo, "dataset" if draft.kind == "dataset" else "model")
    with translate_errors(config.repo):
        require_login()
        is_private = remote.is_private()
        check_visibility(remote, is_private, config.private)
        if is_private is None:
            if config.create_pr:
                message = f"`{config.repo}` is not on the Hub, so nothing can be proposed to it"
                raise HubError(message, hint="leave out `--create-pr`")
            _refuse_taken_name(remote)
        refs = remote.refs() if is_private is not None else Refs()
        config = _numbered(config, draft, remote, refs)
        composed = compose(draft, config.version, config.folder, remote, refs)
        _check_order(composed.release, remote, refs)
        if config.collection:
            check_collection(config.collection)
        warn_of_edits(composed, show=config.dry_run)
        base = _base_on_hub(draft.base, config.check) if draft.base and composed.release.tag not in refs.tags else None
        if config.dry_run:
            show_plan(config, composed.release, remote, refs)
            return Pushed(_receipt(composed.release, remote, ""), composed.release.tag not in refs.tags)
        title = config.commit_message or f"Release {composed.release.tag}"
        if config.create_pr:
            return Pushed(_propose(config, composed.release, remote, refs, title, base), is_new=False)
        send = partial(publish, remote, title=title, check=config.check, private=config.private, base=base)
        try:
            published = send(refs, composed.release)
        except VersionTaken:
            # the refs may have lagged behind the tag: compose again, with the sections that its card was made with
            refs = remote.refs()
            again = compose(draft, config.version, config.folder, remote, refs)
            if again.release.listing == composed.release.listing:
                raise
            composed = again
            published = send(refs, composed.release)
        warn_of_late_edit(composed, published.replaced)
    receipt = _receipt(composed.release, remote, published.commit)
    checked = config.check if published.is_new else _checked_before(config, receipt)
    receipt = receipt.model_copy(update={"checked": checked})
    _keep_receipt(config.folder, composed.release.text(CARD_FILE), receipt)
    if config.collection:
        receipt = _collect(config.collection, receipt, remote)
    return Pushed(receipt, published.is_new)


def _checked_draft(config: PushConfig) -> Draft:
    """Check everything that needs no Hub: options, links, credentials, hashes, licence and card."""
    kind = folder_kind(config.folder)
    if kind == "dataset":
        _check_options_of_dataset(config)
    check_links(config.folder)
    if kind == "dataset":
        return dataset_draft(config)
    if kind == "merged":
        return merged_draft(config, _base(config, MergeManifest.read(config.folder / MERGE_FILE).base))
    run = read_run(config.folder)
    draft = adapter_draft(config, run, _base(config, run.base))
    if sentence := stops_elsewhere(run):
        console.warn(sentence)
    _say_what_was_not_measured(config.folder, run)
    return draft


def _say_what_was_not_measured(folder: Path, run: RunManifest) -> None:
    """Warn of an adapter whose card will have no figures, or that nobody can compare with the training."""
    measurable = bool(run.test_pairs) or run.dataset is None
    wanted = {
        EVAL_FILE: "so its card will show no accuracy" if measurable else "",
        PROBES_FILE: "so nobody can compare its answers with those after the training",
    }
    for name, consequence in wanted.items():
        if consequence and not (folder / name).is_file():
            data = " --dataset USER/NAME" * (run.dataset is None)
            command = f"; `hubdpo evaluate {shlex.quote(str(folder))}{data}` writes it" * measurable
            console.warn(f"`{folder}` has no {name}, {consequence}{command}")
    if (folder / EVAL_FILE).is_file() and lacks_original(run, EvalReport.read(folder / EVAL_FILE)):
        console.warn(
            "the card has no results on the original weights of the base, which its code loads; "
            f"`hubdpo evaluate {shlex.quote(str(folder))}` measures them"
        )


def _check_options_of_dataset(config: PushConfig) -> None:
    """Raise ConfigError for options that do not apply to datasets."""
    for name in ("license_name", "license_link", "base_model", "base_revision"):
        if getattr(config, name) is not None:
            raise ConfigError(f"`{flag_of(name)}` is not for datasets", hint=f"leave out `{flag_of(name)}`")
    stated = PrepareManifest.read(config.folder / PREPARE_FILE).license
    if config.license not in (None, stated):
        own = f"`{stated}`" if stated else "none"
        raise ConfigError(
            f"`--license` is not for datasets: the card of `{config.folder}` states {own}, as given to `prepare`",
            hint="leave out `--license`",
        )


def _base(config: PushConfig, base: BaseRef) -> BaseRef:
    """Return the base that others will load: the run's own, or the Hub id given for a local folder."""
    if config.base_model is None:
        return base
    try:
        revision = resolve(config.base_model, config.base_revision)
    except HubError as problem:
        raise type(problem)(f"`--base-model`: {problem.message}", hint=problem.instead or problem.hint) from None
    named = {"repo_id": config.base_model, "name": config.base_model, "revision": revision, "sha256": None}
    return base.model_copy(update=named)


def _base_on_hub(base: BaseRef, check: Check) -> BaseState | None:
    """Look up the base before anything is sent. Raise HubError when it is not there to load the adapter on."""
    try:
        return look_up_base(base, needed=check == "load")
    except VerificationFailed as problem:
        raise HubError(
            f"{problem.message}; nothing was sent",
            hint="push the base to this Hub too, or name one that is there with `--base-model`; where it is private, "
            "log in with access to it; `--check hashes` publishes without loading",
        ) from None


def _refuse_taken_name(remote: Remote) -> None:
    """Raise ConfigError when a new dataset has the name of a model, or the other way round; the Hub allows both."""
    own, other = remote.repo_type, other_type(remote.repo_type)
    if exists(remote.repo_id, other):
        raise ConfigError(
            f"`{remote.repo_id}` is a {other} already, and the {own} would be a second repo of that name, which alone "
            f"means the model; where that is meant: hf repos create {remote.repo_id}{type_option(own)}",
            hint=Instead(remote.repo_id, f"{remote.repo_id}-{'data' if own == 'dataset' else 'dpo'}"),
        )


def _numbered(config: PushConfig, draft: Draft, remote: Remote, refs: Refs) -> PushConfig:
    """Turn `patch`, `minor` or `major` into a number: the newest release's own when it holds this very folder.

    So the same command, repeated after a kill or by mistake, makes no second release of the same files.
    """
    if config.version not in BUMPS:
        return config
    newest = highest(refs.tags)
    if newest is not None:
        number = newest.removeprefix("v")
        release = compose(draft, number, config.folder, remote, refs).release
        if Plan(remote.at(refs.tags[newest]), release).holds:
            return config.model_copy(update={"version": number})
    version = bump(newest, config.version)
    console.info(f"version   {version}, {f'{config.version} after {newest}' if newest else 'the first release'}")
    return config.model_copy(update={"version": version})


def _check_order(release: ReleaseSnapshot, remote: Remote, refs: Refs) -> None:
    """Raise ConfigError for a new version below the newest, unless it goes on from an older one: 1.2.4 beside 2.0.0."""
    newest, tag = highest(refs.tags), release.tag
    if tag in refs.tags or release.stage in refs.branches or not is_higher(newest, tag):
        return
    before = highest(each for each in refs.tags if major(each) == major(tag) and is_higher(tag, each))
    if before is None:
        raise ConfigError(
            f"`{remote.repo_id}` has {newest} already, and {tag} goes on from no release before it",
            hint=f"--version {bump(newest, 'patch')}",
        )
    console.warn(f"{tag} goes on from {before}, below {newest}, where main stays")


def _propose(
    config: PushConfig, release: ReleaseSnapshot, remote: Remote, refs: Refs, title: str, base: BaseState | None
) -> Release:
    proposal = propose(remote, refs, release, title, check=config.check, base=base)
    return _receipt(release, remote, proposal.commit).model_copy(
        update={
            "url": proposal.url,
            "checked": config.check,
            "pull_request": proposal.url if proposal.number else None,
        }
    )


def _receipt(release: ReleaseSnapshot, remote: Remote, commit: str) -> Release:
    return Release(**receipt_of(remote, release.listing, release.tag, commit), files=list(release.files))


def _checked_before(config: PushConfig, release: Release) -> Check | None:
    """Return how this release was verified when it was published from this folder, or None when it was not."""
    try:
        receipt = Release.read(config.folder / RELEASE_FILE)
    except ArtefactError:
        return None
    same = (receipt.repo, receipt.commit) == (release.repo, release.commit)
    return receipt.checked if same else None


def _keep_receipt(folder: Path, card: str, release: Release) -> None:
    """Write the card and the receipt into the folder. Only warn where that fails: the release stands."""
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
    """Add the repo to the collection. Only warn where that fails: the release stands."""
    try:
        return release.model_copy(update={"collection": add_to_collection(collection, remote)})
    except HubError as problem:
        console.warn(
            f"{release.repo} {release.tag} is released, but not in the collection `{collection}`: {problem.message}; "
            "the same command again tries that alone"
        )
        return release
