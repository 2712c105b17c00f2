"""What `train` minimises: the losses, their terms and the reference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hubdpo.config.base import Config
from hubdpo.config.roles import Manner, Weights

# Loss names of trl.trainer.dpo_config (trl 1.16.0), copied because importing trl takes seconds.
LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip

WHOLE_BATCH_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Losses that sort the scores of all pairs in a batch (trl/trainer/dpo_trainer.py), so the batch cannot be split."""


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
