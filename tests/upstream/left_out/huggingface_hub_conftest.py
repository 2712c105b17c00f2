"""Fixtures of huggingface_hub's tests, which its source archive leaves out."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import HfApi, RepoUrl, constants

RepoFactory = Callable[..., RepoUrl]


@pytest.fixture(scope="session")
def api() -> HfApi:
    return HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ["UPSTREAM_TOKEN"])


@pytest.fixture
def repo_factory(api: HfApi) -> Iterator[RepoFactory]:
    """Create repos, and delete them after the test."""
    created: list[tuple[RepoUrl, str | None]] = []

    def create(
        repo_type: str = "model", *, repo_id: str | None = None, token: str | None = None, **options: object
    ) -> RepoUrl:
        url = api.create_repo(repo_id or _new_name(), repo_type=repo_type, token=token, **options)
        created.append((url, token))
        return url

    yield create
    for url, token in created:
        api.delete_repo(url.repo_id, repo_type=url.repo_type, token=token, missing_ok=True)


@pytest.fixture
def new_repo_id(api: HfApi) -> Iterator[str]:
    """Return the id of a repo that the test creates, and that is deleted after it."""
    repo_id = f"{api.whoami()['name']}/{_new_name()}"
    yield repo_id
    api.delete_repo(repo_id, missing_ok=True)


@pytest.fixture(autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send by LFS what is marked so; all else goes by Xet."""
    if request.node.get_closest_marker("no_xet"):
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def _new_name() -> str:
    return f"repo-{uuid.uuid4().hex[:6]}-{int(time.time() * 1e4)}"
