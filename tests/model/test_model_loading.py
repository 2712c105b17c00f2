"""What each way of loading a release gives once the base's main has moved on to other weights.

`same` is the trained model to the last bit, `other` another model without a word, `refused` an OSError of transformers.
The README and the cards say which is which; when a library changes its ways, this table says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, pipeline

import hubdpo
from hubdpo.demo.tiny_base import make_tiny_base

pytestmark = pytest.mark.slow
TAG = "v1.0.0"
IDS = torch.arange(40)[None]


@dataclass(frozen=True)
class Released:
    """An adapter, its base at commit `first`, and what the trained model gives; the base's main is elsewhere now."""

    adapter: str
    base: str
    first: str
    run: Path
    logits: torch.Tensor


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, dataset_dir: Path) -> Released:
    folder, api = tmp_path_factory.mktemp("loading"), HfApi()
    base, adapter = "alice/moving-base", "alice/moving-adapter"
    first = make_tiny_base(folder / "first")
    api.create_repo(base)
    commit = api.upload_folder(repo_id=base, folder_path=str(first)).oid
    hubdpo.train(
        model_name_or_path=base, dataset=str(dataset_dir), output_dir=folder / "run", max_steps=2, learning_rate=1e-2,
        max_length=64, gradient_accumulation_steps=1, load_in_4bit=False,
    )  # fmt: skip
    hubdpo.push(folder=folder / "run", repo=adapter, version=TAG)
    api.upload_folder(repo_id=base, folder_path=str(make_tiny_base(folder / "second", seed=1)))
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(first), folder / "run")
    return Released(adapter, base, commit, folder / "run", logits_of(trained))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is left from another row."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base_with_that_tag(released: Released) -> Iterator[None]:
    HfApi().create_tag(released.base, tag=TAG)
    yield
    HfApi().delete_tag(released.base, tag=TAG)


def on_the_base(r: Released, *, attach: bool) -> Any:
    base = AutoModelForCausalLM.from_pretrained(r.base, revision=r.first)
    if not attach:
        return PeftModel.from_pretrained(base, r.adapter, revision=TAG)
    base.load_adapter(r.adapter, adapter_kwargs={"revision": TAG})
    return base


AUTO, AUTO_PEFT = AutoModelForCausalLM.from_pretrained, AutoPeftModelForCausalLM.from_pretrained
WAYS: dict[str, tuple[Callable[[Released], Any], str]] = {
    "hubdpo.load_adapter": (lambda r: hubdpo.load_adapter(r.adapter, revision=TAG).model, "same"),
    "AutoPeft": (lambda r: AUTO_PEFT(r.adapter), "same"),
    "AutoPeft, revision": (lambda r: AUTO_PEFT(r.adapter, revision=TAG), "same"),
    "AutoPeft, revision, dtype": (lambda r: AUTO_PEFT(r.adapter, revision=TAG, dtype=torch.float32), "same"),
    "PeftModel on the pinned base": (lambda r: on_the_base(r, attach=False), "same"),
    "load_adapter on the pinned base": (lambda r: on_the_base(r, attach=True), "same"),
    "Auto": (lambda r: AUTO(r.adapter), "other"),
    "Auto, revision": (lambda r: AUTO(r.adapter, revision=TAG), "refused"),
    "pipeline, revision": (lambda r: pipeline("text-generation", r.adapter, revision=TAG), "refused"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_loading_a_release_whose_base_moved(way: str, released: Released, empty_cache: Path) -> None:
    load, expected = WAYS[way]
    if expected == "refused":
        with pytest.raises(OSError, match=TAG):
            load(released)
        return
    difference = (logits_of(load(released)) - released.logits).abs().max().item()
    assert difference == 0 if expected == "same" else difference > 0.01
    assert any(empty_cache.iterdir())


@pytest.mark.usefixtures("base_with_that_tag")
@pytest.mark.parametrize("way", ["Auto, revision", "pipeline, revision"])
def test_a_base_with_the_same_tag_is_taken_without_a_word(way: str, released: Released) -> None:
    loaded = WAYS[way][0](released)
    model = loaded if isinstance(loaded, torch.nn.Module) else loaded.model
    difference = (logits_of(model) - released.logits).abs().max().item()
    assert difference > 0.01


@pytest.mark.usefixtures("base_with_that_tag")
@pytest.mark.parametrize("way", ["hubdpo.load_adapter", "AutoPeft, revision"])
def test_a_base_with_the_same_tag_does_no_harm_where_the_commit_is_read(way: str, released: Released) -> None:
    assert torch.equal(logits_of(WAYS[way][0](released)), released.logits)


@pytest.mark.parametrize("load", [AUTO, AUTO_PEFT], ids=["Auto", "AutoPeft"])
def test_a_path_in_place_of_the_base_loads_nowhere_else(load: Any, released: Released, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(released.run, tmp_path / "run"))
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "/home/someone/models/base"
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises((OSError, ValueError), match="someone"):
        load(folder)
