"""hubdpo's command line in processes that shard over gloo, on a CPU: what `accelerate launch` starts in the tests.

accelerate shards on accelerators alone: on a CPU it starts plain data parallel and says nothing. So it is told here
that gloo serves a device like any other, and hubdpo that a CPU shards. All the rest is what runs on GPUs: accelerate's
plugins, Trainer's preparation, DeepSpeed's engine, checkpoints. DeepSpeed would compile an operator for sums over
processes on one CPU; without it, it calls gloo.

`on_gloo.py FOLDER RUN [RUN ...]`: each RUN is the options of one `hubdpo train`, as JSON, and all runs share the
processes, which take seconds to start. `FOLDER/RANK.json` gets what the trainer of the last run held on a rank.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

SHARDS = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}") == "true"]
KILL_AT = int(os.environ.get("KILL_AT", "0"))
"""Step at whose end rank 0 is killed, as by the kernel; torchrun ends the other ranks then."""
if SHARDS and "AS_ACCELERATE_DOES" not in os.environ:
    os.environ.update({"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu", "ACCELERATE_USE_CPU": "false"})

import torch  # noqa: E402
from accelerate import PartialState  # noqa: E402
from accelerate.utils import DistributedType  # noqa: E402
from transformers import TrainerState, TrainingArguments  # noqa: E402

from hubdpo.cli.app import app  # noqa: E402
from hubdpo.training import sharding  # noqa: E402
from hubdpo.training.run.record import CheckpointMarker  # noqa: E402
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer  # noqa: E402


def shard_over_gloo() -> None:
    init: Any = PartialState.__init__

    def with_gloo(state: PartialState, cpu: bool = False, **options: Any) -> None:
        init(state, cpu=False, **{name: value for name, value in options.items() if name != "backend"})

    PartialState.__init__ = with_gloo
    PartialState._prepare_backend = lambda *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)
    if "DEEPSPEED" in SHARDS:
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def numel_here(weight: torch.Tensor) -> int:
    """The numbers of a weight that this rank holds while no module that has it runs."""
    return int(getattr(weight, "_local_tensor", weight).numel())


def what_is_held(trainer: SharedPrefixDPOTrainer) -> dict[str, int]:
    weights = list(trainer.model.parameters())
    optimizer = trainer.optimizer
    while hasattr(optimizer, "optimizer"):  # accelerate's and DeepSpeed's wrappers
        optimizer = optimizer.optimizer
    return {
        "weights": sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights),
        "weights here": sum(map(numel_here, weights)),
        "adapter": sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights if weight.requires_grad),
        "moments here": sum(numel_here(state["exp_avg"]) for state in optimizer.state.values() if "exp_avg" in state),
    }


def watch(folder: Path) -> None:
    """Write what a trainer holds when it has trained, and kill rank 0 at the end of step KILL_AT."""
    train = SharedPrefixDPOTrainer.train

    def trained(trainer: SharedPrefixDPOTrainer, *args: Any, **kwargs: Any) -> object:
        output = train(trainer, *args, **kwargs)
        (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(what_is_held(trainer)))
        return output

    def killed(
        marker: CheckpointMarker, args: TrainingArguments, state: TrainerState, control: object, **kwargs: object
    ) -> None:
        if state.global_step == KILL_AT and state.is_world_process_zero:
            os.kill(os.getpid(), signal.SIGKILL)

    SharedPrefixDPOTrainer.train = trained
    CheckpointMarker.on_step_end = killed


if __name__ == "__main__":
    torch.set_num_threads(1)
    if SHARDS:
        sharding.DEVICES = ("cpu",)
        if "AS_ACCELERATE_DOES" not in os.environ:
            shard_over_gloo()
    watch(Path(sys.argv[1]))
    for run in sys.argv[2:]:
        if code := app(args=["train", *json.loads(run)], standalone_mode=False):
            sys.exit(code)
