"""Adapters that others made: what they name as their base is looked at before it is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

import hubdpo
from hubdpo.config import MergeConfig
from hubdpo.errors import ArtefactError, ConfigError, NoSuchRevision
from hubdpo.model.adapters import load
from hubdpo.model.merge import merge as merging


def uploaded(run_dir: Path, folder: Path, repo: str, **settings: Any) -> str:
    """The session's run on the Hub as anybody could put it there, with fields of adapter_config.json of their own."""
    copy = shutil.copytree(run_dir, folder / "adapter", ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((copy / "adapter_config.json").read_text()) | settings
    (copy / "adapter_config.json").write_text(json.dumps(config))
    HfApi().create_repo(repo)
    HfApi().upload_folder(repo_id=repo, folder_path=str(copy))
    return repo


@pytest.mark.parametrize("name", ["/home/me/base", "../base", "./base", None, 7, "a/b/c", ""])
def test_a_base_that_is_no_repo_is_told_in_one_line(run_dir: Path, tmp_path: Path, repo_id: str, name: Any) -> None:
    repo = uploaded(run_dir, tmp_path, repo_id, base_model_name_or_path=name)
    with pytest.raises(ArtefactError, match="not a repo on the Hub"):
        hubdpo.load_adapter(repo)


@pytest.mark.parametrize(
    ("revision", "error"), [("../../x", ConfigError), ("no-such-branch", NoSuchRevision), ("0" * 40, NoSuchRevision)]
)
def test_a_base_at_a_revision_that_is_none_is_told(
    run_dir: Path, tmp_path: Path, repo_id: str, revision: str, error: type[Exception]
) -> None:
    repo = uploaded(run_dir, tmp_path, repo_id, revision=revision)
    with pytest.raises(error):
        hubdpo.load_adapter(repo)


def test_a_release_does_not_choose_a_base_on_this_machine(
    run_dir: Path, tmp_path: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    repo = uploaded(run_dir, tmp_path, repo_id)
    local = json.dumps({"model_name_or_path": str(tmp_path / "mine")}).encode()
    HfApi().upload_file(repo_id=repo, path_in_repo="local.json", path_or_fileobj=local)
    used: list[Path] = []

    def take(folder: Path, base: Path, **options: Any) -> tuple[None, None]:
        used.append(base)
        return None, None

    monkeypatch.setattr(load, "load_on_base", take)
    hubdpo.load_adapter(repo)
    source = merging._find(MergeConfig.build({"adapter": repo, "output_dir": str(tmp_path / "merged")}))
    assert tmp_path / "mine" not in [*used, source.base]
    assert len(used) == 1
