"""Train in several processes: data parallel (DDP), started by `--num-processes`, torchrun or `accelerate launch`.

`accelerate launch` can also shard the run over the GPUs: see training/sharding.py.
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
from hubdpo.artefacts.manifests.run import FROM_ADAPTER
from hubdpo.config import TrainConfig
from hubdpo.machine.endings import LAUNCHED, ask_to_stop, first_failure, make_room
from hubdpo.machine.signals import STOPPING, first_signal_asks
from hubdpo.training.run.output_folder import saved_state

TORCHRUN_ENDS_IN_S = 40.0
"""Time for torchrun to end its processes; after 30 s it kills those that are left."""
ORPHANS_END_IN_S = 5.0
"""Time for processes whose torchrun was killed to notice it; a stray child of theirs may keep the pipe open longer."""


def rank() -> int:
    """Return the rank of this process; rank 0 writes the files and the messages."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave_at_exit() -> None:
    """Destroy this process's process group before the interpreter exits.

    Threads of a group that still exists can abort a process whose work is done ("terminate called without an active
    exception"), and torchrun then kills the process that still writes the run folder.
    """
    from torch import distributed

    if world_size() > 1:
        atexit.register(lambda: distributed.destroy_process_group() if distributed.is_initialized() else None)


def launch(config: TrainConfig) -> None:
    """Run the same command in `config.num_processes` processes; raise the error of the first process that fails.

    They are started by torchrun, as `accelerate launch --cpu --num_processes 2` runs one process (accelerate 1.15.0).
    """
    settled = FROM_ADAPTER if config.adapter is not None else ()  # each process reads them from the adapter
    options = config.model_dump(mode="json", exclude_unset=True, exclude={"num_processes", *settled})
    pairs = console.counted(config.per_device_train_batch_size, "pair")
    console.info(f"processes {config.num_processes}, each with {pairs} a forward pass")
    with tempfile.TemporaryDirectory(prefix="hubdpo-train-") as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(options), encoding="utf-8")
        arguments = ["-m", "hubdpo", "train", "--config", str(file), *(["--quiet"] if console.output.is_quiet else [])]
        run_in_processes(config.num_processes, arguments, Path(folder), functools.partial(saved_state, config))


def run_in_processes(count: int, arguments: list[str], folder: Path, saved: Callable[[], tuple[str, str]]) -> None:
    """Run `python ARGUMENTS` in `count` processes under torchrun, which leave their errors in `folder`.

    Raise the exception of `first_failure` when one fails. At a signal they stop at the end of their step, if
    they are in one, and KeyboardInterrupt is raised; a second one ends them at once.
    """
    make_room(folder, count)
    options = ["--standalone", f"--nproc-per-node={count}", f"--log-dir={folder}"]
    command = [sys.executable, "-m", "hubdpo.training.launch.agent", *options, *arguments]
    environment = {"TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, LAUNCHED: str(folder)}

    def ask() -> bool:
        if can_stop := ask_to_stop(folder):
            console.info(STOPPING)
        return can_stop

    with first_signal_asks(ask):
        # a session of its own, so that Ctrl-C reaches torchrun once, from here; stdout tells when all have ended
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=environment) as agent:
            try:
                _wait_for_all(agent)
            except BaseException:
                agent.terminate()
                try:
                    agent.wait(TORCHRUN_ENDS_IN_S)
                except subprocess.TimeoutExpired:
                    agent.kill()
                raise
        if agent.returncode:
            raise first_failure(folder, count, agent.returncode, saved)


def _wait_for_all(agent: subprocess.Popen[bytes]) -> None:
    """Wait until torchrun and all its processes have closed their stdout, so that none of them writes any more.

    Processes whose torchrun was killed end a little later than it.
    """
    assert agent.stdout is not None
    ended: float | None = None
    while ended is None or time.monotonic() < ended + ORPHANS_END_IN_S:
        readable, _, _ = select.select([agent.stdout], [], [], 0.5)
        if readable and not os.read(agent.stdout.fileno(), 1 << 16):
            return
        if ended is None and agent.poll() is not None:
            ended = time.monotonic()
