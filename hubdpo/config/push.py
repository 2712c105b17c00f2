"""Options of `hubdpo push`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hubdpo.config.base import Cli, Config
from hubdpo.config.repo_id import is_repo_id

Check = Literal["load", "hashes"]
"""How a release is verified: loaded and compared with its probes, or by the hashes of its files alone."""
BUMPS = ("major", "minor", "patch")


class PushConfig(Config):
    folder: Annotated[Path, Cli(argument=True, metavar="DIR")] = Field(
        description="A dataset folder, a run folder or a merged model."
    )
    repo: Annotated[str, Cli(argument=True, metavar="USER/NAME")] = Field(description="Where to publish.")
    version: Annotated[str, Cli(metavar="X.Y.Z|patch|minor|major")] = Field(
        description="Becomes the tag vX.Y.Z, which never moves; a word counts on from the newest release."
    )
    dry_run: bool = Field(False, description="Print what would be published; write nothing anywhere.")
    check: Check = Field(
        "load", description="Load what was sent before the tag is made; `hashes` where the base does not fit."
    )
    secrets: Literal["refuse", "keep"] = Field(
        "refuse", description="Rows of a dataset that look like credentials: `keep` publishes them."
    )
    create_pr: bool = Field(False, description="Propose the files in a pull request; no tag, and main stays.")
    private: bool | None = Field(None, description="Create the repo as private; refused where it is public.")
    collection: str | None = Field(
        None, description="Add the repo to this collection: OWNER/SLUG, or a title, whose collection is made when new."
    )
    commit_message: str | None = Field(None, description="Title of the commit.")
    license: str | None = Field(
        None, description="Licence of an adapter or a merge, when base and data do not tell it."
    )
    license_name: str | None = Field(None, description="Name of the licence, when --license is `other`.")
    license_link: str | None = Field(None, description="Address of the licence, when --license is `other`.")
    base_model: str | None = Field(None, description="Hub id of the base, when the run used a local folder.")
    base_revision: str | None = Field(None, description="Commit of --base-model; its main branch's by default.")

    @field_validator("version")
    @classmethod
    def _semver(cls, value: str) -> str:
        if value in BUMPS:
            return value
        bare = value.removeprefix("v")
        if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", bare):
            raise ValueError("a version is three numbers, X.Y.Z, or patch, minor or major")
        return bare

    @field_validator("repo", "base_model")
    @classmethod
    def _repo_id(cls, value: str | None) -> str | None:
        if value is not None and not is_repo_id(value):
            raise ValueError("a repo is USER/NAME")
        return value
