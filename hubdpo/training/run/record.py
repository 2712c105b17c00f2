"""What a run records: its options, the metrics and checkpoints that the trainer calls back for, and its adapter."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import PeftModel
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerState, TrainingArguments

from hubdpo.artefacts.manifests.manifest import METRICS_FILE, canonical_json, write_atomic
from hubdpo.config import TrainConfig
from hubdpo.config.chat_template import recorded
from hubdpo.config.roles import Role
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.model.bases.find import Base, copy_base_files
from hubdpo.training.run.output_folder import SCRATCH, mark_complete
from hubdpo.training.step.sharded import gathered
from hubdpo.training.step.spent import SUMMARY, Spent

Options = dict[str, Any]
"""Options by name, as run.json holds them."""
Metrics = dict[str, float]
"""One line of metrics.jsonl: `step`, `seconds` since the first step as `Spent` counts them, and TRL's keys."""


def published_config(config: TrainConfig) -> Options:
    """Return the options that make the run what it is; none of them is a path of this machine."""
    options = config.model_dump(mode="json", exclude=set(TrainConfig.names(Role.COMMAND)))
    return {**options, "chat_template": recorded(config.chat_template)}


def gather_adapter(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return the trained weights, whole where FSDP or ZeRO-3 shards them; every process must call it."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    with gathered(trained.values()):
        return {
            name: weight.full_tensor() if isinstance(weight, DTensor) else weight.detach().clone()
            for name, weight in trained.items()
        }


def save_adapter(model: PeftModel, weights: dict[str, torch.Tensor], base: Base, folder: Path,
    template: str | None = None,
) -> None:  # fmt: skip
    """Write the adapter, its canonical config, and the tokenizer and licence files of the base.

    `template` is the source of a chat template in place of the base's own.
    """
    with TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
        # with `save_embedding_layers` left at its default PEFT asks the Hub whether the vocabulary was resized
        model.save_pretrained(scratch, state_dict=weights, safe_serialization=True, save_embedding_layers=False)
        config_file, weights_file = Path(scratch) / "adapter_config.json", Path(scratch) / "adapter_model.safetensors"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        # safetensors writes files that only their owner may read; PEFT's other file follows the umask
        weights_file.chmod(config_file.stat().st_mode)
        weights_file.replace(folder / weights_file.name)
    write_atomic(folder / "adapter_config.json", canonical_json(canonical_adapter_config(config, base.ref)))
    copy_base_files(base.folder, base.ref.license, folder, template)


class MetricsFile(TrainerCallback):
    """Append one JSON object per logged step to metrics.jsonl, with TRL's keys."""

    def __init__(self, folder: Path, spent: Spent) -> None:
        self._path, self._spent = folder / METRICS_FILE, spent

    def forget_after(self, step: int) -> None:
        """Drop the lines that a run resumed at `step` logs again: later steps, the summary, and a line cut short."""
        kept = [line for line in self.lines() if line["step"] <= step and SUMMARY not in line]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def lines(self, *, until: int | None = None) -> list[Metrics]:
        """Return the logged lines, up to a step, without a last line that a kill cut short."""
        lines: list[Metrics] = []
        for text in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return [line for line in lines if until is None or line["step"] <= until]

    def on_log(
        self, args: object, state: TrainerState, control: object, logs: Metrics | None = None, **kwargs: object
    ) -> None:
        if not logs or not state.is_world_process_zero:
            return
        # of a checkpoint that kept no time, only that of this start is known
        seconds = (self._spent.total or self._spent).seconds
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": state.global_step, "seconds": round(seconds, 2), **logs}) + "\n")


class CheckpointMarker(TrainerCallback):
    """Mark each checkpoint as complete; transformers writes checkpoints in place and has no marker."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: object, **kwargs: object) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes a part of it
        if state.is_world_process_zero:
            mark_complete(folder, state.global_step)
