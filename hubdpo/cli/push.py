"""`hubdpo push`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hubdpo import console
from hubdpo.cli.command import command, typed
from hubdpo.config import PushConfig
from hubdpo.errors import HubError, Stopped

if TYPE_CHECKING:
    from hubdpo.artefacts.manifests.bundle import Release

CHECKED = {"load": "published and verified", "hashes": "published, verified by hashes only, not loaded"}
CHECKED_BEFORE = {
    "load": "already published, verified then",
    "hashes": "already published, verified then by hashes only, not loaded",
    None: "already published, not verified again",
}


def register(app: typer.Typer) -> None:
    @command(app, PushConfig)
    def push(config: PushConfig) -> None:
        """Publish a dataset, a run or a merged model as one tagged, verified release."""
        from hubdpo.release.push import publish_folder

        try:
            release, is_new = publish_folder(config)
        except KeyboardInterrupt:
            raise Stopped("run the same command again: it finishes the release and reports its state") from None
        fields = {"repo", "version", "commit", "tag", "url", "files", "checked", "pull_request", "collection"}
        console.result(
            f"{_outcome(config, release, is_new)}: {release.url}",
            {**release.model_dump(mode="json", include=fields), "dry_run": config.dry_run},
            identifier=release.url if config.create_pr else f"{release.repo}@{release.tag}",
        )
        if config.dry_run:
            flag = " --create-pr" if config.create_pr else ""
            console.hint(f"hubdpo push {typed(config.folder)} {config.repo} --version {release.version}{flag}")
        elif not config.create_pr:
            console.hint(f"hubdpo verify {release.repo}@{release.tag}")
            if config.collection and release.collection is None:
                raise typer.Exit(HubError.exit_code)  # the release stands, the collection is missing


def _outcome(config: PushConfig, release: Release, is_new: bool) -> str:
    if config.create_pr:
        if config.dry_run:
            return "would propose"
        return "proposed and verified" if release.pull_request else "nothing to propose"
    if config.dry_run:
        return "would publish" if is_new else "already published"
    return CHECKED[config.check] if is_new else CHECKED_BEFORE[release.checked]
