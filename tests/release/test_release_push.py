"""Publishing: one verified release, whatever happens on the way."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi, snapshot_download

from hubdpo import push, verify
from hubdpo.artefacts.manifests.bundle import Bundle, Release
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.errors import ArtefactError, ConfigError, HubError, LicenceError, VerificationFailed, VersionTaken
from hubdpo.hub.repo import RepoSnapshot
from hubdpo.loopback.faults import Fault
from hubdpo.release import protocol
from hubdpo.release.verify.verify import verify_commit
from tests.release.made import record_files, scale_adapter

if TYPE_CHECKING:
    from tests.conftest import Hub


def refs(repo: str) -> dict[str, str]:
    found = HfApi().list_repo_refs(repo, repo_type="dataset")
    return {ref.ref: ref.target_commit for ref in (*found.branches, *found.tags)}


def published(repo: str, tmp_path: Path, *, repo_type: str = "dataset", revision: str = "v1.0.0") -> dict[str, bytes]:
    cache = tmp_path / f"cache-{time.monotonic_ns()}"
    folder = Path(snapshot_download(repo, repo_type=repo_type, revision=revision, cache_dir=cache))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_one_release(repo: str, release: Release) -> None:
    found = refs(repo)
    assert set(found) == {"refs/heads/main", "refs/tags/v1.0.0"}
    assert found["refs/tags/v1.0.0"] == release.commit
    for branch in ("main", "v1.0.0"):
        titles = [c.title for c in HfApi().list_repo_commits(repo, repo_type="dataset", revision=branch)]
        assert titles.count("Release v1.0.0") == 1
    assert verify(f"{repo}@v1.0.0").commit == release.commit


def test_a_dataset_folder_is_published_byte_for_byte(data: Path, repo_id: str, tmp_path: Path) -> None:
    release = push(folder=data, repo=repo_id, version="1.0.0")
    assert_one_release(repo_id, release)
    files = published(repo_id, tmp_path)
    for name in set(files) - {BUNDLE_FILE, ".gitattributes"}:
        assert files[name] == (data / name).read_bytes()
    assert "rejected.jsonl" not in files


def test_the_tag_is_annotated_with_the_bundle(hub: Hub, data: Path, repo_id: str) -> None:
    release = push(folder=data, repo=repo_id, version="1.0.0")
    git = ["git", "-C", str(hub.root / "repos" / "dataset" / f"{repo_id}.git")]
    tag = subprocess.run([*git, "cat-file", "-p", "refs/tags/v1.0.0"], capture_output=True, text=True, check=True)
    assert f"Hubdpo-Bundle: {release.bundle_id}" in tag.stdout


def test_a_run_is_published_without_what_stays_here(run: Path, repo_id: str, tmp_path: Path) -> None:
    (run / "evil.pkl").write_bytes(b"\x80\x04.")
    push(folder=run, repo=repo_id, version="1.0.0")
    files = published(repo_id, tmp_path, repo_type="model")
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md", "run.json"} <= set(files)
    assert {"metrics.jsonl", "eval.json", "plots/curves.png"} <= set(files)
    assert not [
        n for n in files if n.endswith((".pkl", ".pt", ".bin", ".pth")) or "checkpoint" in n or n == "local.json"
    ]
    assert all(str(tmp_path).encode() not in content for content in files.values())


def test_the_same_bundle_again_writes_nothing(data: Path, repo_id: str) -> None:
    first = push(folder=data, repo=repo_id, version="1.0.0")
    before = refs(repo_id)
    again = push(folder=data, repo=repo_id, version="1.0.0")
    assert again == first
    assert refs(repo_id) == before


def test_a_taken_version_is_refused_and_nothing_moves(data: Path, other: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    before = refs(repo_id)
    with pytest.raises(VersionTaken, match="what differs: `README.md`, `data/train-.*`, `") as caught:
        push(folder=other, repo=repo_id, version="1.0.0")
    assert "1.0.1" in (caught.value.hint or "")
    assert refs(repo_id) == before


@pytest.mark.parametrize(("name", "is_read"), [("config.json", True), ("pytorch_model.bin", True), ("NOTES.md", False)])
def test_a_tag_that_was_moved_is_no_release_that_is_out_already(
    run: Path, repo_id: str, name: str, is_read: bool
) -> None:
    released = push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    hub = HfApi()
    hub.create_branch(repo_id, branch="other", revision=released.commit)
    hub.upload_file(repo_id=repo_id, path_in_repo=name, path_or_fileobj=b"{}", revision="other")
    hub.delete_tag(repo_id, tag="v1.0.0")
    hub.create_tag(repo_id, tag="v1.0.0", revision="other")
    if not is_read:
        assert push(folder=run, repo=repo_id, version="1.0.0", check="hashes").tag == "v1.0.0"
        return
    with pytest.raises(VersionTaken, match=f"was moved: beside this release it holds `{re.escape(name)}`") as caught:
        push(folder=run, repo=repo_id, version="1.0.0", check="hashes")
    assert "1.0.1" in (caught.value.hint or "")


def test_main_follows_the_highest_version(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    newest = push(folder=data, repo=repo_id, version="2.0.0")
    push(folder=data, repo=repo_id, version="1.0.1")
    main = HfApi().hf_hub_download(repo_id, BUNDLE_FILE, repo_type="dataset", revision=refs(repo_id)["refs/heads/main"])
    assert Bundle.read(Path(main)).version == newest.version


def test_files_of_others_survive(data: Path, repo_id: str, tmp_path: Path) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().upload_file(repo_id=repo_id, repo_type="dataset", path_in_repo="NOTES.md", path_or_fileobj=b"mine")
    push(folder=data, repo=repo_id, version="1.1.0")
    for revision in ("main", "v1.1.0"):
        assert published(repo_id, tmp_path, revision=revision)["NOTES.md"] == b"mine"


def test_files_of_the_release_before_go(data: Path, other: Path, repo_id: str, tmp_path: Path) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    push(folder=other, repo=repo_id, version="2.0.0")
    assert not [name for name in published(repo_id, tmp_path, revision="main") if "test-" in name]


def test_a_dry_run_writes_nothing(data: Path, repo_id: str) -> None:
    assert push(folder=data, repo=repo_id, version="1.0.0", dry_run=True).commit == ""
    assert not HfApi().repo_exists(repo_id, repo_type="dataset")
    assert not (data / "release.json").exists()


def test_a_dry_run_shows_what_would_change(data: Path, repo_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    push(folder=data, repo=repo_id, version="1.0.0")
    push(folder=data, repo=repo_id, version="1.0.0", dry_run=True)
    assert capsys.readouterr().err.count("unchanged") == 6
    push(folder=data, repo=repo_id, version="1.0.1", dry_run=True)
    assert "hubdpo.json" in [
        line.split()[0] for line in capsys.readouterr().err.splitlines() if line.endswith(" changed")
    ]


def test_a_private_release_is_private(data: Path, repo_id: str) -> None:
    push(folder=data, repo=repo_id, version="1.0.0", private=True)
    assert not HfApi(token=False).repo_exists(repo_id, repo_type="dataset")


def test_an_edited_dataset_folder_is_refused_before_the_hub_is_asked(data: Path, repo_id: str) -> None:
    (data / "README.md").write_text("by hand")
    with pytest.raises(ArtefactError, match=r"README\.md"):
        push(folder=data, repo=repo_id, version="1.0.0")
    assert not HfApi().repo_exists(repo_id, repo_type="dataset")


def test_a_token_without_the_right_is_told(data: Path) -> None:
    with pytest.raises(HubError, match="the token of `alice` cannot write to `bob") as caught:
        push(folder=data, repo="bob/not-mine", version="1.0.0")
    assert caught.value.exit_code == 4


def test_a_dataset_whose_card_holds_a_secret_is_not_sent(tmp_path: Path, repo_id: str) -> None:
    """Rows may keep what looks like one; the card, whose samples never show it, may not."""
    from hubdpo import prepare

    secret = "hf_" + "a" * 34
    (tmp_path / "raw.jsonl").write_text(f'{{"prompt": "{secret}", "chosen": "a", "rejected": "b"}}\n')
    prepare(source=str(tmp_path / "raw.jsonl"), output_dir=tmp_path / "out", test_size=0)
    card = tmp_path / "out" / "README.md"
    assert secret not in card.read_text(encoding="utf-8")
    with card.open("a", encoding="utf-8") as stream:
        stream.write(f"\n<!-- hubdpo:keep -->\n{secret}\n<!-- /hubdpo:keep -->\n")
    with pytest.raises(ArtefactError, match=r"README.md. holds a Hugging Face Token") as caught:
        push(folder=tmp_path / "out", repo=repo_id, version="1.0.0", secrets="keep")
    assert "--scan secrets" in (caught.value.hint or "")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("secret", ["hf_" + "a" * 34, "ghp_" + "b" * 36, "AKIA" + "C" * 16, "sk-" + "d" * 40])
def test_a_secret_in_a_file_is_found_and_not_repeated(run: Path, repo_id: str, secret: str) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(f'{{"step": 9, "note": "{secret}"}}\n')
    with pytest.raises(ArtefactError, match=r"metrics\.jsonl") as caught:
        push(folder=run, repo=repo_id, version="1.0.0")
    assert secret not in caught.value.message + str(caught.value.hint)
    assert not HfApi().repo_exists(repo_id)


def test_a_path_of_this_machine_is_found(run: Path, repo_id: str) -> None:
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "note": "/home/someone/model"}\n')
    record_files(run)
    with pytest.raises(ArtefactError, match="path of this machine"):
        push(folder=run, repo=repo_id, version="1.0.0")


def test_an_unfinished_run_is_refused(run: Path, repo_id: str) -> None:
    manifest = RunManifest.read(run / "run.json")
    manifest.model_copy(update={"status": "running"}).write(run / "run.json")
    with pytest.raises(ArtefactError, match="not finished"):
        push(folder=run, repo=repo_id, version="1.0.0")


def test_an_adapter_that_never_trained_is_refused(run: Path, repo_id: str) -> None:
    scale_adapter(run, 0)
    with pytest.raises(ArtefactError, match="never trained"):
        push(folder=run, repo=repo_id, version="1.0.0")


def with_base(run: Path, **changes: Any) -> None:
    manifest = RunManifest.read(run / "run.json")
    manifest.model_copy(update={"base": manifest.base.model_copy(update=changes)}).write(run / "run.json")


def test_an_unknown_licence_needs_the_publishers_word(run: Path, repo_id: str) -> None:
    with_base(run, license=None)
    with pytest.raises(LicenceError) as caught:
        push(folder=run, repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 7
    push(folder=run, repo=repo_id, version="1.0.0", license="mit")
    assert HfApi().model_info(repo_id).card_data.license == "mit"


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        ({"license": "apache-2.0"}, "states `mit`", "leave out `--license`"),
        ({"base_model": "me/base"}, "`--base-model` is not for datasets", "leave out `--"),
        ({"license_name": "mine"}, "`--license-name` is not for datasets", "leave out `--"),
    ],
    ids=str,
)
def test_options_that_a_dataset_has_no_use_for_are_refused(
    data: Path, repo_id: str, options: dict[str, Any], says: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        push(folder=data, repo=repo_id, version="1.0.0", **options)
    assert (caught.value.hint or "").startswith(hint)


def test_the_licence_that_a_dataset_has_may_be_repeated(data: Path, repo_id: str) -> None:
    assert push(folder=data, repo=repo_id, version="1.0.0", license="mit").tag == "v1.0.0"


def test_a_local_base_needs_its_hub_id(run: Path, repo_id: str, tiny_base_repo: str, tmp_path: Path) -> None:
    with_base(run, repo_id=None, revision=None, name="folder")
    with pytest.raises(ConfigError, match="local base") as caught:
        push(folder=run, repo=repo_id, version="1.0.0")
    assert "--base-model" in (caught.value.hint or "")
    push(folder=run, repo=repo_id, version="1.0.0", base_model=tiny_base_repo)
    config = published(repo_id, tmp_path, repo_type="model")["adapter_config.json"].decode()
    assert f'"{tiny_base_repo}"' in config
    assert HfApi().model_info(tiny_base_repo).sha in config


def test_a_corrupted_download_stops_before_the_tag(data: Path, repo_id: str, faults: Any) -> None:
    faults.add(Fault("corrupt", "/_cdn/", method="GET", times=50))
    with pytest.raises(VerificationFailed) as caught:
        push(folder=data, repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 6
    assert not HfApi().list_repo_refs(repo_id, repo_type="dataset").tags
    assert HfApi().list_repo_files(repo_id, repo_type="dataset") == [".gitattributes"]
    faults.clear()
    assert_one_release(repo_id, push(folder=data, repo=repo_id, version="1.0.0"))


@pytest.mark.parametrize("path", ["/commit/", "/tag/", "/branch/", "/repos/create", "/preupload/", "/refs", "/_cdn/"])
@pytest.mark.parametrize("kind", ["reset-before", "reset-after", "status"])
def test_a_failure_on_the_way_ends_in_one_release(data: Path, repo_id: str, faults: Any, path: str, kind: Any) -> None:
    faults.add(Fault(kind, path, status=503, headers={"Retry-After": "0"}))
    assert_one_release(repo_id, push(folder=data, repo=repo_id, version="1.0.0"))


def test_a_hub_that_stays_away_is_an_error_in_bounded_time(data: Path, repo_id: str, faults: Any) -> None:
    faults.add(Fault("status", "/commit/", status=503, times=10_000))
    with pytest.raises(HubError, match="unknown") as caught:
        push(folder=data, repo=repo_id, version="1.0.0")
    assert caught.value.exit_code == 4
    assert "again" in (caught.value.hint or "")


def test_verify_finds_a_changed_file(hub: Hub, run: Path, repo_id: str) -> None:
    push(folder=run, repo=repo_id, version="1.0.0")
    oid = hashlib.sha256((run / "adapter_model.safetensors").read_bytes()).hexdigest()
    stored = hub.root / "lfs" / oid[:2] / oid[2:4] / oid
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    try:
        with pytest.raises(VerificationFailed, match=r"adapter_model\.safetensors"):
            verify(f"{repo_id}@v1.0.0")
    finally:
        data[-1] ^= 1
        stored.write_bytes(data)


def test_another_release_in_the_place_of_the_one_sent_is_not_tagged(
    data: Path, other: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole and agrees with its own list, so that only a comparison with what was sent tells it apart."""
    earlier = push(folder=other, repo=repo_id, version="0.9.0")

    def verify_the_earlier(snapshot: RepoSnapshot, **options: Any) -> Any:
        return verify_commit(RepoSnapshot(repo_id, "dataset", earlier.commit, fresh=True), **options)

    monkeypatch.setattr(protocol, "verify_commit", verify_the_earlier)
    with pytest.raises(VerificationFailed, match="`hubdpo.json` is not the one that was sent"):
        push(folder=data, repo=repo_id, version="1.0.0")
    assert "refs/tags/v1.0.0" not in refs(repo_id)


def test_a_tag_of_another_version_than_its_release_is_told(data: Path, repo_id: str) -> None:
    release = push(folder=data, repo=repo_id, version="1.0.0")
    HfApi().create_tag(repo_id, tag="v2.0.0", revision=release.commit, repo_type="dataset")
    with pytest.raises(VerificationFailed, match=r"@v2.0.0` holds version 1\.0\.0"):
        verify(f"{repo_id}@v2.0.0", check="hashes")


def test_a_tag_that_somebody_else_made_meanwhile_is_theirs(
    data: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify_while_somebody_tags(snapshot: RepoSnapshot, **options: Any) -> Any:
        HfApi().create_tag(repo_id, tag="v1.0.0", revision="main", repo_type="dataset")
        return verify_commit(snapshot, **options)

    monkeypatch.setattr(protocol, "verify_commit", verify_while_somebody_tags)
    HfApi().create_repo(repo_id, repo_type="dataset")
    with pytest.raises(VersionTaken):
        push(folder=data, repo=repo_id, version="1.0.0")
    assert set(refs(repo_id)) == {"refs/heads/main", "refs/tags/v1.0.0"}
    assert HfApi().list_repo_files(repo_id, repo_type="dataset") == [".gitattributes"]
