"""Several processes for one run: data parallel (DDP), started by `--num-processes`, torchrun or accelerate launch.

Under `accelerate launch` the base may be spread over the GPUs as well (FSDP 2, launch/fsdp_qlora.yaml).
"""

from __future__ import annotations

import atexit
import functools
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.errors import ConfigError
from hubdpo.machine.endings import LAUNCHED, first_failure, make_room
from hubdpo.training.run.output_folder import saved_state

ENDS_IN = 40.0
"""Seconds that torchrun has to end its processes, of which it kills after 30 those that do not."""
LAST_WORDS = 5.0
"""Seconds for processes whose torchrun was killed, to notice it; a stray child may hold on for longer."""
FSDP_CONFIG = Path(__file__).with_name("fsdp_qlora.yaml")


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
    """Run the same command in `config.num_processes` processes. Raise what the first one that fails raised.

    torchrun, because `accelerate launch --cpu --num_processes 2` runs a single process (accelerate 1.15.0).
    """
    options = config.model_dump(mode="json", exclude_defaults=True, exclude={"num_processes"})
    console.info(
        f"processes {config.num_processes}, each with {config.per_device_train_batch_size} pairs a forward pass"
    )
    with tempfile.TemporaryDirectory(prefix="hubdpo-train-") as place:
        file = Path(place) / "config.yaml"
        file.write_text(yaml.safe_dump(options), encoding="utf-8")
        words = ["-m", "hubdpo", "train", "--config", str(file), *(["--quiet"] if console.output.is_quiet else [])]
        run_in_processes(config.num_processes, words, Path(place), functools.partial(saved_state, config))


def run_in_processes(count: int, words: list[str], place: Path, kept: Callable[[], tuple[str, str]]) -> None:
    """Run `python WORDS` under torchrun; raise what `first_failure` returns of it. Notes are kept in `place`.

    A signal that stops this process stops those first.
    """
    make_room(place, count)
    options = ["--standalone", f"--nproc-per-node={count}", f"--log-dir={place}"]
    # a session of its own: Ctrl-C comes from here alone, and once. The result is told by who was asked for it
    agent = subprocess.Popen(
        [sys.executable, "-m", "hubdpo.training.launch.agent", *options, *words],
        stdout=subprocess.PIPE, start_new_session=True,
        env={"TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, LAUNCHED: str(place)},
    )  # fmt: skip
    try:
        _wait_for_all(agent)
    except BaseException:
        agent.terminate()
        try:
            agent.wait(ENDS_IN)
        except subprocess.TimeoutExpired:
            agent.kill()
        raise
    finally:
        if agent.stdout is not None:
            agent.stdout.close()
    if code := agent.wait():
        raise first_failure(place, count, code, kept)


def _wait_for_all(agent: subprocess.Popen[bytes]) -> None:
    """Wait until torchrun and all of its processes have closed their stdout, and so have said their last.

    Processes whose torchrun was killed end a little later than it.
    """
    assert agent.stdout is not None
    ended: float | None = None
    while ended is None or time.monotonic() < ended + LAST_WORDS:
        readable, _, _ = select.select([agent.stdout], [], [], 0.5)
        if readable and not os.read(agent.stdout.fileno(), 1 << 16):
            return
        if ended is None and agent.poll() is not None:
            ended = time.monotonic()
