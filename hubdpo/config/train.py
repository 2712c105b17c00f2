"""Options of `hubdpo train`, named as in TRL, PEFT and transformers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hubdpo.config.base import Cli, Config, NumberOrAuto, PathOrName, Unfit, check_choice
from hubdpo.config.schedules import SCHEDULES, ScheduleArguments, check_schedule
from hubdpo.config.template_kwargs import HELP, TemplateKwargs
from hubdpo.config.torch_names import Device
from hubdpo.console import counted

ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer except the output head."""
QWEN2_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# Loss names of trl.trainer.dpo_config (trl 1.16.0), copied because importing trl takes seconds.
LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip

CHOICES: dict[str, Collection[str]] = {
    "loss_type": LOSS_TYPES, "lr_scheduler_type": SCHEDULES, "report_to": ("tensorboard", "trackio", "wandb")
}  # fmt: skip

WHOLE_BATCH_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Losses that sort the scores of all pairs in a batch (trl/trainer/dpo_trainer.py), so the batch cannot be split."""


class Role(Enum):
    """What an option affects, which decides whether a resumed run may change it. Every field has one role."""

    WEIGHTS = "affects the trained weights: a resumed run must keep it"
    MANNER = "affects logging, saving or memory layout: a resumed run may change it, up to rounding"
    COMMAND = "belongs to this command, not to the run, whose base and data are pinned by content"


T = TypeVar("T")
Weights = Annotated[T, Role.WEIGHTS]
Manner = Annotated[T, Role.MANNER]
Command = Annotated[T, Role.COMMAND]


class RunOptions(Config):
    panel = "Run"

    model_name_or_path: Command[PathOrName] = Field(
        description="Base model of the Qwen2 family: a Hub id or a local folder."
    )
    model_revision: Command[str | None] = Field(
        None, description="Branch, tag or commit of the base. The run records the commit."
    )
    dataset: Command[PathOrName] = Field(description="Dataset folder, or USER/NAME[@REVISION] on the Hub.")
    output_dir: Command[Annotated[Path, Cli(short="-o", metavar="DIR")]] = Field(description="Run folder to write.")
    resume: Command[bool] = Field(False, description="Continue from the newest complete checkpoint in the run folder.")
    extend: Command[bool] = Field(
        False,
        description="Train a finished or stopped run further, up to --max-steps or --num-train-epochs; implies "
        "--resume.",
    )
    dry_run: Command[bool] = Field(
        False, description="Check everything and run one step on the longest pairs, without writing anything."
    )

    @property
    def resumes(self) -> bool:
        """Whether to continue the run that is in the folder."""
        return self.resume or self.extend


class LossOptions(Config):
    panel = "Loss"

    loss_type: Weights[list[str]] = Field(
        ["sigmoid"], description="DPO loss of TRL; several losses are summed with --loss-weights."
    )
    loss_weights: Weights[list[float] | None] = Field(None, description="Weight of each --loss-type, in order.")
    beta: Weights[float] = Field(
        0.1, gt=0, description="Strength of the KL penalty that keeps the policy close to the reference model."
    )
    label_smoothing: Weights[float] = Field(
        0.0, ge=0, lt=0.5, description="Assumed share of wrong preferences (robust DPO)."
    )
    reference: Manner[Literal["online", "cached"]] = Field(
        "online",
        description="Compute reference log-probs in every step, or once and cache them on disk for later runs.",
    )


class ScheduleOptions(Config):
    panel = "Optimiser, schedule and batches"

    learning_rate: Weights[float] = Field(5e-6, gt=0, description="Peak learning rate.")
    lr_scheduler_type: Weights[str] = Field("cosine", description="Learning rate schedule of transformers.")
    lr_scheduler_kwargs: Weights[ScheduleArguments] = Field(
        None, description='Arguments of the schedule, such as {"min_lr_rate": 0.1}.'
    )
    warmup_ratio: Weights[float] = Field(0.1, ge=0, lt=1, description="Share of steps for warmup.")
    num_train_epochs: Weights[float] = Field(1.0, gt=0, description="Passes over the train split.")
    max_steps: Weights[int] = Field(-1, ge=-1, description="Number of optimiser steps; -1 uses --num-train-epochs.")
    per_device_train_batch_size: Manner[int] = Field(4, ge=1, description="Pairs per forward pass.")
    per_device_eval_batch_size: Manner[int] = Field(4, ge=1, description="Pairs per forward pass of an evaluation.")
    gradient_accumulation_steps: Manner[int] = Field(4, ge=1, description="Forward passes per optimiser step.")
    tokens_per_batch: Manner[NumberOrAuto] = Field(
        None,
        description="Fill each forward pass with N tokens, or as many as fit in memory, instead of a number of pairs. "
        "A step keeps its --per-device-train-batch-size x --gradient-accumulation-steps pairs. On one GPU `auto`, "
        "unless --per-device-train-batch-size is given.",
    )
    weight_decay: Weights[float] = Field(0.0, ge=0, description="Weight decay of AdamW.")
    max_grad_norm: Weights[float] = Field(1.0, gt=0, description="Gradient norm to clip to.")

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise Unfit("0 steps train nothing", hint="--max-steps 1 or more, or -1 for all of --num-train-epochs")
        return value

    @property
    def pairs_per_process(self) -> int:
        """Pairs that one process contributes to an optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps


class LengthOptions(Config):
    panel = "Length and template"

    max_length: Weights[int] = Field(1024, ge=8, description="Maximum tokens, prompt plus answer.")
    max_prompt_length: Weights[int | None] = Field(
        None, ge=4, description="Maximum prompt tokens, cut from the left. By default half of --max-length."
    )
    chat_template_kwargs: Weights[TemplateKwargs] = Field(None, description=HELP)

    @property
    def prompt_budget(self) -> int:
        """Maximum prompt tokens."""
        return self.max_prompt_length if self.max_prompt_length is not None else self.max_length // 2


class LoraOptions(Config):
    panel = "LoRA"

    lora_r: Weights[int] = Field(16, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: Weights[int] = Field(32, ge=1, description="LoRA alpha; updates are scaled by alpha / r.")
    lora_dropout: Weights[float] = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    lora_target_modules: Weights[list[str]] = Field(
        list(QWEN2_PROJECTIONS), description="Linear layers to adapt, or `all-linear`."
    )

    @field_validator("lora_target_modules")
    @classmethod
    def _unambiguous_layers(cls, value: list[str]) -> list[str]:
        """Refuse what PEFT would misread. Whether the base has the layers is checked once the base is known."""
        if not value:
            raise Unfit("no layer is named", hint="--lora-target-modules all-linear")
        if ALL_LINEAR in [name.lower() for name in value]:
            if len(set(value)) > 1:
                raise Unfit(
                    "`all-linear` means every linear layer except the output head, and cannot be combined with names",
                    hint="--lora-target-modules all-linear",
                )
            return [ALL_LINEAR]
        return value


class MemoryOptions(Config):
    panel = "Quantisation, speed and memory"

    load_in_4bit: Weights[bool] = Field(True, description="Quantise the base to NF4 with double quantisation.")
    dequantize_once: Manner[bool] = Field(
        False,
        description="Keep de-quantised NF4 weights in memory: same numbers, faster, 4 times the memory of the base "
        "(8 times in float32).",
    )
    shared_prefix: Manner[bool] = Field(
        True, description="Run the prompt of a pair once for both answers; --no-shared-prefix is plain TRL."
    )
    gradient_checkpointing: Manner[bool] = Field(True, description="Recompute activations to save memory.")
    checkpoint_layers: Manner[NumberOrAuto] = Field(
        None,
        description="Layers to recompute in the longest forward pass, or as few as memory allows; shorter passes "
        "recompute fewer. On a GPU `auto`, unless --gradient-checkpointing is given; on a CPU all layers.",
    )


class ProcessOptions(Config):
    panel = "Processes, logging and checkpoints"

    num_processes: Weights[int] = Field(
        1, ge=1, description="Processes on this machine: one per GPU, or gloo on the CPU. Each takes its own batches."
    )
    device: Manner[Device] = Field("auto", description="Device to train on.")
    seed: Weights[int] = Field(42, ge=0, description="Random seed.")
    deterministic: Manner[bool] = Field(
        False,
        description="On a GPU, use kernels that add in a fixed order, so that a resumed run ends with the same bits. "
        "Slower. On a CPU it always does.",
    )
    logging_steps: Manner[int] = Field(1, ge=1, description="Steps between lines of metrics.jsonl.")
    eval_steps: Manner[int] = Field(50, ge=1, description="Steps between evaluations on the test split.")
    save_steps: Manner[int] = Field(50, ge=1, description="Steps between checkpoints.")
    save_total_limit: Manner[int] = Field(2, ge=2, description="Complete checkpoints to keep.")
    max_eval_pairs: Manner[int] = Field(512, ge=1, description="Maximum test pairs per evaluation during training.")
    report_to: Command[list[str]] = Field(
        default_factory=list, description="Experiment trackers: tensorboard, trackio, wandb."
    )


# pydantic collects the fields of the last base first
class TrainConfig(ProcessOptions, MemoryOptions, LoraOptions, LengthOptions, ScheduleOptions, LossOptions, RunOptions):
    @field_validator(*CHOICES)
    @classmethod
    def _known_names(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        if value == ["none"] and info.field_name == "report_to":  # as transformers spells it
            return []
        for name in [value] if isinstance(value, str) else value:
            check_choice(str(info.field_name), name, CHOICES[str(info.field_name)])
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        check_schedule(self.lr_scheduler_type, self.lr_scheduler_kwargs)
        if "exo_pair" in self.loss_type and self.label_smoothing == 0:  # TRL's own condition, and its value
            raise Unfit("the loss `exo_pair` needs label smoothing", hint="--label-smoothing 1e-3")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            weights, losses = len(self.loss_weights), len(self.loss_type)
            raise ValueError(f"{counted(weights, 'loss weight')} for {counted(losses, 'loss type')}")
        if self.tokens_per_batch is not None and (whole := WHOLE_BATCH_LOSSES & set(self.loss_type)):
            raise ValueError(
                f"--tokens-per-batch splits a batch, but {', '.join(sorted(whole))} compares all of its pairs"
            )
        if isinstance(self.tokens_per_batch, int) and self.tokens_per_batch < self.max_length:
            raise ValueError(f"tokens_per_batch must be --max-length ({self.max_length}) or more")
        if self.checkpoint_layers is not None and not self.gradient_checkpointing:
            raise ValueError("--checkpoint-layers needs --gradient-checkpointing, without which nothing is recomputed")
        if isinstance(self.checkpoint_layers, int) and self.checkpoint_layers < 0:
            raise ValueError("checkpoint_layers must be 0 or more")
        if self.dequantize_once and not self.load_in_4bit:
            raise ValueError("--dequantize-once needs --load-in-4bit: there is nothing to de-quantise")
        if self.dry_run and self.num_processes > 1:
            raise ValueError("--dry-run checks one process; leave --num-processes out")
        if self.prompt_budget >= self.max_length:
            raise ValueError("max_prompt_length must be less than max_length, or no token is left for the answer")
        return self

    def for_gpu(self, earlier: Mapping[str, object] | None = None) -> TrainConfig:
        """Return the config of a run on a GPU, where passes that no option sets are measured.

        A resumed run takes them from the recorded options of the `earlier` one. With several processes passes stay by
        pairs: cut by tokens, the last step of an epoch would repeat more pairs to give all processes the same number.
        """
        given, passes = self.model_fields_set, {}
        may_cut = self.num_processes == 1 and not WHOLE_BATCH_LOSSES & set(self.loss_type)
        if may_cut and not given & {"tokens_per_batch", "per_device_train_batch_size"}:
            passes["tokens_per_batch"] = "auto" if earlier is None else earlier.get("tokens_per_batch")
        if not given & {"checkpoint_layers", "gradient_checkpointing"}:
            passes["checkpoint_layers"] = "auto" if earlier is None else earlier.get("checkpoint_layers")
        return self.model_copy(update=passes)

    @classmethod
    def names(cls, *roles: Role) -> list[str]:
        """Return the names of the fields with one of these roles."""
        return [name for name, field in cls.model_fields.items() if any(role in field.metadata for role in roles)]
