"""What a push costs: each file is hashed once, and the Hub is asked for nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

from hubdpo import push
from hubdpo.artefacts.manifests import manifest
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE
from tests.release.made import made_base, made_run, record_files

if TYPE_CHECKING:
    from tests.conftest import Hub


@pytest.fixture
def adapter(repo_id: str, tmp_path: Path) -> Path:
    run = made_run(tmp_path / "adapter", made_base(f"{repo_id}-base"), megabytes=0.01)
    record_files(run)
    return run


@pytest.fixture
def hashings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Counter[str]]:
    """Count, by name, how often each file of a folder is hashed from now on."""

    def count(folder: Path) -> Counter[str]:
        counts: Counter[str] = Counter()

        def counted(path: Path) -> str:
            if path.is_relative_to(folder):
                counts[path.relative_to(folder).as_posix()] += 1
            return compute(path)

        compute = manifest.sha256_file
        monkeypatch.setattr(manifest, "sha256_file", counted)
        monkeypatch.setattr("hubdpo.hub.snapshot.sha256_file", counted)
        return counts

    return count


@pytest.mark.parametrize("kind", ["data", "adapter"])
def test_a_push_hashes_each_file_once(
    kind: str, request: pytest.FixtureRequest, repo_id: str, hashings: Callable[[Path], Counter[str]]
) -> None:
    folder: Path = request.getfixturevalue(kind)
    counts = hashings(folder)
    large = PREPARE_FILE if kind == "data" else "adapter_model.safetensors"
    for version in ("1.0.0", "1.0.0", "minor", "patch"):  # a first push, a repeated one, and by words
        counts.clear()
        push(folder=folder, repo=repo_id, version=version, check="hashes")
        assert counts[large] == 1
        assert set(counts.values()) == {1}


def test_a_push_asks_the_hub_for_nothing_twice(run: Path, repo_id: str, hub: Hub) -> None:
    for most in (40, 12):  # a first push, and a repeated one
        hub.server.requests.clear()
        push(folder=run, repo=repo_id, version="1.0.0")
        sent = Counter((request.method, request.path) for request in hub.server.requests)
        assert sent.total() <= most, sent
        reads = {path: count for (method, path), count in sent.items() if method == "GET" and count > 1}
        assert not reads, "read twice"


def test_a_release_of_many_versions_reads_the_one_before_alone(data: Path, repo_id: str, hub: Hub) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        push(folder=data, repo=repo_id, version=version, check="hashes")
    oldest = next(tag for tag in HfApi().list_repo_refs(repo_id, repo_type="dataset").tags if tag.name == "v1.0.0")
    hub.server.requests.clear()
    push(folder=data, repo=repo_id, version="1.3.0", check="hashes")
    assert not [request for request in hub.server.requests if oldest.target_commit in request.path]
