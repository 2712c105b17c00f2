"""All options of `hubdpo train`, and the rules between them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import ValidationInfo, field_validator, model_validator

from hubdpo.config.base import Unfit, Values, flag_of, item_type
from hubdpo.config.evaluations import EvaluationOptions
from hubdpo.config.objective import LOSS_TYPES, WHOLE_BATCH_LOSSES, LossOptions
from hubdpo.config.optimiser import OPTIMISERS, OptimiserOptions
from hubdpo.config.roles import Role, may_have_several
from hubdpo.config.schedules import SCHEDULES, check_schedule
from hubdpo.config.trackers import TRACKERS
from hubdpo.config.train_groups import (
    LengthOptions,
    LoraOptions,
    MemoryOptions,
    ProcessOptions,
    RunOptions,
    ScheduleOptions,
)
from hubdpo.config.trainers.axolotl import AXOLOTL
from hubdpo.config.trainers.llama_factory import LLAMA_FACTORY
from hubdpo.config.trainers.table import of_other_trainer, translated
from hubdpo.config.trainers.trl import TRL
from hubdpo.config.wrong_value import fits, several_numbers
from hubdpo.errors import Instead

TRAINERS = (TRL, LLAMA_FACTORY, AXOLOTL)
CHOICES: dict[str, Collection[str]] = {
    "loss_type": LOSS_TYPES, "lr_scheduler_type": SCHEDULES, "optim": OPTIMISERS,
    "report_to": (*TRACKERS, "all", "none"),
}  # fmt: skip


# pydantic collects the fields of the last base first
class TrainConfig(
    ProcessOptions, EvaluationOptions, MemoryOptions, LoraOptions, LengthOptions, ScheduleOptions, OptimiserOptions,
    LossOptions, RunOptions,
):  # fmt: skip
    named_choices = CHOICES

    @classmethod
    def _of_file(cls, values: Values, file: Path, options: Mapping[str, object]) -> Values:
        """Take the keys of another trainer's file under hubdpo's names."""
        trainer = of_other_trainer(values, cls.model_fields, TRAINERS)
        if trainer is None:
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return translated(values, defaults, trainer, str(file), given=options)

    @classmethod
    def _step(cls, name: str, given: object, origin: str) -> str:
        """Lead several numbers where one is meant to `sweep`, and those of a list to an option for each."""
        if name == "dataset" and isinstance(given, list) and all(isinstance(place, str) for place in given):
            return f"hubdpo prepare {shlex.join(given)} -o joined, then `--dataset joined`"
        numbers, field = several_numbers(given), cls.model_fields[name]
        if numbers and item_type(field.annotation) is not None:
            return " ".join(f"{flag_of(name)} {number}" for number in numbers)
        is_swept = numbers and may_have_several(cls, name) and all(fits(number, field) for number in numbers)
        return Instead("train", "sweep") if is_swept else super()._step(name, given, origin)

    @field_validator(*CHOICES)
    @classmethod
    def _known_names(cls, value: str | list[str], info: ValidationInfo) -> str | list[str]:
        name = str(info.field_name)
        if name == "report_to" and "none" in value:  # as transformers spells it
            if len(value) > 1:
                raise Unfit("`none` cannot be combined with trackers", hint="--report-to none")
            return []
        known, meant = [*CHOICES[name]], [value] if isinstance(value, str) else value
        if unknown := [each for each in meant if each not in known]:
            near = {each: next(iter(difflib.get_close_matches(each, known, n=1)), None) for each in unknown}
            given = " ".join(f"{flag_of(name)} {near.get(each, each)}" for each in meant)
            raise Unfit(
                f"there is no `{unknown[0]}`",
                hint=f"did you mean `{given}`?" if all(near.values()) else f"choose from: {', '.join(known)}",
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        check_schedule(self.lr_scheduler_type, self.lr_scheduler_kwargs)
        whole = ", ".join(sorted(WHOLE_BATCH_LOSSES & set(self.loss_type)))
        if self.tokens_per_batch is not None and whole:
            raise Unfit(
                f"--tokens-per-batch splits a batch, but {whole} compares all of its pairs",
                hint="leave `--tokens-per-batch` out",
            )
        if self.group_prompts and whole:
            raise Unfit(
                f"--group-prompts lets a pass hold other pairs than its batch, but {whole} compares all pairs of a "
                "batch",
                hint="leave `--group-prompts` out",
            )
        if self.group_prompts and not self.shared_prefix:
            raise Unfit(
                "--group-prompts needs --shared-prefix, which runs what the pairs of a prompt share once",
                hint="leave `--no-shared-prefix` out",
            )
        if isinstance(self.tokens_per_batch, int) and self.tokens_per_batch < self.max_length:
            raise Unfit(
                f"--tokens-per-batch must be --max-length ({self.max_length}) or more",
                hint=f"--tokens-per-batch {self.max_length}",
            )
        if self.checkpoint_layers is not None and not self.gradient_checkpointing:
            raise Unfit(
                "--checkpoint-layers needs --gradient-checkpointing, without which nothing is recomputed",
                hint="leave `--no-gradient-checkpointing` out",
            )
        if isinstance(self.checkpoint_layers, int) and self.checkpoint_layers < 0:
            raise Unfit("--checkpoint-layers must be 0 or more", hint="--checkpoint-layers 0")
        if self.reference_adapter == "none" and self.adapter is None:
            raise Unfit(
                "--reference-adapter none needs --adapter: without it the base is the reference already",
                hint="leave `--reference-adapter` out, or add `--adapter USER/NAME`",
            )
        if self.dequantize_once and not self.load_in_4bit:
            raise Unfit(
                "--dequantize-once needs --load-in-4bit: there is nothing to de-quantise",
                hint="leave `--dequantize-once` out",
            )
        if self.dry_run and self.num_processes > 1:
            raise Unfit("--dry-run checks one process", hint="leave `--num-processes` out")
        if self.prompt_budget >= self.max_length:
            raise Unfit(
                "--max-prompt-length must be less than --max-length, or no token is left for the answer",
                hint=f"--max-prompt-length {self.max_length // 2}",
            )
        return self

    def for_gpu(self, earlier: Mapping[str, object] | None = None) -> TrainConfig:
        """Return the config of a run on a GPU, where passes that no option sets are measured.

        A resumed run takes them from the recorded options of the `earlier` one. With several processes passes stay by
        pairs: cut by tokens, the last step of an epoch would repeat more pairs to give all processes the same number,
        as it does with `--group-prompts` anyway.
        """
        given, passes = self.model_fields_set, {}
        may_cut = (self.num_processes == 1 or self.group_prompts) and not WHOLE_BATCH_LOSSES & set(self.loss_type)
        if may_cut and not given & {"tokens_per_batch", "per_device_train_batch_size"}:
            passes["tokens_per_batch"] = "auto" if earlier is None else earlier.get("tokens_per_batch")
        if not given & {"checkpoint_layers", "gradient_checkpointing"}:
            passes["checkpoint_layers"] = "auto" if earlier is None else earlier.get("checkpoint_layers")
        return self.model_copy(update=passes)

    @classmethod
    def names(cls, *roles: Role) -> list[str]:
        """Return the names of the fields with one of these roles."""
        return [name for name, field in cls.model_fields.items() if any(role in field.metadata for role in roles)]
