"""One failed request, whichever it is, stops no command: what nothing in the cache can replace is asked for again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

import hubdpo
from hubdpo import push
from hubdpo.data.load import look_at_dataset
from hubdpo.data.tokens.tokenizer import encoder_of
from hubdpo.hub.versions import highest
from hubdpo.loopback.faults import Fault, Faults
from hubdpo.model.bases.find import find_base
from hubdpo.release.diff.diff import diff
from hubdpo.release.inspect import inspect
from hubdpo.release.list import releases
from hubdpo.release.remote import Remote
from tests.publishing import faults, short_waits

if TYPE_CHECKING:
    from tests.conftest import Hub

__all__ = ["faults", "short_waits"]
FAULTS = {
    "503": Fault("status", "", status=503),
    "429": Fault("status", "", status=429, headers={"Retry-After": "0"}),
    "reset before": Fault("reset-before", ""),
    "reset after": Fault("reset-after", ""),
}
DAMAGED = Fault("corrupt", "/_cdn/|/resolve/", method="GET")


@pytest.fixture(autouse=True)
def no_waits_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def folders(dataset_dir: Path, run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("one-fault")
    local = shutil.ignore_patterns("release.json", "checkpoint-*")
    made = {"data": dataset_dir, "adapter": run_dir}
    return {kind: Path(shutil.copytree(path, folder / kind, ignore=local)) for kind, path in made.items()}


@pytest.fixture(scope="module")
def published(hub: Hub, folders: dict[str, Path]) -> dict[str, str]:
    names = {kind: f"{hub.user}/one-fault-{kind}" for kind in folders}
    for kind, folder in folders.items():
        push(folder=folder, repo=names[kind], version="1.0.0", check="hashes")
    return names


def after_each_failure(
    use: Callable[[int], object], fault: Fault, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Run `use` with an empty cache and its n-th request failing, for each n; return how many requests failed."""
    for number in count():
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / f"cache-{number}"))
        encoder_of.cache_clear()
        now = Fault(fault.kind, fault.path, fault.method, skip=number, status=fault.status, headers=fault.headers)
        faults.add(now)
        use(number)
        faults.clear()
        if now.times:  # fewer requests than that
            return number
    raise AssertionError("unreachable")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["data", "adapter"])
def test_a_push_goes_on_after_any_failed_request(
    kind: str, fault: str, folders: dict[str, Path], repo_id: str, faults: Faults, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def use(number: int) -> None:
        (folders[kind] / "release.json").unlink(missing_ok=True)
        push(folder=folders[kind], repo=f"{repo_id}-{number}", version="1.0.0", check="hashes")
        tags = Remote(f"{repo_id}-{number}", "dataset" if kind == "data" else "model").refs().tags
        assert highest(tags) == "v1.0.0"

    assert after_each_failure(use, FAULTS[fault], faults, tmp_path, monkeypatch) >= 20


def prepared(data: str) -> object:
    with TemporaryDirectory() as folder:
        return hubdpo.prepare([f"hf://datasets/{data}@v1.0.0/data"], folder, num_proc=1)


READS: dict[str, Callable[[dict[str, str], str], object]] = {
    "verify": lambda names, base: hubdpo.verify(f"{names['data']}@v1.0.0", check="hashes"),
    "verify an adapter": lambda names, base: hubdpo.verify(f"{names['adapter']}@v1.0.0", check="hashes"),
    "load_preferences": lambda names, base: hubdpo.load_preferences(names["data"], revision="v1.0.0"),
    "train --dataset": lambda names, base: look_at_dataset(names["data"]),
    "load_adapter": lambda names, base: hubdpo.load_adapter(names["adapter"], revision="v1.0.0"),
    "base of train": lambda names, base: find_base(base),
    "versions": lambda names, base: releases(names["data"]),
    "diff": lambda names, base: diff(names["data"], names["data"]),
    "diff of adapters": lambda names, base: diff(f"{names['adapter']}@v1.0.0", names["adapter"]),
    "inspect": lambda names, base: inspect(names["data"]),
    "inspect an adapter": lambda names, base: inspect(names["adapter"]),
    "prepare": lambda names, base: prepared(names["data"]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", READS)
def test_a_read_with_an_empty_cache_goes_on_after_any_failed_request(
    read: str, fault: str, published: dict[str, str], tiny_base_repo: str, faults: Faults, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def use(number: int) -> None:
        READS[read](published, tiny_base_repo)

    assert after_each_failure(use, FAULTS[fault], faults, tmp_path, monkeypatch) >= 2


def test_a_file_damaged_on_its_way_stops_no_push(
    folders: dict[str, Path], repo_id: str, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(number: int) -> None:
        (folders["data"] / "release.json").unlink(missing_ok=True)
        push(folder=folders["data"], repo=f"{repo_id}-{number}", version="1.0.0", check="hashes")

    assert after_each_failure(use, DAMAGED, faults, tmp_path, monkeypatch) >= 5
