"""Options of the optimiser and its learning rate, and the optimisers of transformers that train an adapter."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field, field_validator, model_validator

from hubdpo.config.base import Config, Unfit, Values
from hubdpo.config.roles import Weights
from hubdpo.config.schedules import ScheduleArguments


class Optimiser(NamedTuple):
    """What an optimiser needs."""

    bytes: int
    """Bytes of its state for each weight. 8-bit states add a scale for every 256 weights, which is not counted."""
    package: tuple[str, str] | None = None
    """Package that has it, as pip and as Python name it."""
    on_gpu: bool = False


# transformers.training_args.OptimizerNames (5.23); copied because importing transformers takes seconds.
OPTIMISERS = {
    "adamw_torch_fused": Optimiser(8), "adamw_torch": Optimiser(8), "adafactor": Optimiser(0), "sgd": Optimiser(0),
    "adagrad": Optimiser(4), "rmsprop": Optimiser(4),
    "adamw_8bit": Optimiser(2, on_gpu=True), "adamw_bnb_8bit": Optimiser(2, on_gpu=True),
    "paged_adamw_8bit": Optimiser(2, on_gpu=True), "paged_adamw_32bit": Optimiser(8, on_gpu=True),
    "lion_8bit": Optimiser(1, on_gpu=True), "lion_32bit": Optimiser(4, on_gpu=True),
    "paged_lion_8bit": Optimiser(1, on_gpu=True), "paged_lion_32bit": Optimiser(4, on_gpu=True),
    "ademamix": Optimiser(12, on_gpu=True), "ademamix_8bit": Optimiser(3, on_gpu=True),
    "paged_ademamix_32bit": Optimiser(12, on_gpu=True), "paged_ademamix_8bit": Optimiser(3, on_gpu=True),
    "rmsprop_bnb": Optimiser(4, on_gpu=True), "rmsprop_bnb_32bit": Optimiser(4, on_gpu=True),
    "rmsprop_bnb_8bit": Optimiser(1, on_gpu=True),
    "adamw_torch_8bit": Optimiser(2, ("torchao", "torchao")), "adamw_torch_4bit": Optimiser(1, ("torchao", "torchao")),
    "stable_adamw": Optimiser(8, ("torch-optimi", "optimi")),
}  # fmt: skip

_PROJECTS = "it projects the gradients of whole weight matrices, and an adapter has none"
_BACKWARD = "it changes weights during the backward pass, so gradients can be neither accumulated nor clipped"
_AVERAGES = "it trains other weights than those to keep, and the checkpoints and the adapter would hold the former"
_HARDWARE = "it is for hardware that hubdpo does not train on"
REFUSED = {
    "galore": _PROJECTS, "apollo": _PROJECTS, "lomo": _BACKWARD, "adalomo": _BACKWARD, "schedule_free": _AVERAGES,
    "adamw_torch_xla": _HARDWARE, "adamw_torch_npu": _HARDWARE,
    "grokadamw": "it keeps its moments where a resumed run does not find them, which would end with another adapter",
    "adamw_anyprecision": "its package, torchdistx, is no longer maintained",
}  # fmt: skip
"""Beginnings of transformers' other names, and why an adapter is not trained with them."""


class OptimiserOptions(Config):
    panel = "Optimiser and learning rate"

    learning_rate: Weights[float] = Field(5e-6, gt=0, description="Peak learning rate.")
    lr_scheduler_type: Weights[str] = Field("cosine", description="Learning rate schedule of transformers.")
    lr_scheduler_kwargs: Weights[ScheduleArguments] = Field(
        None, description='Arguments of the schedule, such as {"min_lr_rate": 0.1}.'
    )
    warmup_ratio: Weights[float] = Field(0.1, ge=0, lt=1, description="Share of steps for warm-up.")
    warmup_steps: Weights[int | None] = Field(
        None, ge=0, description="Number of steps for warm-up, instead of --warmup-ratio."
    )
    optim: Weights[str] = Field("adamw_torch_fused", description="Optimiser, by transformers' name.")
    adam_beta1: Weights[float] = Field(0.9, ge=0, lt=1, description="Beta 1 of AdamW and Lion.")
    adam_beta2: Weights[float] = Field(0.999, ge=0, lt=1, description="Beta 2 of AdamW and Lion.")
    adam_epsilon: Weights[float] = Field(1e-8, ge=0, description="Epsilon of AdamW.")
    weight_decay: Weights[float] = Field(0.0, ge=0, description="Weight decay.")
    max_grad_norm: Weights[float] = Field(1.0, gt=0, description="Gradient norm to clip to.")

    @field_validator("optim")
    @classmethod
    def _fits_an_adapter(cls, value: str) -> str:
        for beginning, reason in REFUSED.items():
            if value.startswith(beginning):
                raise Unfit(f"`{value}` does not fit: {reason}", hint="--optim adamw_torch_fused")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_warmup(cls, values: Values) -> Values:
        """Take steps below one for a share, and a zero for an option that is left out, as transformers does."""
        steps, ratio = values.get("warmup_steps"), values.get("warmup_ratio")
        if isinstance(steps, float) and 0 < steps < 1:
            return {**values, "warmup_steps": None, "warmup_ratio": steps}
        if steps and ratio:
            raise Unfit(
                "--warmup-steps and --warmup-ratio are two lengths of one warm-up",
                hint=f"--warmup-steps {steps}, or --warmup-ratio {ratio}",
            )
        return {**values, "warmup_steps": None} if ratio and steps == 0 else values

    @property
    def optimiser(self) -> Optimiser:
        """What the optimiser needs."""
        return OPTIMISERS[self.optim]

    def warmup(self, steps: int) -> int:
        """Return the warm-up steps of a run of `steps`."""
        return round(self.warmup_ratio * steps) if self.warmup_steps is None else self.warmup_steps
