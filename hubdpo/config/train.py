"""Options of `hubdpo train`, spelled as TRL, PEFT and transformers spell them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hubdpo.config.base import Cli, Config, Unfit, check_choice
from hubdpo.config.schedules import SCHEDULES, check_schedule, read_arguments
from hubdpo.config.template_kwargs import HELP, METAVAR, TemplateKwargs

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output head."""
QWEN2_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# The names of trl.trainer.dpo_config (trl 1.16.0), repeated here because importing trl takes seconds.
LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip

TRACKERS = ("tensorboard", "trackio", "wandb")

WHOLE_BATCH_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Those that sort the scores of all pairs of a batch (trl/trainer/dpo_trainer.py), so that it cannot be cut."""


class Role(Enum):
    """What an option is to a run, and so whether a resumed run may have another value; every field has one."""

    WEIGHTS = "changes what is learned: a resumed run must have the same"
    MANNER = "how and when the run is told, saved or laid out in memory: a resumed run may change it, up to rounding"
    COMMAND = "what this command reads, writes and does: not of the run, whose base and data are pinned by content"


class TrainConfig(Config):
    model_name_or_path: Annotated[str, Role.COMMAND] = Field(
        description="Base model of the Qwen2 family: a Hub id or a local folder."
    )
    model_revision: Annotated[str | None, Role.COMMAND] = Field(
        None, description="Branch, tag or commit of the base; pinned to a commit either way."
    )
    dataset: Annotated[str, Role.COMMAND] = Field(description="Dataset folder, or USER/NAME[@REVISION] on the Hub.")
    output_dir: Annotated[Path, Cli(short="-o"), Role.COMMAND] = Field(description="The run folder to write.")
    resume: Annotated[bool, Role.COMMAND] = Field(
        False, description="Go on from the newest complete checkpoint of the run folder."
    )
    extend: Annotated[bool, Role.COMMAND] = Field(
        False,
        description="Train a finished or stopped run for longer, to the --max-steps or --num-train-epochs given; "
        "implies --resume.",
    )
    dry_run: Annotated[bool, Role.COMMAND] = Field(
        False, description="Check everything, run the longest pairs forward and backward once, and write nothing."
    )

    loss_type: Annotated[list[str], Role.WEIGHTS] = Field(
        ["sigmoid"], description="DPO loss of TRL; several are summed with --loss-weights."
    )
    loss_weights: Annotated[list[float] | None, Role.WEIGHTS] = Field(
        None, description="One weight for each --loss-type."
    )
    beta: Annotated[float, Role.WEIGHTS] = Field(
        0.1, gt=0, description="Strength of the pull towards the reference model."
    )
    label_smoothing: Annotated[float, Role.WEIGHTS] = Field(
        0.0, ge=0, lt=0.5, description="Assumed share of wrong labels (robust DPO)."
    )

    reference: Annotated[Literal["online", "cached"], Role.MANNER] = Field(
        "online",
        description="Reference log-probs in each step, or once for all, kept on disk for resumed and further runs.",
    )

    learning_rate: Annotated[float, Role.WEIGHTS] = Field(5e-6, gt=0, description="Peak learning rate.")
    lr_scheduler_type: Annotated[str, Role.WEIGHTS] = Field("cosine", description="Schedule, as transformers names it.")
    lr_scheduler_kwargs: Annotated[
        dict[str, float | int | str] | None, Cli(metavar="JSON", text=True), Role.WEIGHTS
    ] = Field(None, description='Arguments of the schedule, such as {"min_lr_rate": 0.1}.')
    warmup_ratio: Annotated[float, Role.WEIGHTS] = Field(
        0.1, ge=0, lt=1, description="Share of the steps spent warming up."
    )
    num_train_epochs: Annotated[float, Role.WEIGHTS] = Field(1.0, gt=0, description="Passes over the train split.")
    max_steps: Annotated[int, Role.WEIGHTS] = Field(
        -1, ge=-1, description="Optimiser steps; -1 goes by --num-train-epochs."
    )
    per_device_train_batch_size: Annotated[int, Role.MANNER] = Field(4, ge=1, description="Pairs in one forward pass.")
    per_device_eval_batch_size: Annotated[int, Role.MANNER] = Field(
        4, ge=1, description="Pairs in one evaluation forward pass."
    )
    gradient_accumulation_steps: Annotated[int, Role.MANNER] = Field(
        4, ge=1, description="Forward passes in one optimiser step."
    )
    tokens_per_batch: Annotated[int | Literal["auto"] | None, Cli(metavar="N|auto", text=True), Role.MANNER] = Field(
        None,
        description="Fill each forward pass with N tokens, or with what memory holds, not with a number of pairs; "
        "a step keeps its --per-device-train-batch-size x --gradient-accumulation-steps pairs.",
    )
    weight_decay: Annotated[float, Role.WEIGHTS] = Field(0.0, ge=0, description="AdamW weight decay.")
    max_grad_norm: Annotated[float, Role.WEIGHTS] = Field(1.0, gt=0, description="Gradient clipping.")

    max_length: Annotated[int, Role.WEIGHTS] = Field(
        1024, ge=8, description="Most tokens of prompt and answer together."
    )
    max_prompt_length: Annotated[int | None, Role.WEIGHTS] = Field(
        None, ge=4, description="Most prompt tokens, cut from the left; half of --max-length by default."
    )

    chat_template_kwargs: Annotated[TemplateKwargs, Cli(metavar=METAVAR, text=True), Role.WEIGHTS] = Field(
        None, description=HELP
    )

    lora_r: Annotated[int, Role.WEIGHTS] = Field(16, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: Annotated[int, Role.WEIGHTS] = Field(32, ge=1, description="LoRA scale times rank.")
    lora_dropout: Annotated[float, Role.WEIGHTS] = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    lora_target_modules: Annotated[list[str], Role.WEIGHTS] = Field(
        list(QWEN2_PROJECTIONS), description="Linear layers that get an adapter, or `all-linear`."
    )
    load_in_4bit: Annotated[bool, Role.WEIGHTS] = Field(
        True, description="Quantise the base to NF4 with double quantisation."
    )
    dequantize_once: Annotated[bool, Role.MANNER] = Field(
        False,
        description="Keep the NF4 weights in memory as de-quantised: the same numbers, sooner, in 4 times the memory "
        "of the base (8 times in float32).",
    )
    shared_prefix: Annotated[bool, Role.MANNER] = Field(
        True, description="Run the prompt of a pair once for both answers; off is stock TRL."
    )
    gradient_checkpointing: Annotated[bool, Role.MANNER] = Field(
        True, description="Recompute activations to save memory."
    )
    checkpoint_layers: Annotated[int | Literal["auto"] | None, Cli(metavar="N|auto", text=True), Role.MANNER] = Field(
        None,
        description="Layers that the longest forward pass recomputes, or as few as memory allows; shorter passes "
        "recompute fewer in the same memory. All layers in every pass by default.",
    )

    num_processes: Annotated[int, Role.WEIGHTS] = Field(
        1, ge=1, description="Processes on this machine, one a GPU (or gloo on the CPU); each takes a batch of its own."
    )
    device: Annotated[Literal["auto", "cuda", "cpu"], Role.MANNER] = Field("auto", description="Where to train.")
    seed: Annotated[int, Role.WEIGHTS] = Field(42, ge=0, description="Seed of everything random.")
    logging_steps: Annotated[int, Role.MANNER] = Field(1, ge=1, description="Steps between lines of metrics.jsonl.")
    eval_steps: Annotated[int, Role.MANNER] = Field(
        50, ge=1, description="Steps between evaluations on the test split."
    )
    save_steps: Annotated[int, Role.MANNER] = Field(50, ge=1, description="Steps between checkpoints.")
    save_total_limit: Annotated[int, Role.MANNER] = Field(2, ge=2, description="Complete checkpoints to keep.")
    max_eval_pairs: Annotated[int, Role.MANNER] = Field(
        512, ge=1, description="Most test pairs used in each evaluation while training."
    )
    report_to: Annotated[list[str], Role.COMMAND] = Field(
        default_factory=list, description="Trackers: tensorboard, trackio, wandb. None by default."
    )

    @field_validator("loss_type")
    @classmethod
    def _known_losses(cls, value: list[str]) -> list[str]:
        for name in value:
            check_choice("loss_type", name, LOSS_TYPES)
        return value

    @field_validator("lora_target_modules", mode="before")
    @classmethod
    def _one_word_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value  # PEFT takes `all-linear` as text

    @field_validator("lora_target_modules")
    @classmethod
    def _known_layers(cls, value: list[str]) -> list[str]:
        """What the base has is looked up once it is known; here what PEFT would read in a way that is not meant."""
        if not value:
            raise Unfit("no layer is named", hint="--lora-target-modules all-linear")
        if ALL_LINEAR in [name.lower() for name in value]:
            if len(set(value)) > 1:
                raise Unfit(
                    "`all-linear` is every linear layer but the output head, and stands alone",
                    hint="--lora-target-modules all-linear",
                )
            return [ALL_LINEAR]
        return value

    @field_validator("lr_scheduler_type")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        check_choice("lr_scheduler_type", value, SCHEDULES)
        return value

    @field_validator("lr_scheduler_kwargs", mode="before")
    @classmethod
    def _arguments_of_the_schedule(cls, value: Any) -> Any:
        return read_arguments(value)

    @field_validator("report_to")
    @classmethod
    def _known_trackers(cls, value: list[str]) -> list[str]:
        if value == ["none"]:  # as transformers spells it
            return []
        for name in value:
            check_choice("report_to", name, TRACKERS)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        check_schedule(self.lr_scheduler_type, self.lr_scheduler_kwargs)
        if "exo_pair" in self.loss_type and self.label_smoothing == 0:  # TRL's own condition, and its value
            raise Unfit("the loss `exo_pair` needs label smoothing", hint="--label-smoothing 1e-3")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"{len(self.loss_weights)} loss weights for {len(self.loss_type)} loss types")
        if self.tokens_per_batch is not None and (whole := WHOLE_BATCH_LOSSES & set(self.loss_type)):
            raise ValueError(
                f"--tokens-per-batch cuts a batch, and {', '.join(sorted(whole))} compares all pairs of one"
            )
        if isinstance(self.tokens_per_batch, int) and self.tokens_per_batch < self.max_length:
            raise ValueError(f"tokens_per_batch must hold a sequence: --max-length is {self.max_length}")
        if self.checkpoint_layers is not None and not self.gradient_checkpointing:
            raise ValueError("--checkpoint-layers needs --gradient-checkpointing: nothing is recomputed without it")
        if isinstance(self.checkpoint_layers, int) and self.checkpoint_layers < 0:
            raise ValueError("checkpoint_layers must be 0 or more")
        if self.dequantize_once and not self.load_in_4bit:
            raise ValueError("--dequantize-once needs --load-in-4bit: there is nothing to de-quantise")
        if self.dry_run and self.num_processes > 1:
            raise ValueError("--dry-run looks at one process; leave --num-processes out")
        if self.prompt_budget >= self.max_length:
            raise ValueError("max_prompt_length must be below max_length, or no token is left for the answer")
        return self

    @classmethod
    def names(cls, *roles: Role) -> list[str]:
        """Return the fields of these roles, in their order."""
        return [name for name, field in cls.model_fields.items() if any(role in field.metadata for role in roles)]

    @property
    def goes_on(self) -> bool:
        """Whether a run that is in the folder is gone on with."""
        return self.resume or self.extend

    @property
    def pairs_per_process(self) -> int:
        """Pairs that one process gives to an optimiser step."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def prompt_budget(self) -> int:
        return self.max_prompt_length if self.max_prompt_length is not None else self.max_length // 2
