"""Fixtures of datasets' tests that use a Hub, which its source archive leaves out."""

from __future__ import annotations

import contextlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

CI_HUB_ENDPOINT = os.environ["HF_ENDPOINT"]
CI_HUB_USER_TOKEN = os.environ["UPSTREAM_TOKEN"]
CI_HUB_USER = HfApi(endpoint=CI_HUB_ENDPOINT, token=CI_HUB_USER_TOKEN).whoami()["name"]
TEXT = "foo\nbar\nfoobar\nhello\nthere\nGeneral\nBye\n"
"""The text of every file: one of the tests asks for its 39 bytes."""


@pytest.fixture
def ci_hub_config() -> None:
    """Do nothing: the endpoint is set for all tests, before datasets is imported."""


@pytest.fixture
def set_ci_hub_access_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CI_HUB_USER_TOKEN)


@pytest.fixture(scope="session")
def hf_api() -> HfApi:
    return HfApi(endpoint=CI_HUB_ENDPOINT)


@pytest.fixture(scope="session")
def hf_token() -> str:
    return CI_HUB_USER_TOKEN


@pytest.fixture
def cleanup_repo(hf_api: HfApi) -> Callable[[str], None]:
    return lambda repo_id: hf_api.delete_repo(repo_id, token=CI_HUB_USER_TOKEN, repo_type="dataset", missing_ok=True)


@pytest.fixture
def temporary_repo(cleanup_repo: Callable[[str], None]) -> Callable[..., AbstractContextManager[str]]:
    @contextmanager
    def repo(repo_id: str | None = None) -> Iterator[str]:
        repo_id = repo_id or _new_name("test")
        try:
            yield repo_id
        finally:
            cleanup_repo(repo_id)

    return repo


@pytest.fixture(scope="session")
def hf_private_dataset_repo_txt_data(hf_api: HfApi) -> Iterator[str]:
    yield from _dataset(hf_api, "repo_txt_data", "data/text_data.txt", TEXT.encode())


@pytest.fixture(scope="session")
def hf_gated_dataset_repo_txt_data(hf_api: HfApi) -> Iterator[str]:
    for repo_id in _dataset(hf_api, "gated_txt_data", "data/text_data.txt", TEXT.encode(), private=False):
        with contextlib.suppress(HfHubHTTPError):  # then the test that needs it fails, and others can use the fixture
            hf_api.update_repo_settings(repo_id, gated="auto", token=CI_HUB_USER_TOKEN, repo_type="dataset")
        yield repo_id


@pytest.fixture(scope="session")
def hf_private_dataset_repo_zipped_txt_data(hf_api: HfApi) -> Iterator[str]:
    content = _zipped({"main_dir/first.txt": TEXT.encode(), "main_dir/second.txt": TEXT.encode()})
    yield from _dataset(hf_api, "repo_zipped_txt_data", "data.zip", content)


@pytest.fixture(scope="session")
def hf_private_dataset_repo_zipped_img_data(hf_api: HfApi) -> Iterator[str]:
    image = io.BytesIO()
    Image.new("RGB", (16, 16)).save(image, "PNG")
    content = _zipped({"main_dir/first.png": image.getvalue(), "main_dir/second.png": image.getvalue()})
    yield from _dataset(hf_api, "repo_zipped_img_data", "data.zip", content)


def _dataset(api: HfApi, name: str, path: str, content: bytes, *, private: bool = True) -> Iterator[str]:
    """Yield the id of a dataset repo with one file."""
    repo_id = _new_name(name)
    api.create_repo(repo_id, token=CI_HUB_USER_TOKEN, repo_type="dataset", private=private)
    api.upload_file(
        token=CI_HUB_USER_TOKEN, path_or_fileobj=content, path_in_repo=path, repo_id=repo_id, repo_type="dataset"
    )
    yield repo_id
    api.delete_repo(repo_id, token=CI_HUB_USER_TOKEN, repo_type="dataset", missing_ok=True)


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _new_name(prefix: str) -> str:
    return f"{CI_HUB_USER}/{prefix}-{int(time.time() * 1e6)}"
