"""`hubdpo push`"""

from __future__ import annotations

import typer

from hubdpo import console
from hubdpo.cli._options import command
from hubdpo.config import PushConfig

DONE: dict[str | None, str] = {
    "load": "published and verified",
    "hashes": "published, files verified by hash alone, not loaded",
    None: "published before, not verified now",
}


def register(app: typer.Typer) -> None:
    @command(app, PushConfig)
    def push(config: PushConfig) -> None:
        """Publish a dataset or run folder as one tagged, verified release."""
        from hubdpo.hub.publish import push as run

        release = run(config)
        done = "would publish" if config.dry_run else DONE[release.checked]
        console.result(
            f"{done}: {release.url}",
            {
                "repo": release.repo,
                "version": release.version,
                "commit": release.commit,
                "tag": release.tag,
                "url": release.url,
                "files": release.files,
                "checked": release.checked,
                "dry_run": config.dry_run,
            },
            identifier=f"{release.repo}@{release.tag}",
        )
        if config.dry_run:
            console.hint(f"hubdpo push {config.folder} {config.repo} --version {release.version}")
        else:
            console.hint(f"hubdpo verify {release.repo}@{release.tag}")
