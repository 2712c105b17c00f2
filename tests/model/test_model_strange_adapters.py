"""Adapters that others made: what they name as their base is looked at before it is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi

import hubdpo
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import MergeConfig
from hubdpo.errors import ArtefactError, ConfigError, HubError, NoSuchRevision
from hubdpo.model.adapters import load
from hubdpo.model.merge.sources import find_sources
from tests.release.made import record_files


def uploaded(run_dir: Path, folder: Path, repo: str, **settings: Any) -> str:
    """The session's run on the Hub as anybody could put it there, with fields of adapter_config.json of their own."""
    copy = shutil.copytree(run_dir, folder / "adapter", ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((copy / "adapter_config.json").read_text()) | settings
    (copy / "adapter_config.json").write_text(json.dumps(config))
    record_files(copy)
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
    (source,) = find_sources(MergeConfig.build({"adapter": repo, "output_dir": str(tmp_path / "merged")}))
    assert tmp_path / "mine" not in [*used, source.base]
    assert len(used) == 1


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (hubdpo.load_adapter, {"repo": None}, "`repo` is needed"),
        (hubdpo.load_adapter, {"repo": "me/same", "revision": 1.0}, "not a revision: `1.0`"),
        (hubdpo.load_adapter, {"repo": "me/same", "load_in_4bit": "no"}, "`load_in_4bit` is 'no'"),
        (hubdpo.load_preferences, {"ref": None}, "`ref` is needed"),
        (hubdpo.load_preferences, {"ref": [{}]}, "`ref` must be a name"),
        (hubdpo.verify, {"ref": None}, "`ref` is needed"),
        (hubdpo.verify, {"ref": 3}, "`ref` must be a name, not 3"),
        (hubdpo.diff, {"before": "a", "after": None}, "`after` is needed"),
    ],
)
def test_what_is_no_name_is_told_in_one_line(function: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        function(**arguments)


@pytest.mark.parametrize(
    "device_map", ["cuda", "cuda:1", torch.device("cuda"), {"": 0}, {"lm_head": "cpu", "": "cuda"}]
)
def test_a_device_map_needs_its_device(run_dir: Path, monkeypatch: pytest.MonkeyPatch, device_map: object) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no CUDA device") as caught:
        hubdpo.load_adapter(run_dir, device_map=device_map)
    assert 'device_map="cpu"' in str(caught.value.hint)


@pytest.mark.parametrize("device_map", ["gpu", {"": "gpu"}, ["cpu"]])
def test_a_device_map_without_a_device_is_the_callers_mistake(run_dir: Path, device_map: object) -> None:
    with pytest.raises(ConfigError, match="`device_map` names no device"):
        hubdpo.load_adapter(run_dir, device_map=device_map)


def test_a_device_map_is_a_device_of_torch(run_dir: Path) -> None:
    loaded = hubdpo.load_adapter(run_dir, load_in_4bit=False, device_map=torch.device("cpu"))
    assert loaded.model.device.type == "cpu"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"])
def test_a_broken_file_of_a_run_is_written_by_its_owner(run_dir: Path, tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    (run / name).write_bytes(b"junk") if name.endswith("json") else (run / name).unlink()
    with pytest.raises(ArtefactError, match=f"{run}") as caught:
        hubdpo.load_adapter(run)
    hint = str(caught.value.hint)
    assert hint.startswith("hubdpo train ") and hint.endswith(" --resume")


def test_a_missing_base_is_told_to_be_the_base(run_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    (run / "local.json").unlink()
    manifest = RunManifest.read(run / "run.json")
    base = manifest.base.model_copy(update={"repo_id": "nobody/nothing", "revision": "a" * 40})
    manifest.model_copy(update={"base": base}).write(run / "run.json")
    for use, options in ((hubdpo.load_adapter, {}), (hubdpo.evaluate, {"dataset": dataset_dir})):
        with pytest.raises(HubError, match="the base of the adapter cannot be downloaded: `nobody/nothing"):
            use(run, **options)


def test_an_empty_answer_is_told(run_cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_adapter", lambda name: None)
    monkeypatch.setattr(load, "answer", lambda *_, **__: " ")
    said = run_cli("load", "me/same").stderr
    assert "the answer is empty" in said
    assert "no prompt is given, so the adapter is asked: Hello! Who are you?" in said


def test_a_run_is_not_taken_for_an_incomplete_dataset(run_dir: Path) -> None:
    with pytest.raises(ArtefactError, match="is a run, not a dataset"):
        hubdpo.load_preferences(run_dir)
