"""Which adapters a run can start from, found out from their files alone, and on which base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from hubdpo import train
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError, ConfigError, HubdpoError
from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.model.adapters.start import find_start
from hubdpo.model.adapters.start_base import check_fit, with_start
from tests.local_base import copy_on_folder
from tests.training.sft import ADAPTER, change, sft_adapter

LAYER = "base_model.model.model.layers.0"


@pytest.fixture(scope="module")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_adapter(tiny_base, tmp_path_factory.mktemp("made") / "sft")


@pytest.fixture
def sft(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "sft"))


def config(**options: Any) -> TrainConfig:
    return TrainConfig.build({"dataset": "x", "output_dir": "run", **options})


def add(folder: Path, **tensors: torch.Tensor) -> None:
    save_file(load_file(folder / ADAPTER) | tensors, folder / ADAPTER, {"format": "pt"})


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "biases": (lambda folder: change(folder, bias="lora_only"), "it trained biases of the base"),
    "whole layers": (
        lambda folder: change(folder, modules_to_save=["embed_tokens"]), "it trained whole layers of the base",
    ),
    "PiSSA": (lambda folder: change(folder, init_lora_weights="pissa_niter_4"), "which changed the base as well"),
    "a reward model": (lambda folder: change(folder, task_type="SEQ_CLS"), "another task than text generation"),
    "a resized vocabulary": (
        lambda folder: add(folder, **{"base_model.model.model.embed_tokens.weight": torch.zeros(520, 64)}),
        "its vocabulary was resized, or its embeddings were trained: it holds .*520 rows",
    ),
    "a whole layer": (
        lambda folder: add(folder, **{f"{LAYER}.mlp.down_proj.weight": torch.zeros(2, 2)}), "more than LoRA weights",
    ),
    "the output head": (
        lambda folder: add(folder, **{"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 2)}), "`lm_head`",
    ),
    "a pickle": (lambda folder: (folder / ADAPTER).rename(folder / "adapter_model.bin"), "any other form"),
    "IA3": (lambda folder: change(folder, peft_type="IA3"), "hubdpo loads LoRA alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_is_more_than_lora_is_refused_with_the_reason(sft: Path, kind: str) -> None:
    spoil, reason = REFUSED[kind]
    spoil(sft)
    with pytest.raises(ArtefactError, match=reason) as caught:
        find_start(str(sft))
    assert caught.value.hint


def test_keys_of_other_versions_of_peft_are_known_or_named(sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = {"megatron_core": "megatron.core", "layer_replication": None, "loftq_config": {}, "qalora_group_size": 16}
    assert find_start(str(change(sft, **quiet, peft_version="9.0", corda_config=None, new=None))).lora["r"] == 4
    assert capsys.readouterr().err == ""
    find_start(str(change(sft, use_something=True)))
    assert "has keys that hubdpo does not know and leaves out: `use_something`" in capsys.readouterr().err


def test_the_adapter_settles_what_it_computes_and_an_option_may_not_contradict(sft: Path) -> None:
    start = find_start(str(change(sft, lora_alpha=16.0)))
    settled = start.settle(config(adapter=str(sft)))
    assert (settled.lora_r, settled.lora_alpha, settled.lora_dropout) == (4, 16, 0.0)
    assert settled.lora_target_modules == ["down_proj", "q_proj", "v_proj"]
    assert start.settle(config(adapter=str(sft), lora_r=4, lora_target_modules=["v_proj", "q_proj", "down_proj"]))
    with pytest.raises(ConfigError, match="`--lora-r` contradicts the adapter `sft`, which has 4") as caught:
        start.settle(config(adapter=str(sft), lora_r=16))
    assert caught.value.hint == "leave `--lora-r` out: the adapter settles it"


def test_the_base_is_the_one_that_the_adapter_names(
    sft: Path, tiny_base: Path, tiny_base_repo: str, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = with_start(config(adapter=str(sft)))
    assert found.model_name_or_path == str(tiny_base)  # as `save_pretrained` wrote it here
    assert "the one that the adapter names" in capsys.readouterr().err
    change(sft, base_model_name_or_path=tiny_base_repo, revision=None)
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=str(sft))
    found, start = with_start(config(adapter=repo_id))
    assert start is not None and start.ref.repo_id == repo_id
    assert (found.model_name_or_path, found.adapter) == (tiny_base_repo, f"{repo_id}@{start.ref.revision}")
    assert not (start.folder / "training_args.bin").exists()
    with pytest.raises(ConfigError, match=f"was trained on `{tiny_base_repo}`, and .* is `who/what`") as caught:
        with_start(config(adapter=repo_id, model_name_or_path="who/what"))
    assert "leave `--model-name-or-path` out" in (caught.value.hint or "")
    assert with_start(config(adapter=repo_id, model_name_or_path=str(tiny_base)))[0].model_name_or_path == str(
        tiny_base
    )
    change(sft, base_model_name_or_path="/gone/base")
    with pytest.raises(ConfigError, match="neither a repo on the Hub nor a folder here") as caught:
        with_start(config(adapter=str(sft)))
    assert (caught.value.hint or "").startswith("add `--model-name-or-path`")


def test_an_adapter_of_the_hub_names_no_folder_of_this_machine(sft: Path, tiny_base: Path, repo_id: str) -> None:
    change(sft, base_model_name_or_path=str(tiny_base))
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=str(sft))
    with pytest.raises(ConfigError, match="neither a repo on the Hub nor a folder here"):
        with_start(config(adapter=repo_id))


def test_weights_of_another_size_or_for_other_layers_do_not_fit(sft: Path, tiny_base: Path) -> None:
    base = FolderSnapshot(tiny_base)
    given = config(adapter=str(sft))
    check_fit(find_start(str(sft)), given, base)
    name = f"{LAYER}.self_attn.q_proj.lora_A.weight"
    before = load_file(sft / ADAPTER)
    add(sft, **{name: torch.zeros(4, before[name].shape[1] + 8)})
    with pytest.raises(ConfigError, match=r"does not fit .*`model.layers.0.self_attn.q_proj` has .* inputs"):
        check_fit(find_start(str(sft)), given, base)
    add(sft, **{name: before[name], f"{LAYER.replace('0', '99')}.mlp.down_proj.lora_A.weight": torch.zeros(4, 8)})
    with pytest.raises(ConfigError, match="which has no `model.layers.99.mlp.down_proj`"):
        check_fit(find_start(str(sft)), given, base)


def test_another_template_and_added_tokens_are_named(
    sft: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config(adapter=str(sft))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny_base / name, sft / name)
    check_fit(find_start(str(sft)), given, FolderSnapshot(tiny_base))
    assert capsys.readouterr().err == ""
    (sft / "chat_template.jinja").write_text("{{ messages }}")
    tokenizer = json.loads((sft / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({"id": 9999, "content": "<pad>"})
    (sft / "tokenizer.json").write_text(json.dumps(tokenizer))
    check_fit(find_start(str(sft)), given, FolderSnapshot(tiny_base))
    said = capsys.readouterr().err
    assert "has another chat template than" in said
    assert f"hint: --chat-template {sft}/chat_template.jinja" in said
    assert "has 1 token that" in said and "`<pad>`" in said
    check_fit(find_start(str(sft)), config(adapter=str(sft), chat_template="chatml"), FolderSnapshot(tiny_base))
    assert "chat template" not in capsys.readouterr().err


def test_a_template_that_a_run_was_given_is_asked_for_again(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(run_dir, tmp_path / "one"))
    run = RunManifest.read(mine / "run.json")
    run.model_copy(update={"config": {**run.config, "chat_template": "chatml"}}).write(mine / "run.json")
    with_start(config(adapter=str(mine)))
    said = capsys.readouterr().err
    assert "the adapter was trained with `--chat-template` chatml, and this run has none" in said
    assert "hint: --chat-template chatml" in said


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({}, "`model_name_or_path` is needed", "hubdpo.train(model_name_or_path, dataset, output_dir, ...)"),
        ({"model_name_or_path": "a/b", "reference_adapter": "none"}, "none needs --adapter", "leave"),
        ({"adapter": "BASE"}, "is a whole model, no adapter", "--model-name-or-path BASE, without `--adapter`"),
    ],
)
def test_a_mistake_is_one_line(
    options: dict[str, str], message: str, hint: str, tiny_base: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    given = {name: value.replace("BASE", str(tiny_base)) for name, value in options.items()}
    with pytest.raises(HubdpoError, match=message) as caught:
        train(dataset=str(dataset_dir), output_dir=tmp_path / "run", **given)
    assert hint.replace("BASE", str(tiny_base)) in (caught.value.hint or "")
    assert not (tmp_path / "run").exists()


def test_the_base_of_an_adapter_is_taken_as_it_was_in_training(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    start = copy_on_folder(run_dir, tmp_path / "run", base)
    assert with_start(config(adapter=str(start)))[0].model_name_or_path == str(base)
    change(base, file="config.json", rms_norm_eps=1e-2)
    with pytest.raises(ConfigError, match="holds another base than the run was trained on") as caught:
        with_start(config(adapter=str(start)))
    assert "--model-name-or-path" in (caught.value.hint or "")
