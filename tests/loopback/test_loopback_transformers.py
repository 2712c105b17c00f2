"""transformers pushes and loads what it calls a checkpoint: configuration, weights in shards, tokenizer, processors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi

from hubdpo.loopback.storage.tokens import parse_org

if TYPE_CHECKING:
    from tests.conftest import Hub

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Cannot enable progress bars")]


@pytest.fixture(params=["user", "organisation"])
def name(request: pytest.FixtureRequest, hub: Hub, repo_id: str) -> str:
    """A free name under the user, or under an organisation of the user."""
    if request.param == "user":
        return repo_id
    hub.server._store.accounts.add([], [parse_org("guild:alice")])
    return f"guild/{repo_id.partition('/')[2]}"


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base)


def test_a_configuration(tiny_base: Path, name: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny_base)
    config.push_to_hub(name, commit_message="Add it")
    loaded = AutoConfig.from_pretrained(name)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert HfApi().list_repo_commits(name)[0].title == "Add it"


def test_a_configuration_with_code(name: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, PretrainedConfig

    source = (
        "from transformers import PretrainedConfig\n\n\nclass OwnConfig(PretrainedConfig):\n    model_type = 'own'\n"
    )
    (tmp_path / "own.py").write_text(source)
    config = PretrainedConfig(auto_map={"AutoConfig": "own.OwnConfig"}, model_type="own", width=3)
    config.save_pretrained(tmp_path)
    HfApi().create_repo(name)
    HfApi().upload_folder(repo_id=name, folder_path=tmp_path)
    loaded = AutoConfig.from_pretrained(name, trust_remote_code=True)
    assert (type(loaded).__name__, loaded.width) == ("OwnConfig", 3)


def test_a_model_in_shards_and_at_a_revision(model: Any, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model.push_to_hub(name, max_shard_size="100kB", private=True)
    files = HfApi().list_repo_files(name)
    assert "model.safetensors.index.json" in files and len([f for f in files if f.endswith(".safetensors")]) > 1
    HfApi().create_branch(name, branch="other")
    model.push_to_hub(name, revision="other")
    for revision in ("main", "other"):
        loaded = AutoModelForCausalLM.from_pretrained(name, revision=revision)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


def test_a_model_as_a_pull_request(model: Any, name: str) -> None:
    HfApi().create_repo(name)
    model.push_to_hub(name, create_pr=True)
    assert "model.safetensors" not in HfApi().list_repo_files(name)
    assert "model.safetensors" in HfApi().list_repo_files(name, revision="refs/pr/1")


def test_a_tokenizer(tiny_base: Path, name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.push_to_hub(name)
    loaded = AutoTokenizer.from_pretrained(name)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.chat_template == tokenizer.chat_template


def test_feature_extractors_and_image_processors(name: str) -> None:
    from transformers import AutoFeatureExtractor, CLIPImageProcessor, Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(sampling_rate=8000).push_to_hub(name)
    assert AutoFeatureExtractor.from_pretrained(name).sampling_rate == 8000
    CLIPImageProcessor(do_convert_rgb=False).push_to_hub(f"{name}-images")
    assert CLIPImageProcessor.from_pretrained(f"{name}-images").do_convert_rgb is False


def test_a_generation_configuration(name: str) -> None:
    from transformers import GenerationConfig

    GenerationConfig(do_sample=True, temperature=0.7).push_to_hub(name)
    assert GenerationConfig.from_pretrained(name).temperature == 0.7


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint"])
def test_a_trainer_pushes_as_it_was_told(model: Any, name: str, tmp_path: Path, strategy: str) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor([1, 2, 3])}] * 4
    arguments = TrainingArguments(
        str(tmp_path / "run"), push_to_hub=True, hub_model_id=name, hub_strategy=strategy, max_steps=2, save_steps=1,
        per_device_train_batch_size=1, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    trainer.push_to_hub(commit_message="The end")
    files = HfApi().list_repo_files(name)
    assert {"README.md", "model.safetensors", "training_args.bin"} <= set(files)
    assert any(file.startswith("last-checkpoint/") for file in files) == (strategy == "checkpoint")
    assert HfApi().list_repo_commits(name)[0].title == "The end"
