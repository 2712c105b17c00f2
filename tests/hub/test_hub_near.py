"""A name that the Hub does not have, or not so: the hint is the line with the name that it has."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo.artefacts.manifests.bundle import Release
from hubdpo.artefacts.manifests.manifest import PREPARE_FILE, RELEASE_FILE, RUN_FILE
from hubdpo.cli.app import main
from hubdpo.errors import HubError, NoSuchRevision
from hubdpo.hub import retry
from hubdpo.hub.failures import as_hub_error, is_unknown_outcome
from hubdpo.hub.transport import http

if TYPE_CHECKING:
    from tests.conftest import Hub

# what is typed after `hubdpo`, what the line says, and the hint
NEAR = [
    ("verify alice/near-dp@v1.0.0 --check load", "`alice/near-dp` is not", "verify alice/near-dpo@v1.0.0 --check load"),
    ("verify datasets/alice/near-pref@v0.1.0", "is not on", "verify datasets/alice/near-prefs@v0.1.0"),
    ("load alice/near-dpo@0.1.0 hi", "`alice/near-dpo` has no revision `0.1.0`", "load alice/near-dpo@v0.1.0 hi"),
    ("inspect alice/near-dpo@v0.1", "has no revision `v0.1`", "inspect alice/near-dpo@v0.1.0"),
    ("inspect alice/near-dpo@mian", "has no revision `mian`", "inspect alice/near-dpo@main"),
    ("inspect alice/near-dpo@v9.0.0", "has no revision `v9.0.0`", "hf repos tag list alice/near-dpo"),
    ("load alice/quite-different hi", "and not for this login to see", "hf models ls --author alice"),
    ("verify datasets/bob/quite-different@v1.0.0", "for this login to see", "hf datasets ls --author bob"),
    ("verify alice/near-dpo --check hashes", "name a release of", "verify alice/near-dpo@v0.1.0 --check hashes"),
    ("verify alice/near-base", "`alice/near-base` has no release yet", "inspect alice/near-base"),
    ("versions published", "`published` is a folder", "versions datasets/alice/near-prefs"),
    ("verify published --check hashes", "is a folder", "verify datasets/alice/near-prefs@v1.0.0 --check hashes"),
    ("push data alice/near-dpo --version 1.0.0", "a model already", "push data alice/near-dpo-data --version 1.0.0"),
    ("evaluate place/rn", "there is no folder `place/rn` here", "evaluate place/run"),
    (
        "push data bob/near-prefs --version 1.0.0",
        "the token of `alice` cannot write to `bob/near-prefs`",
        "push data alice/near-prefs --version 1.0.0",
    ),
    (
        "push run alice/x --version 1.0.0 --base-model alice/near-dp",
        "`--base-model`: `alice/near-dp` is not on",
        "push run alice/x --version 1.0.0 --base-model alice/near-dpo",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, dataset_dir: Path, run_dir: Path, tiny_base: Path) -> Path:
    """A folder with a dataset and runs; the Hub has a model with a release, and a dataset."""
    work = tmp_path_factory.mktemp("near")
    shutil.copytree(dataset_dir, work / "data", ignore=shutil.ignore_patterns(RELEASE_FILE))
    shutil.copytree(tiny_base, work / "tiny")
    shutil.copytree(run_dir, work / "run")
    (work / "place" / "run").mkdir(parents=True)
    (work / "place" / "run" / RUN_FILE).write_text("{}")
    api = HfApi()
    api.create_repo("alice/near-dpo")
    api.create_tag("alice/near-dpo", tag="v0.1.0")
    api.create_repo("alice/near-base")
    api.create_repo("alice/near-prefs", repo_type="dataset")
    shutil.copytree(dataset_dir, work / "published")
    published = Release(
        repo="alice/near-prefs", kind="dataset", version="1.0.0", tag="v1.0.0", commit="a" * 40,
        url="", bundle_id="", endpoint="", files=[],
    )  # fmt: skip
    published.write(work / "published" / RELEASE_FILE)
    return work


@pytest.mark.parametrize(("line", "says", "hint"), NEAR, ids=[line for line, _, _ in NEAR])
def test_the_hint_has_the_name_that_is_there(
    line: str, says: str, hint: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["hubdpo", *shlex.split(line)])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err.splitlines()
    (error,) = (text for text in said if text.startswith("error: "))
    assert says in error
    whole = hint if hint.startswith("hf ") else f"hubdpo {hint}"
    assert [text for text in said if text.startswith("hint: ")] == [f"hint: {whole}"]


@pytest.mark.usefixtures("place")
def test_a_revision_that_is_nearly_there_is_named_in_python() -> None:
    with pytest.raises(NoSuchRevision) as caught:
        hubdpo.load_adapter("alice/near-dpo", revision="0.1.0")
    assert caught.value.hint == "did you mean `alice/near-dpo@v0.1.0`?"
    assert "there is no folder" not in str(caught.value)


OTHER_TYPE: list[tuple[Callable[[str], object], str, str, str, str]] = [
    # what opens a name, the name, the manifest of the folders here, the words, and where the other type goes
    (hubdpo.load_adapter, "alice/near-prefs", RUN_FILE, "a dataset, not a model", "a dataset goes to `--dataset`"),
    (hubdpo.load_preferences, "alice/near-dpo", PREPARE_FILE, "a model, not a dataset", "a base goes to"),
]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("open_it", "ref", "manifest", "words", "goes"), OTHER_TYPE)
@pytest.mark.parametrize("is_near", [True, False])
def test_in_place_of_a_repo_of_the_other_type_a_folder_is_named_if_its_name_is_near(
    open_it: Callable[[str], object], ref: str, manifest: str, words: str, goes: str, is_near: bool,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = f"my-{ref.partition('/')[2]}" if is_near else "quite-another"
    for folder, file in ((name, manifest), ("other-kind", "config.json"), (f"{ref[6:]}-", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match=words) as caught:
        open_it(ref)
    assert str(caught.value.hint).startswith(f"did you mean `{name}`?" if is_near else goes)


@pytest.mark.usefixtures("place")
def test_a_folder_of_another_kind_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alice" / "quite-differen").mkdir(parents=True)
    (tmp_path / "alice" / "quite-differen" / PREPARE_FILE).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match="there is no folder `alice/quite-different`") as caught:
        hubdpo.load_adapter("alice/quite-different")
    assert "quite-differen`" not in str(caught.value.hint)


@pytest.mark.usefixtures("place")
def test_who_has_no_valid_token_is_told_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(HubError) as caught:
        hubdpo.load_adapter("alice/quite-different")
    assert caught.value.hint == "unset HF_TOKEN && hf auth login"


def test_a_hub_that_speaks_no_https_is_told_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pause(seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")

    monkeypatch.setattr(retry, "pause", pause)
    monkeypatch.setenv("HF_ENDPOINT", hub.server.endpoint.replace("http:", "https:"))
    monkeypatch.setattr(sys, "argv", ["hubdpo", "versions", "alice/near-dpo"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert f"error: {hub.server.endpoint.replace('http:', 'https:')} does not speak https\n" in said
    assert f"hint: export HF_ENDPOINT={hub.server.endpoint} && hubdpo versions alice/near-dpo\n" in said


def test_a_certificate_that_is_not_trusted_is_told_with_the_reason() -> None:
    problem = http().ConnectError(
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1000)"
    )
    assert not is_unknown_outcome(problem)
    told = as_hub_error("alice/x", problem)
    assert told is not None and "is not one to trust: self-signed certificate" in told.message
