"""What never leaves the machine with a release: rows with credentials, files from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo import push, verify
from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.errors import ArtefactError, ConfigError, HubError, VerificationFailed
from hubdpo.hub.transport import endpoint

if TYPE_CHECKING:
    from tests.conftest import Hub

SECRET = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"


def prepared(tmp_path: Path, **options: object) -> Path:
    """A dataset whose sixteenth row holds a credential, out of sight of the card's samples."""
    rows = [{"prompt": f"question {i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(40)]
    rows[30]["rejected"] = f"no, but {SECRET}"
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hubdpo.prepare(source=[str(tmp_path / "raw.jsonl")], output_dir=tmp_path / "out", test_size=0, **options)
    return tmp_path / "out"


def test_a_row_with_a_credential_is_not_published(tmp_path: Path, repo_id: str) -> None:
    folder = prepared(tmp_path)
    assert SECRET not in (folder / "README.md").read_text()
    with pytest.raises(ArtefactError, match=r"row 31 of .data/train.* holds a Hugging Face Token") as caught:
        push(folder=folder, repo=repo_id, version="1.0.0")
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert not HfApi().repo_exists(repo_id, repo_type="dataset")
    push(folder=folder, repo=repo_id, version="1.0.0", secrets="keep")


def test_rows_that_prepare_scanned_are_published(tmp_path: Path, repo_id: str) -> None:
    push(folder=prepared(tmp_path, scan="secrets", redact=True), repo=repo_id, version="1.0.0")


def test_a_commit_message_with_a_credential_is_refused(data: Path, repo_id: str) -> None:
    with pytest.raises(ConfigError, match="commit-message"):
        push(folder=data, repo=repo_id, version="1.0.0", commit_message=f"with {SECRET}")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "data/../../secret.txt", "data\\x", "a//b", "."])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(data: Path, repo_id: str, name: str) -> None:
    (data.parent / "secret.txt").write_text("mine")
    manifest = json.loads((data / "prepare.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 4}
    (data / "prepare.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="not a path inside the folder"):
        push(folder=data, repo=repo_id, version="1.0.0")


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_a_link_to_elsewhere_is_refused(data: Path, repo_id: str, what: str) -> None:
    elsewhere = data.parent / "elsewhere"
    if what == "a file":
        name = next(name for name in PrepareManifest.read(data / "prepare.json").files if name.endswith(".parquet"))
        elsewhere.write_bytes((data / name).read_bytes())
        (data / name).unlink()
        (data / name).symlink_to(elsewhere)
    else:
        (data / "data").rename(elsewhere)
        (data / "data").symlink_to(elsewhere)
    with pytest.raises(ArtefactError, match="link to outside"):
        push(folder=data, repo=repo_id, version="1.0.0")


def test_a_folder_behind_a_link_and_links_inside_are_fine(data: Path, repo_id: str) -> None:
    (data.parent / "link").symlink_to(data)
    (data / "NOTES").symlink_to("README.md")
    push(folder=data.parent / "link", repo=repo_id, version="1.0.0")


def test_a_release_whose_manifest_leads_out_is_not_verified(data: Path, repo_id: str) -> None:
    release = push(folder=data, repo=repo_id, version="1.0.0")
    bundle = Bundle.read(Path(HfApi().hf_hub_download(repo_id, BUNDLE_FILE, repo_type="dataset", revision="v1.0.0")))
    hostile = json.loads(bundle.model_dump_json())
    hostile["files"]["../../../../etc/hostname"] = {"sha256": "0" * 64, "size": 4}
    made = HfApi().upload_file(
        repo_id=repo_id, repo_type="dataset", path_in_repo=BUNDLE_FILE, path_or_fileobj=json.dumps(hostile).encode()
    )
    HfApi().delete_tag(repo_id, tag="v1.0.0", repo_type="dataset")
    HfApi().create_tag(repo_id, tag="v1.0.0", revision=made.oid, repo_type="dataset")
    with pytest.raises(VerificationFailed, match="not a path inside the folder"):
        verify(f"{repo_id}@{release.tag}")


@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("https://huggingface.co", True), ("https://hub.example.com", True), ("http://127.0.0.1:8800", True),
        ("http://localhost:8800", True), ("http://[::1]:8800", True), ("http://hub.example.com", False),
        ("http://127.0.0.1.example.com", False), ("http://localhost@example.com", False),
    ],
)  # fmt: skip
def test_a_token_travels_encrypted_or_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, address: str, accepted: bool
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    if accepted:
        assert endpoint() == address
    else:
        with pytest.raises(HubError, match="not encrypted"):
            endpoint()


def test_the_token_is_in_no_file_and_no_line(
    data: Path, repo_id: str, hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    push(folder=data, repo=repo_id, version="1.0.0", collection="Of tokens")
    verify(f"{repo_id}@v1.0.0")
    with pytest.raises(HubError):
        push(folder=data, repo="bob/not-mine", version="1.0.0")
    cache = tmp_path / "cache"
    HfApi().snapshot_download(repo_id, repo_type="dataset", revision="v1.0.0", cache_dir=cache)
    files = [path for folder in (data, cache) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if hub.token.encode() in path.read_bytes()]
    told = capsys.readouterr()
    assert hub.token not in told.out + told.err
