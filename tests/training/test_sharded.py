"""The shipped accelerate configuration shards the NF4 base, and the numbers stay the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from hubdpo.model.bases.load import load_base
from hubdpo.training.sharding import Sharding
from tests.near import assert_near

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
CONFIG = str(Sharding.FSDP_2.launch_config)
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIG, "--num_processes", "2"]


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAUNCH, *words], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def found(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes found, with accelerate's plugin as the shipped file makes it, in float32."""
    out = tmp_path_factory.mktemp("sharded")
    done = launch("--mixed_precision", "no", str(HERE / "sharded_step.py"), str(tiny_base), str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads((out / "found.json").read_text())
    return result


def test_all_weights_are_sharded_including_quantised_ones(found: dict[str, Any]) -> None:
    assert (found["saved"]["version"], found["saved"]["sharded"]) == (2, 1.0)


def test_losses_gradients_reference_and_scores_are_those_of_one_process(found: dict[str, Any]) -> None:
    alone, sharded = found["alone"], found["sharded"]
    assert_near(sharded["loss"], alone["loss"], share=1e-5, scale=1)  # a function of order one of the rewards
    for name in ("gradients", "reference", "probes", "scores"):  # sums over tokens
        assert_near(sharded[name], alone[name], share=1e-5, name=name)


def test_the_adapter_is_saved_whole(found: dict[str, Any]) -> None:
    assert (found["saved"]["weights"], found["saved"]["the same"]) == (28, True)


def test_the_configuration_says_what_the_training_code_expects() -> None:
    config = load_config_from_file(CONFIG)
    assert (config.distributed_type.value, config.mixed_precision, config.use_cpu) == ("FSDP", "bf16", False)
    assert config.fsdp_config["fsdp_cpu_ram_efficient_loading"] is False  # accelerate skips it for 4-bit weights
    assert config.fsdp_config["fsdp_activation_checkpointing"] is False  # transformers refuses both kinds at once


def test_quantised_weights_are_stored_in_the_type_that_is_computed_in(tiny_base: Path) -> None:
    model = load_base(tiny_base, device="cpu", load_in_4bit=True)
    settings = model.config.quantization_config
    assert settings.bnb_4bit_quant_storage == settings.bnb_4bit_compute_dtype == model.dtype
    assert {weight.dtype for weight in model.parameters()} == {model.dtype}
