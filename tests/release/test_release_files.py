"""A release lists whatever loading reads, or it does not verify; what lies beside it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from typer.testing import Result

from hubdpo import prepare, push, verify
from hubdpo.artefacts.manifests.bundle import Bundle, Kind, bundle_id_of
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, FileEntry, bytes_entry
from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.errors import ArtefactError, HubError, VerificationFailed
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.release.verify.files import check_files
from hubdpo.release.verify.verify import verify_commit
from tests.release.made import made_run

Cli = Callable[..., Result]


def listing(
    folder: Path, kind: Kind, *, without: tuple[str, ...] = (), version: str = "1.0.0", **changes: Any
) -> Bundle:
    """The list of a folder as a release would have it, written there too."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files: dict[str, FileEntry] = {
        name: bytes_entry((folder / name).read_bytes()) for name in names if name not in (*without, BUNDLE_FILE)
    }
    told = {"kind": kind, "version": version, "files": files, "bundle_id": bundle_id_of(version, files)} | changes
    bundle = Bundle(**told)
    bundle.write(folder / BUNDLE_FILE)
    return bundle


def checked(folder: Path, bundle: Bundle, name: str = "USER/NAME") -> list[str]:
    return check_files(FolderSnapshot(folder, name=name, all_files=True), bundle)


@pytest.fixture(scope="module")
def adapter_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = BaseRef(name="a/b", repo_id="a/b", revision="0" * 40)
    folder = made_run(tmp_path_factory.mktemp("release") / "run", base, megabytes=0.01)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture
def adapter(adapter_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter_once, tmp_path / "adapter"))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "run.json", "README.md"])
def test_what_loading_an_adapter_reads_must_be_listed(adapter: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match=f"`{name}` is not listed in hubdpo.json"):
        checked(adapter, listing(adapter, "adapter", without=(name,)))


def test_an_empty_list_is_no_release(adapter: Path) -> None:
    with pytest.raises(ArtefactError, match="is not listed in hubdpo.json"):
        checked(adapter, listing(adapter, "adapter", files={}, bundle_id=bundle_id_of("1.0.0", {})))


def test_the_id_of_a_bundle_is_computed_again(adapter: Path) -> None:
    with pytest.raises(ArtefactError, match="`bundle_id` of hubdpo.json is not that of its list"):
        checked(adapter, listing(adapter, "adapter", bundle_id="0" * 64))


@pytest.mark.parametrize("name", ["adapter_model.bin", "custom_generate/generate.py"])
def test_a_file_that_loading_would_read_is_refused(adapter: Path, name: str) -> None:
    bundle = listing(adapter, "adapter")
    (adapter / name).parent.mkdir(parents=True, exist_ok=True)
    (adapter / name).write_text("{}")
    with pytest.raises(VerificationFailed, match="not listed in hubdpo.json, and loading would read it") as caught:
        checked(adapter, bundle, "a/b")
    assert f"`{name}` of `a/b`" in caught.value.message
    assert f"hf repos delete-files a/b {name}, then publish a new version" in str(caught.value.hint)


def test_what_a_trainer_leaves_does_no_harm_and_is_named(adapter: Path) -> None:
    bundle = listing(adapter, "adapter")
    left = ["checkpoint-4/adapter_model.safetensors", "checkpoint-4/optimizer.pt", "train.py", "training_args.bin"]
    for path in (adapter / name for name in (*left, ".gitattributes")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert checked(adapter, bundle) == left


def merged(folder: Path, shards: dict[str, str] | None) -> Path:
    base = {"name": "a/b", "repo_id": "a/b", "revision": "0" * 40}
    check = {"tokens": 1, "mean_difference": 0, "largest_difference": 0, "tolerance": 1, "adapter_effect": 1}
    made = {
        "hubdpo_version": "0", "adapter": {"name": "c/d", "sha256": "0" * 64}, "base": base, "config": {},
        "dataset": {"name": "e", "fingerprint": "f", "train_pairs": 1, "test_pairs": 1}, "dtype": "float32",
        "dequantised": False, "parameters": 1, "files": {},
        "check": {**check, "share_lost": 0, "compared_in": "float32"},
    }  # fmt: skip
    folder.mkdir()
    (folder / "merge.json").write_text(json.dumps(made))
    (folder / "probes.json").write_text(json.dumps({"environment": {}, "probes": []}))
    for name in ("README.md", "config.json"):
        (folder / name).write_text("{}")
    if shards is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


@pytest.mark.parametrize(
    ("shards", "there", "error"),
    [
        (None, ["model.safetensors"], None),
        (None, [], "`model.safetensors` is not listed"),
        ({"a": "model-00001-of-00002.safetensors"}, ["model-00001-of-00002.safetensors"], None),
        ({"a": "x.safetensors", "b": "y.safetensors"}, ["x.safetensors"], "`y.safetensors` is not listed"),
        ({}, [], "model.safetensors.index.json names no weights"),
    ],
)
def test_the_weights_of_a_merged_model_are_those_of_its_index(
    tmp_path: Path, shards: dict[str, str] | None, there: list[str], error: str | None
) -> None:
    folder = merged(tmp_path / "merged", shards)
    for name in there:
        (folder / name).write_bytes(b"")
    if error is None:
        assert checked(folder, listing(folder, "merged")) == []
        return
    with pytest.raises(ArtefactError, match=error):
        checked(folder, listing(folder, "merged"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [json.dumps({"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}) for i in range(40)]
    (tmp_path / "raw.jsonl").write_text("\n".join(rows))
    prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "pairs")
    return tmp_path / "pairs"


def test_every_file_of_the_data_must_be_listed(pairs: Path) -> None:
    assert checked(pairs, listing(pairs, "dataset")) in ([], ["rejected.jsonl"])
    for name in ("README.md", "prepare.json", next(path.name for path in (pairs / "data").iterdir())):
        name = name if (pairs / name).exists() else f"data/{name}"
        with pytest.raises(ArtefactError, match=f"`{name}` is not listed"):
            checked(pairs, listing(pairs, "dataset", without=(name,)))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("base", {"name": "x", "repo_id": "/root/model", "revision": "0" * 40}, "names the base '/root/model'"),
        ("base", {"name": "x", "repo_id": "https://evil.example/x", "revision": "0" * 40}, "names the base"),
        ("base", {"name": "x", "repo_id": ["a", "b"], "revision": "0" * 40}, "base.repo_id"),
        ("base", {"name": "x", "repo_id": "", "revision": "0" * 40}, "names the base ''"),
        ("base", {"name": "x", "repo_id": None}, "names the base None"),
        ("base", {"name": "a/b", "repo_id": "a/b", "revision": "main"}, "at 'main', which is no repo"),
        ("steps", 10**39, "steps:"),
        ("train_seconds", float("nan"), "train_seconds:"),
        ("status", "maybe", "status:"),
    ],
)  # fmt: skip
def test_facts_that_cannot_be_fail_though_their_hash_is_right(adapter: Path, field: str, value: Any, says: str) -> None:
    run = json.loads((adapter / "run.json").read_text()) | {field: value}
    (adapter / "run.json").write_text(json.dumps(run))
    with pytest.raises(ArtefactError, match="run.json") as caught:
        checked(adapter, listing(adapter, "adapter"))
    assert says in caught.value.message


def test_a_published_release_is_held_to_it(adapter: Path, repo_id: str, run_cli: Cli) -> None:
    """Every way of going wrong, at once on the Hub: one line, exit code 6, and nothing said to be verified."""
    api = HfApi()
    api.create_repo(repo_id)
    listing(adapter, "adapter", without=("adapter_model.safetensors",))
    api.upload_folder(repo_id=repo_id, folder_path=str(adapter))
    api.create_tag(repo_id, tag="v1.0.0")
    done = run_cli("verify", f"{repo_id}@v1.0.0", "--check", "hashes")
    assert (done.exit_code, done.stdout) == (6, "")
    assert "error: `adapter_model.safetensors` is not listed in hubdpo.json" in done.stderr
    listing(adapter, "adapter")
    api.upload_folder(repo_id=repo_id, folder_path=str(adapter))
    for name in ("LICENSE", "notes/a.md"):
        api.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=b"by hand")
    sha = api.model_info(repo_id).sha
    assert verify_commit(RepoSnapshot(repo_id, "model", str(sha), fresh=True), check="hashes").bundle.kind == "adapter"
    with pytest.raises(VerificationFailed, match="lists an adapter, and the repo is a dataset"):
        dataset = api.create_repo(repo_id, repo_type="dataset").repo_id
        done = api.upload_folder(repo_id=dataset, repo_type="dataset", folder_path=str(adapter))
        verify_commit(RepoSnapshot(dataset, "dataset", done.oid, fresh=True), check="hashes")


def test_files_by_hand_are_named_by_verify(pairs: Path, repo_id: str, run_cli: Cli) -> None:
    push(folder=pairs, repo=repo_id, version="1.0.0")
    api, named = HfApi(), {"repo_id": repo_id, "repo_type": "dataset"}
    api.upload_file(**named, path_in_repo="LICENSE", path_or_fileobj=b"by hand")
    push(folder=pairs, repo=repo_id, version="1.0.1")
    done = run_cli("verify", f"{repo_id}@v1.0.1")
    assert done.exit_code == 0
    assert "warning" in done.stderr and "1 file that the release does not list" in done.stderr
    assert "LICENSE" in done.stderr and ".gitattributes" not in done.stderr
    api.upload_folder(**named, folder_path=str(pairs / "data"), path_in_repo="old", revision="main")
    for n in range(7):
        api.upload_file(**named, path_in_repo=f"notes/{n}.md", path_or_fileobj=b"by hand")
    push(folder=pairs, repo=repo_id, version="1.0.2")
    done = run_cli("verify", f"{repo_id}@v1.0.2", "--check", "hashes")
    assert done.exit_code == 0 and " more" in done.stderr and "notes/6.md" not in done.stderr


def test_push_leaves_no_release_beside_files_that_loading_would_read(pairs: Path, repo_id: str, run_cli: Cli) -> None:
    api, named = HfApi(), {"repo_id": repo_id, "repo_type": "dataset"}
    api.create_repo(**named)
    api.upload_file(**named, path_in_repo="data/train-more.parquet", path_or_fileobj=b"PAR1")
    with pytest.raises(HubError, match=r"holds `data/train-more.parquet`, which is not of the release") as caught:
        push(folder=pairs, repo=repo_id, version="1.0.0")
    assert (
        caught.value.hint == f"hf repos delete-files {repo_id} data/train-more.parquet --type dataset, then push again"
    )
    refs = api.list_repo_refs(**named)
    assert not refs.tags and [branch.name for branch in refs.branches] == ["main"]
    api.delete_file("data/train-more.parquet", **named)
    push(folder=pairs, repo=repo_id, version="1.0.0")
    assert verify(f"{repo_id}@v1.0.0").splits
