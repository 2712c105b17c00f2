"""Several processes for one run: data parallel (DDP), started by `--num-processes`, torchrun or accelerate launch.

Under `accelerate launch` the base may be spread over the GPUs as well (FSDP 2, launch/fsdp_qlora.yaml).
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError, TrainingError

LAUNCHED = "HUBDPO_LAUNCHED"
ENDS_IN = 40.0
"""Seconds that torchrun has to end its processes, of which it kills after 30 those that do not."""
FSDP_CONFIG = Path(__file__).parent / "launch" / "fsdp_qlora.yaml"


def rank() -> int:
    """Return which of the processes this is; 0 writes the files and talks."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave_at_exit() -> None:
    """Have this process leave its process group before the interpreter ends.

    Threads of a group that is still there can abort the process after its work is done ("terminate called without an
    active exception"), and torchrun then kills the process that still writes the run folder.
    """
    import torch.distributed

    def leave() -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    if world_size() > 1:
        atexit.register(leave)


def check_launch(device: str) -> None:
    """Raise ConfigError when accelerate was told to spread the run in a way that hubdpo does not know."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise ConfigError(
            "hubdpo does not train under DeepSpeed", hint=f"accelerate launch --config_file {FSDP_CONFIG}"
        )
    if os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "FSDP 1 does not take a float32 adapter beside a bfloat16 base; hubdpo shards with FSDP 2",
            hint=f"accelerate launch --config_file {FSDP_CONFIG}",
        )
    if device != "cuda":
        raise ConfigError(
            "FSDP shards over GPUs, and no CUDA device was chosen or found", hint="hubdpo train --num-processes N"
        )


def launch(config: TrainConfig) -> None:
    """Run the same command in `config.num_processes` processes. Raise TrainingError when one of them fails.

    torchrun, because `accelerate launch --cpu --num_processes 2` runs a single process (accelerate 1.15.0).
    """
    options = config.model_dump(mode="json", exclude_defaults=True, exclude={"num_processes"})
    console.info(
        f"processes {config.num_processes}, each with {config.per_device_train_batch_size} pairs a forward pass"
    )
    with tempfile.TemporaryDirectory(prefix="hubdpo-train-") as place:
        file = Path(place) / "config.yaml"
        file.write_text(yaml.safe_dump(options), encoding="utf-8")
        command = [
            sys.executable, "-m", "hubdpo.training.agent", "--standalone", f"--nproc-per-node={config.num_processes}",
            f"--log-dir={place}", "-m", "hubdpo", "train", "--config", str(file),
        ]  # fmt: skip
        code = _run(command)
    if code:
        raise TrainingError(
            f"one of the {config.num_processes} processes ended with {code}; what it said is above",
            hint="run it with `--num-processes 1` to see its error alone",
        )


def _run(command: list[str]) -> int:
    """Run torchrun and return its exit code; a signal that stops this process stops its processes first."""
    # a session of its own: Ctrl-C comes from here alone, and once. The result is told by who was asked for it
    agent = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, LAUNCHED: "1"}, start_new_session=True
    )
    try:
        return agent.wait()
    except BaseException:
        agent.terminate()
        try:
            agent.wait(ENDS_IN)
        except subprocess.TimeoutExpired:
            agent.kill()
        raise
