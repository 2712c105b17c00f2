"""Options of `hubdpo train` in groups, named as in TRL, PEFT and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hubdpo.config.base import ADAPTERS, Cli, Config, NumberOrAuto, Unfit
from hubdpo.config.chat_template import HELP, KWARGS_HELP, ChatTemplate, TemplateKwargs
from hubdpo.config.roles import Command, Manner, Weights
from hubdpo.config.torch_names import ComputeDtype, Device

ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer except the output head. In Qwen2 these are q, k, v, o, gate, up and down_proj."""
STARTS_ELSEWHERE = ("pissa", "olora", "loftq", "corda", "orthogonal", "lora_ga")
"""PEFT's initialisations that change the base, or with which A and B do not cancel."""
EXPERT_LAYERS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Names that mean the router and the experts to PEFT, in a mixture of experts."""


class RunOptions(Config):
    panel = "Run"

    model_name_or_path: Command[
        Annotated[str, Cli(metavar="BASE", call_type=str | Path | None, needed_unless=("adapter",))]
    ] = Field(
        "",
        description="Base model, any causal language model of text: a Hub id or a local folder. With --adapter, by "
        "default its base.",
    )
    model_revision: Command[str | None] = Field(
        None, description="Branch, tag or commit of the base. The run records the commit."
    )
    dataset: Command[Annotated[str, Cli(metavar="DATASET", names=("dataset",), call_type=str | Path)]] = Field(
        min_length=1, description="Dataset folder, or USER/NAME[@REVISION] on the Hub."
    )
    output_dir: Command[Annotated[Path, Cli(short="-o", metavar="DIR")]] = Field(description="Run folder to write.")
    adapter: Command[Annotated[str | None, Cli(names=ADAPTERS, call_type=str | Path | None)]] = Field(
        None,
        min_length=1,
        description="LoRA adapter to start from: USER/NAME[@REVISION] or a folder. It settles rank, alpha and layers.",
    )
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


class ScheduleOptions(Config):
    panel = "Steps and batches"

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

    group_prompts: Weights[bool] = Field(
        False,
        description="Draw the pairs of a prompt together, so that a step runs the prompt and each of its answers once. "
        "For data with several pairs a prompt.",
    )

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int) -> int:
        if value == 0:
            raise Unfit("0 steps train nothing, and -1 trains all of --num-train-epochs", hint="--max-steps -1")
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
    chat_template: Weights[ChatTemplate] = Field(None, description=HELP)
    chat_template_kwargs: Weights[TemplateKwargs] = Field(None, description=KWARGS_HELP)

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
        [ALL_LINEAR], description="Linear layers to adapt; `all-linear` is each but the output head and experts."
    )

    use_rslora: Weights[bool] = Field(
        False, description="Scale updates by alpha / sqrt(r), which suits higher ranks (rsLoRA)."
    )
    use_dora: Weights[bool] = Field(
        False, description="Train the magnitude of each weight column apart from its direction (DoRA); slower."
    )
    layers_to_transform: Weights[list[int] | None] = Field(
        None, description="Numbers of the decoder layers to adapt, from 0; all by default."
    )
    init_lora_weights: Weights[Literal["default", "gaussian"]] = Field(
        "default", description="Initial values of A; B is zero, so that training starts from the base."
    )

    @field_validator("init_lora_weights", mode="before")
    @classmethod
    def _starts_from_the_base(cls, value: object) -> object:
        name = str(value).lower()
        if name == "true":  # as PEFT spells it
            return "default"
        if name == "false" or name.startswith(STARTS_ELSEWHERE):
            why = "lets training start from other weights than those of the base, which is the reference"
        elif name == "eva":
            why = "needs a pass over training data before the adapter is made, which hubdpo does not run"
        else:
            return value
        raise Unfit(f"`{value}` {why}", hint="--init-lora-weights gaussian, or leave it out")

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
    dtype: Weights[ComputeDtype] = Field(
        "auto",
        description="Type of the base and of the computation: `auto` is bfloat16 on a GPU that computes in it, else "
        "float32. The adapter is float32.",
    )
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
    use_liger_kernel: Manner[bool] = Field(
        False,
        description="On a GPU, run activations of the MLP and rotary positions as kernels of Liger, in less memory "
        "(`pip install liger-kernel`).",
    )


class ProcessOptions(Config):
    panel = "Processes, logging and checkpoints"

    num_processes: Weights[int] = Field(
        1, ge=1, description="Processes on this machine: one per GPU, or gloo on the CPU. Each takes its own batches."
    )
    dataset_num_proc: Command[int | None] = Field(
        None, ge=1, description="Processes that tokenise pairs; by default one per core."
    )
    device: Manner[Device] = Field("auto", description="Device to train on.")
    seed: Weights[int] = Field(42, ge=0, lt=2**32, description="Random seed.")
    deterministic: Manner[bool] = Field(
        False,
        description="On a GPU, use kernels that add in a fixed order, so that a resumed run ends with the same bits. "
        "Slower. On a CPU it always does.",
    )
    logging_steps: Manner[int] = Field(1, ge=1, description="Steps between lines of metrics.jsonl.")
    save_steps: Manner[int] = Field(50, ge=1, description="Steps between checkpoints.")
    save_total_limit: Manner[int] = Field(2, ge=2, description="Complete checkpoints to keep.")
    report_to: Command[list[str]] = Field([], description="Experiment trackers, `all` that are installed, or `none`.")
    run_name: Command[str | None] = Field(
        None, description="Name of the run in trackers; by default that of the run folder."
    )
    project: Command[str | None] = Field(None, description="Project, or experiment, in trackers.")
