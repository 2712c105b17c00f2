"""What people who use torch write for a device or a data type."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import hubdpo
from hubdpo.config import Config, EvaluateConfig, MergeConfig, TrainConfig
from hubdpo.errors import ConfigError

NEEDED = {
    MergeConfig: {"adapter": "run", "output_dir": "merged"},
    EvaluateConfig: {"model": "run"},
    TrainConfig: {"model_name_or_path": "me/base", "dataset": "data", "output_dir": "run"},
}


@pytest.mark.parametrize("config", NEEDED)
@pytest.mark.parametrize(
    ("given", "device"),
    [
        (torch.device("cpu"), "cpu"),
        (torch.device("cuda"), "cuda"),
        (torch.device("cuda", 0), "cuda"),
        ("cuda:0", "cuda"),
    ],
)
def test_a_device_of_torch_is_its_name(config: type[Config], given: object, device: str) -> None:
    assert config.build(NEEDED[config] | {"device": given}).model_dump()["device"] == device


@pytest.mark.parametrize("given", ["cuda:1", torch.device("cuda:1")])
def test_another_gpu_is_chosen_for_the_process(given: object) -> None:
    with pytest.raises(ConfigError, match="the first GPU that it sees") as caught:
        EvaluateConfig.build({"model": "run", "device": given})
    assert caught.value.hint == "--device cuda, with CUDA_VISIBLE_DEVICES=1 in the environment from the start"


@pytest.mark.parametrize("given", ["mps", "cpu:0", "cuda:x", 0, torch.device("meta")])
def test_what_is_no_device_of_hubdpo_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="is not one of auto, cuda, cpu"):
        EvaluateConfig.build({"model": "run", "device": given})


@pytest.mark.parametrize("given", [torch.float32, "torch.float32", "float32"])
def test_a_dtype_of_torch_is_its_name(given: object) -> None:
    assert MergeConfig.build(NEEDED[MergeConfig] | {"dtype": given}).dtype == "float32"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.float16, "is not one of bfloat16, float32"), ("fp16", "is not one of bfloat16, float32"),
        (torch.int8, "so few bits"), ("int-4", "so few bits"), ("bnb_4bit", "so few bits"),
    ],
)  # fmt: skip
def test_a_merge_in_another_type_is_refused(given: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        hubdpo.merge("run", tmp_path, dtype=given)  # type: ignore[arg-type]
