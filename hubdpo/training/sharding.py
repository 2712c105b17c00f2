"""What accelerate shards over the processes of a run, and DeepSpeed's configuration as hubdpo trains with it.

FSDP 2 and ZeRO-3 spread all weights over the GPUs; ZeRO-2 spreads the gradients and AdamW's moments, those of the
adapter alone. Imports no torch.
"""

from __future__ import annotations

import os
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hubdpo.artefacts.formats.bounded import read_object
from hubdpo.config import TrainConfig
from hubdpo.errors import ArtefactError, ConfigError

Section = dict[str, Any]
"""A part of DeepSpeed's configuration: https://www.deepspeed.ai/docs/config-json/."""
AUTO = "auto"
DEVICES = ("cuda",)
"""Devices for which accelerate shards; on a CPU it starts plain data parallel and says nothing."""
BY_ELEMENT = ("adamw_torch_fused", "adamw_torch", "sgd", "adagrad", "rmsprop")
"""Optimisers of torch that treat each number alone, so that a part of a weight is trained as in the whole."""
DATA_PARALLEL = "hubdpo train --num-processes N"


class Sharding(StrEnum):
    FSDP_2 = "FSDP 2"
    ZERO_2 = "ZeRO-2"
    ZERO_3 = "ZeRO-3"

    @property
    def shards_weights(self) -> bool:
        return self is not Sharding.ZERO_2

    @property
    def launch_config(self) -> Path:
        """The configuration of `accelerate launch` that asks for it."""
        names = {"FSDP 2": "fsdp_qlora.yaml", "ZeRO-2": "deepspeed_zero2.yaml", "ZeRO-3": "deepspeed_zero3.yaml"}
        return Path(__file__).parent / "launch" / names[self.value]


def _asks_for(backend: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{backend}", "").lower() == "true"


def check_sharding(device: str, config: TrainConfig) -> Sharding | None:
    """Return what accelerate was asked to shard, None in data parallel and in one process.

    Raise ConfigError for what hubdpo does not train with: a kind, a device, options of the run, or of DeepSpeed.
    """
    if not (_asks_for("FSDP") or _asks_for("DEEPSPEED")):
        return None
    kind = Sharding.FSDP_2 if _asks_for("FSDP") else _deepspeed_stage(_given())
    if kind is Sharding.FSDP_2 and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "FSDP 1 cannot shard a float32 adapter together with a bfloat16 base; hubdpo needs FSDP 2",
            hint=f"accelerate launch --config_file {kind.launch_config}",
        )
    if device not in DEVICES:
        raise ConfigError(
            f"{kind} shards over GPUs, and no CUDA device was chosen or found; accelerate would train without it",
            hint=DATA_PARALLEL,
        )
    if kind is not Sharding.FSDP_2 and find_spec("deepspeed") is None:
        raise ConfigError(f"{kind} needs DeepSpeed", hint="pip install 'hubdpo[deepspeed]'")
    _check_run(kind, config)
    return kind


def _check_run(kind: Sharding, config: TrainConfig) -> None:
    """Raise ConfigError for options of the run that need what the processes have in parts."""
    if config.optim not in BY_ELEMENT:
        raise ConfigError(
            f"`--optim {config.optim}` looks at more of a weight than one number, and {kind} gives each process a part",
            hint="--optim adamw_torch_fused",
        )
    if config.load_best_model_at_end and kind.shards_weights:
        raise ConfigError(
            f"`--load-best-model-at-end` gives a process the whole adapter, and under {kind} it holds a part",
            hint=f"leave it out, or {DATA_PARALLEL}",
        )
    if config.use_dora and kind is Sharding.ZERO_3:
        raise ConfigError(
            "`--use-dora` copies each layer while it runs (PEFT), and ZeRO-3 has no parts of a copy",
            hint=f"accelerate launch --config_file {Sharding.FSDP_2.launch_config}",
        )


def _deepspeed_stage(given: Section) -> Sharding:
    stage = given.get("zero_optimization", {}).get("stage", 0)
    kind = {2: Sharding.ZERO_2, 3: Sharding.ZERO_3}.get(stage)
    if kind is None:
        raise ConfigError(
            f"DeepSpeed's configuration has ZeRO stage {stage}, and hubdpo trains with 2 and 3; for an adapter, the "
            f"others save next to nothing",
            hint=f"{DATA_PARALLEL}, or accelerate launch --config_file {Sharding.ZERO_2.launch_config}",
        )
    _check_options(given)
    return kind


def _given() -> Section:
    """Return DeepSpeed's configuration as `accelerate launch` hands it on: a file, or its own few fields."""
    if (file := os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")) != "none":
        try:
            return dict(read_object(Path(file)))
        except (ArtefactError, OSError) as problem:
            raise ConfigError(f"DeepSpeed's configuration `{file}` cannot be read: {problem}") from None
    zero: Section = {"stage": int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))}
    for part in ("optimizer", "param"):
        device = os.environ.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part.upper()}_DEVICE", "none")
        zero[f"offload_{part}"] = {"device": device}
    given: Section = {"zero_optimization": zero}
    for name in ("gradient_accumulation_steps", "gradient_clipping"):
        value = os.environ.get(f"ACCELERATE_{name.upper()}", "none")
        # accelerate's default, 1, is what a configuration that does not speak of accumulation has
        given[name] = AUTO if value in ("none", "auto", "1") else float(value)
    return given


def _check_options(given: Section) -> None:
    """Raise ConfigError for options with which another adapter would be trained, or that were never tried."""
    zero, half = given["zero_optimization"], os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16"
    refusals = {
        "fp16": (
            half or (given.get("fp16") or {}).get("enabled") is True,
            "in float16, losses of DPO became NaN; hubdpo computes in bfloat16",
        ),
        "optimizer": (_is_set(given.get("optimizer")), "the optimiser is that of every other run"),
        "scheduler": (_is_set(given.get("scheduler")), "the schedule is `--lr-scheduler-type`"),
        "offload_optimizer": (_offloads(zero, "optimizer"), "an adapter's moments are small: they stay on the GPU"),
        "offload_param": (_offloads(zero, "param"), "weights have not been trained with from the CPU"),
        "zero_quantized_weights": (bool(zero.get("zero_quantized_weights")), "the base would be rounded again"),
    }
    for name, (is_refused, why) in refusals.items():
        if is_refused:
            raise ConfigError(
                f"DeepSpeed's configuration has `{name}`, which hubdpo does not train with: {why}",
                hint=f"remove `{name}` from the configuration, or use {Sharding.ZERO_2.launch_config}",
            )


def _is_set(section: Section | None) -> bool:
    """Tell whether a section has a parameter of its own; those that are `auto` follow the options of the run."""
    return section is not None and any(value != AUTO for value in section.get("params", {"": None}).values())


def _offloads(zero: Section, part: str) -> bool:
    return (zero.get(f"offload_{part}") or {}).get("device") not in (None, "none")


def deepspeed_config(config: TrainConfig, batch: int, accumulated: int, *, bfloat16: bool) -> Section | None:
    """Return DeepSpeed's configuration for a run with batches of so many pairs and so many of them in a step.

    None without DeepSpeed. Raise ConfigError when the given configuration has other numbers than the run.
    """
    if not _asks_for("DEEPSPEED"):
        return None
    # accelerate refuses a whole configuration beside fields of its own, which `_given` has read
    os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)
    given = _given()
    numbers = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": accumulated,
        "train_batch_size": batch * accumulated * config.num_processes,
        "gradient_clipping": config.max_grad_norm,
    }
    for name, value in numbers.items():
        if given.get(name, AUTO) not in (AUTO, value):
            raise ConfigError(
                f"DeepSpeed's configuration has `{name}` {given[name]}, and the options of the run make it {value}",
                hint=f'set `{name}` to "auto" in the configuration, or change the options of the run',
            )
    zero = dict(given["zero_optimization"])
    if zero["stage"] == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True  # so that a checkpoint holds the adapter
        # DeepSpeed's own default, 100,000 numbers, leaves most adapters whole on every GPU
        zero.setdefault("stage3_param_persistence_threshold", AUTO)
    return {
        **{name: value for name, value in given.items() if name not in ("optimizer", "scheduler")},
        **dict.fromkeys(numbers, AUTO),
        "zero_optimization": zero,
        # DeepSpeed's own bfloat16 would round the adapter; autocast leaves it, and with no module named "safe" for
        # lower precision its gradients are added up in float32, as in data parallel
        "fp16": {"enabled": False},
        "bf16": {"enabled": False},
        "torch_autocast": {"enabled": bfloat16, "dtype": "bfloat16", "lower_precision_safe_modules": []},
    }
