"""What a base is: whatever changes what it computes makes another one, and a folder may be moved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hubdpo.artefacts.folders import hashes
from hubdpo.artefacts.folders.cache import cache_folder
from hubdpo.artefacts.folders.model_files import WEIGHTS
from hubdpo.artefacts.manifests.manifest import sha256_file
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.config import PushConfig
from hubdpo.errors import ConfigError
from hubdpo.model.bases.find import base_folder, find_base
from hubdpo.model.bases.identity import is_another, key_of, model_hash
from hubdpo.model.merge.sources import _check_same_base
from hubdpo.release.push import _base


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def with_yarn(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    scaled = {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    (base / "config.json").write_text(json.dumps({**config, "rope_parameters": scaled}))


def with_a_window(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "use_sliding_window": True, "sliding_window": 8}))


def with_larger_weights(base: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(base / WEIGHTS)
    save_file({name: 1.1 * weight for name, weight in weights.items()}, base / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize("change", [with_yarn, with_a_window, with_larger_weights])
def test_a_folder_that_computes_something_else_is_another_base(base: Path, change: Callable[[Path], None]) -> None:
    before = find_base(str(base)).ref
    change(base)
    after = find_base(str(base)).ref
    assert key_of(before) != key_of(after)
    assert is_another(before, after)


def test_a_folder_that_was_moved_is_the_same_base(base: Path, tmp_path: Path) -> None:
    before = find_base(str(base)).ref
    after = find_base(str(base.rename(tmp_path / "renamed"))).ref
    assert (before.name, after.name) == ("base", "renamed")
    assert key_of(before) == key_of(after)
    assert not is_another(before, after)


def test_texts_of_a_folder_do_not_make_it_another_base(base: Path) -> None:
    before = model_hash(base)
    (base / "README.md").write_text("Other words.")
    assert model_hash(base) == before


def test_a_repo_is_its_commit(tiny_base_repo: str) -> None:
    ref = find_base(tiny_base_repo).ref
    assert key_of(ref) == f"{tiny_base_repo}@{ref.revision}"
    assert is_another(ref, ref.model_copy(update={"revision": "0" * 40}))


@pytest.mark.parametrize(
    ("now", "another"),
    [
        (BaseRef(name="b", sha256="1" * 64), False),
        (BaseRef(name="c", sha256="1" * 64), True),
        (BaseRef(name="me/b", repo_id="me/b", revision="0" * 40), True),
    ],
)
def test_a_folder_without_a_hash_is_known_by_its_name(now: BaseRef, another: bool) -> None:
    before = BaseRef(name="b")
    assert (is_another(before, now), is_another(now, before)) == (another, another)


def test_the_base_of_a_run_is_not_taken_when_it_was_changed(base: Path, tmp_path: Path) -> None:
    ref = find_base(str(base)).ref
    (tmp_path / "local.json").write_text(json.dumps({"model_name_or_path": str(base)}))
    assert base_folder(ref, tmp_path) == base
    with_yarn(base)
    with pytest.raises(ConfigError, match="holds another base than the run was trained on") as caught:
        base_folder(ref, tmp_path)
    assert caught.value.hint
    assert base_folder(ref.model_copy(update={"sha256": None}), tmp_path) == base  # as hubdpo 0.4 recorded it


HUB, FOLDER = {"name": "me/b", "repo_id": "me/b", "revision": "0" * 40}, {"name": "b"}
MERGED = [
    (HUB, HUB, "x", "y", True), (HUB, {**HUB, "revision": "1" * 40}, "x", "x", False), (HUB, FOLDER, "x", "y", False),
    (FOLDER, FOLDER, "x", "x", True), (FOLDER, FOLDER, "x", "y", False),  # as hubdpo 0.4 recorded them
    ({**FOLDER, "sha256": "1" * 64}, FOLDER, "x", "x", True),
    ({**FOLDER, "sha256": "1" * 64}, {"name": "moved", "sha256": "1" * 64}, "x", "y", True),
    ({**FOLDER, "sha256": "1" * 64}, {**FOLDER, "sha256": "2" * 64}, "x", "x", False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "other", "place", "other_place", "merges"), MERGED)
def test_adapters_are_merged_on_one_base_alone(
    first: dict[str, Any], other: dict[str, Any], place: str, other_place: str, merges: bool
) -> None:
    sources: list[Any] = [
        SimpleNamespace(run=SimpleNamespace(base=BaseRef(**base)), base=Path(folder), ref=SimpleNamespace(name="a"))
        for base, folder in ((first, place), (other, other_place))
    ]
    with nullcontext() if merges else pytest.raises(ConfigError, match="was trained on"):
        _check_same_base(*sources)


def test_a_base_that_is_published_by_its_name_on_the_hub_has_no_hash_of_a_folder(tiny_base_repo: str) -> None:
    options = {"folder": "run", "repo": "me/x", "version": "1.0.0", "base_model": tiny_base_repo}
    published = _base(PushConfig.build(options), BaseRef(name="b", sha256="1" * 64))
    assert (published.repo_id, published.sha256) == (tiny_base_repo, None)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, written a minute ago by a clock that goes on."""
    monkeypatch.setattr(hashes, "LARGE", 4)
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []

    def hashed(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(hashes, "sha256_file", hashed)
    return read


def test_a_large_file_is_hashed_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    assert [hashes.sha256_of(large) for _ in range(3)] == 3 * [sha256_file(large)]
    assert read == [large]


def test_a_file_that_changed_is_hashed_again_whatever_its_size_and_time(large: Path) -> None:
    before, info = hashes.sha256_of(large), large.stat()
    large.write_bytes(b"WEIGHTS")
    os.utime(large, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert hashes.sha256_of(large) == sha256_file(large) != before


def test_a_file_of_just_now_is_not_remembered(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "SETTLED", 60.0)
    read = counted(monkeypatch)
    for _ in range(2):
        hashes.sha256_of(large)
    assert len(read) == 2


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"state": 1}', b"\xff"])
def test_a_damaged_memory_is_not_believed(large: Path, damage: bytes) -> None:
    hashes.sha256_of(large)
    (remembered,) = cache_folder("hashes").iterdir()
    remembered.write_bytes(damage)
    assert hashes.sha256_of(large) == sha256_file(large)


def test_a_cache_that_cannot_be_written_is_told(
    large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(large))
    assert hashes.sha256_of(large) == sha256_file(large)
    assert "cannot be kept" in capsys.readouterr().err
