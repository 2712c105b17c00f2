"""Options of `hubdpo push`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from hubdpo.config.base import Cli, Config, Unfit
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import is_repo_id, repo_in
from hubdpo.errors import ConfigError, Instead

Check = Literal["load", "hashes"]
"""How to verify a release: load it and compare its probes, or compare file hashes only."""
BUMPS = ("major", "minor", "patch")


class PushConfig(Config):
    folder: Annotated[Path, Cli(argument=True, metavar="DIR", names=("run", "merged model", "dataset", "sweep"))] = (
        Field(description="A dataset folder, a run folder, a sweep, whose best run is taken, or a merged model.")
    )
    repo: Annotated[str, Cli(argument=True, metavar="USER/NAME")] = Field(description="Repo to publish to.")
    version: Annotated[str, Cli(metavar="X.Y.Z|patch|minor|major")] = Field(
        description="Version of the release; its tag vX.Y.Z never moves. `patch`, `minor` and `major` count on "
        "from the newest release."
    )
    dry_run: bool = Field(False, description="Show what would be published, without writing anything.")
    check: Check = Field(
        "load", description="Load the uploaded files before tagging; `hashes` if the base does not fit on this machine."
    )
    secrets: Literal["refuse", "keep"] = Field(
        "refuse", description="`refuse` a dataset whose rows contain credentials, or `keep` and publish them."
    )
    create_pr: bool = Field(False, description="Open a pull request instead of releasing: no tag, no change to main.")
    private: bool | None = Field(None, description="Create the repo as private; an existing public repo is refused.")
    collection: str | None = Field(
        None, description="Collection to add the repo to: OWNER/SLUG, or a title, which is created if missing."
    )
    commit_message: str | None = Field(None, description="Title of the commit.")
    license: str | None = Field(
        None, description="Licence of an adapter or merged model, if it cannot be derived from base and data."
    )
    license_name: str | None = Field(None, description="Name of the licence, if --license is `other`.")
    license_link: str | None = Field(None, description="URL of the licence, if --license is `other`.")
    base_model: str | None = Field(None, description="Hub id of the base, if the run used a local folder.")
    base_revision: str | None = Field(
        None, description="Commit of --base-model; by default the head of its main branch."
    )

    @classmethod
    def build(cls, options: Mapping[str, object], *, file: Path | None = None) -> Self:
        folder, repo = (str(options.get(name) or "") for name in ("folder", "repo"))
        # Path.is_dir raises for a word that is too long for a name
        if is_repo_id(folder) and not os.path.lexists(folder) and os.path.isdir(repo):  # noqa: PTH112
            raise ConfigError(
                "the folder is named first, and then the repo", hint=f"hubdpo push {quoted(repo)} {folder}"
            )
        return super().build(options, file=file)

    @field_validator("version", mode="before")
    @classmethod
    def _semver(cls, value: object) -> object:
        if isinstance(value, (int, float)) and not isinstance(value, bool):  # YAML makes a number of `1.0`
            three = ".".join([*str(value).split("."), "0", "0"][:3])
            raise Unfit("a version is three numbers, X.Y.Z", hint=f"--version {three}")
        if not isinstance(value, str) or value in BUMPS:
            return value
        bare = value.removeprefix("v")
        if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", bare):
            numbers = [*re.findall(r"\d+", value), "0", "0"][:3] if re.match(r"v?\d", value) else ["0", "1", "0"]
            three = ".".join(str(int(number)) for number in numbers)
            raise Unfit("a version is three numbers, X.Y.Z, or patch, minor or major", hint=f"--version {three}")
        return bare

    @field_validator("repo", "base_model")
    @classmethod
    def _repo_id(cls, value: str | None) -> str | None:
        if value is not None and not is_repo_id(value):
            raise Unfit("a repo is USER/NAME", hint=Instead(value, repo_in(value)))
        return value
