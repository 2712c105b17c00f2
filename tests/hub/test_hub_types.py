"""A model and a dataset may have one name: which of them is meant, and what is said where it is the wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo.config.repo_id import looks_like_folder
from hubdpo.data.load import look_at_dataset
from hubdpo.data.raw.sources.find import find_sources
from hubdpo.data.tokens.tokenizer import encoder_of, find_model
from hubdpo.errors import ConfigError, HubError, NoSuchRevision
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.reference import RepoRef, parse_ref
from hubdpo.model.bases.find import find_base
from hubdpo.release.list import releases

if TYPE_CHECKING:
    from typer.testing import Result


@pytest.fixture
def twins(data: Path, repo_id: str) -> str:
    """A model without a release, and a dataset v1.0.0 of the same name."""
    for repo_type in ("model", "dataset"):
        HfApi().create_repo(repo_id, repo_type=repo_type)
    hubdpo.push(folder=data, repo=repo_id, version="1.0.0", check="hashes")
    return repo_id


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("datasets/a/b", RepoRef("a/b", None, "dataset")),
        ("datasets/a/b@feature/x", RepoRef("a/b", "feature/x", "dataset")),
        ("datasets/b", RepoRef("datasets/b")),  # of a user who is called so
        ("datasets/b@feature/x", RepoRef("datasets/b", "feature/x")),
    ],
)
def test_a_dataset_may_be_spelled_as_the_hub_spells_it(text: str, ref: RepoRef) -> None:
    assert parse_ref(text) == parse_ref(str(ref)) == ref
    assert not looks_like_folder(text)


def test_no_second_repo_of_a_name_is_made_by_a_slip(data: Path, repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    with pytest.raises(ConfigError, match=f"`{repo_id}` is a model already, and the dataset would be a") as caught:
        hubdpo.push(folder=data, repo=repo_id, version="1.0.0")
    assert caught.value.hint == f"did you mean `{repo_id}-data`?"
    HfApi().create_repo(repo_id, repo_type="dataset")
    assert hubdpo.push(folder=data, repo=repo_id, version="1.0.0").kind == "dataset"


def test_a_revision_tells_which_of_two_repos_is_meant(twins: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert hubdpo.verify(f"{twins}@v1.0.0").kind == "dataset"
    assert "this is the dataset" in capsys.readouterr().err
    assert open_snapshot(twins).repo_type == "model"
    assert f"this is the model; `datasets/{twins}` names the dataset" in capsys.readouterr().err


@pytest.mark.parametrize("take", [
    lambda name: hubdpo.verify(f"{name}@v1.0.0").tag, lambda name: releases(name)[0].tag,
    lambda name: hubdpo.diff(name, f"{name}@v1.0.0").kind, lambda name: hubdpo.load_preferences(name).num_rows,
    lambda name: open_snapshot(name, repo_type="dataset").commit,
], ids=["verify", "versions", "diff", "load_preferences", "--dataset"])  # fmt: skip
def test_every_reader_takes_the_spelled_dataset(
    twins: str, take: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert take(f"datasets/{twins}")
    assert "names the dataset" not in capsys.readouterr().err


def test_the_hint_after_a_push_verifies_the_repo_that_was_pushed_to(
    data: Path, run: Path, repo_id: str, run_cli: Callable[..., Result]
) -> None:
    HfApi().create_repo(repo_id)  # otherwise a second repo of that name is refused
    HfApi().create_repo(repo_id, repo_type="dataset")
    for folder, name in ((data, f"datasets/{repo_id}"), (run, repo_id)):
        done = run_cli("push", str(folder), repo_id, "--version", "1.0.0", "--check", "hashes")
        assert f"hint: hubdpo verify {name}@v1.0.0" in done.stderr


def test_a_revision_that_neither_has_is_told_of_the_model(twins: str) -> None:
    with pytest.raises(NoSuchRevision) as caught:
        hubdpo.verify(f"{twins}@v9.0.0")
    assert str(caught.value.hint).endswith(f"hf repos tag list {twins}")


def test_versions_says_whose_releases_it_lists(twins: str, run_cli: Callable[..., Result]) -> None:
    done = run_cli("versions", twins)
    assert f"{twins}: 0 releases" in done.stdout and "this is the model" in done.stderr
    assert f"hubdpo verify datasets/{twins}@v1.0.0" in run_cli("versions", f"datasets/{twins}").stderr


@pytest.mark.parametrize("at", ["", "@main", "@COMMIT"], ids=["no revision", "branch", "commit"])
@pytest.mark.parametrize(
    ("take", "found", "option"),
    [
        (lambda data, base: hubdpo.load_preferences(base), "a model, not a dataset", "`--model-name-or-path`"),
        (lambda data, base: hubdpo.load_adapter(data), "a dataset, not a model", "`load_preferences`"),
        (lambda data, base: hubdpo.load_adapter(f"datasets/{data}"), "a dataset, not a model", "`load_preferences`"),
        (lambda data, base: find_base(data), "a dataset, not a model", "`--dataset`"),
        (lambda data, base: encoder_of(find_model(data)), "a dataset, not a model", "`--dataset`"),
        (lambda data, base: look_at_dataset(base), "a model, not a dataset", "`--model-name-or-path`"),
        (lambda data, base: find_sources([f"hf://datasets/{base}"], ""), "a model, not a", "`--model-name-or-path`"),
    ],
    ids=["load_preferences", "load_adapter", "spelled", "base", "prepare --model", "train --dataset", "hf://"],
)
def test_a_repo_of_the_other_type_is_told_as_one(
    repo_id: str, tiny_base_repo: str, take: Callable[[str, str], object], found: str, option: str, at: str
) -> None:
    HfApi().create_repo(repo_id, repo_type="dataset")
    data, model = (
        name + at.replace("COMMIT", str(HfApi().repo_info(name, repo_type=repo_type).sha))
        for name, repo_type in ((repo_id, "dataset"), (tiny_base_repo, "model"))
    )
    with pytest.raises(HubError, match=found) as caught:
        take(data, model)
    assert option in str(caught.value.hint)
