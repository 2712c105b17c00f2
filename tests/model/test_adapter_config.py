"""adapter_config.json is read by versions of PEFT that are older than the one that trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubdpo.artefacts.manifests.run import BaseRef
from hubdpo.model.adapters.config import canonical_adapter_config

# the keys of LoraConfig in PEFT 0.11.1, which fails at any other
OF_PEFT_0_11 = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_type", "r", "rank_pattern",
    "revision", "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
BASE = BaseRef(name="a/b", repo_id="a/b", revision="0" * 40)


def written(**options: Any) -> dict[str, Any]:
    """A config as PEFT writes it, every key of the installed version."""
    from peft import LoraConfig

    made = LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj", "q_proj"], **options).to_dict()
    return dict(json.loads(json.dumps(made, default=list)))


def test_a_plain_adapter_has_no_key_that_older_peft_does_not_know(run_dir: Path) -> None:
    config = json.loads((run_dir / "adapter_config.json").read_text())
    assert config.keys() <= OF_PEFT_0_11
    assert config == canonical_adapter_config(config, BASE) | {
        name: config[name] for name in ("base_model_name_or_path", "revision")
    }


def test_what_stands_at_the_default_is_left_out_and_read_back_the_same() -> None:
    from peft import LoraConfig

    raw = written()
    config = canonical_adapter_config(raw, BASE)
    assert config.keys() <= OF_PEFT_0_11
    read = json.loads(
        json.dumps(LoraConfig(**{k: v for k, v in config.items() if k != "peft_type"}).to_dict(), default=list)
    )
    told = {"base_model_name_or_path", "revision", "inference_mode"}
    for name in raw.keys() - told - {"target_modules"}:
        assert read[name] == raw[name], name


@pytest.mark.parametrize(
    "option",
    [
        {"use_rslora": True},
        {"init_lora_weights": False},
        {"lora_bias": True, "bias": "none"},
        {"rank_pattern": {"q_proj": 4}},
    ],
)
def test_what_is_not_at_the_default_is_kept(option: dict[str, Any]) -> None:
    config = canonical_adapter_config(written(**option), BASE)
    assert {name: config.get(name) for name in option} == option


def test_the_version_of_another_peft_that_wrote_it_is_left_out() -> None:
    assert "peft_version" not in canonical_adapter_config({**written(), "peft_version": "0.18.0"}, BASE)


def test_a_key_that_the_installed_version_does_not_know_is_kept() -> None:
    assert canonical_adapter_config({**written(), "of_tomorrow": None}, BASE)["of_tomorrow"] is None


def test_the_keys_are_sorted_and_name_the_base_by_commit() -> None:
    config = canonical_adapter_config(written() | {"base_model_name_or_path": "/home/me/base"}, BASE)
    assert list(config) == sorted(config)
    assert (config["base_model_name_or_path"], config["revision"]) == ("a/b", "0" * 40)
    assert config["target_modules"] == ["q_proj", "v_proj"]
