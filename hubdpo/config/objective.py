"""What `train` minimises: the losses, their terms and the reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hubdpo.config.base import Cli, Config, Unfit, flag_of
from hubdpo.config.roles import Manner, Weights
from hubdpo.console import counted

# Loss names of trl.trainer.dpo_config (trl 1.16.0), copied because importing trl takes seconds.
TRL_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
REFERENCE_FREE = {"simpo": "SimPO", "cpo": "CPO", "orpo": "ORPO"}
"""Losses that compare the answers under the policy alone, with the names of their papers; see docs/how-to/losses.md."""
LOSS_TYPES = (*TRL_LOSSES, *REFERENCE_FREE)

WHOLE_BATCH_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Losses that sort the scores of all pairs in a batch (trl/trainer/dpo_trainer.py), so the batch cannot be split."""
WITH_MARGINS = ("sigmoid", "sigmoid_norm", "hinge", "robust", "simpo", "cpo")
"""Losses of one difference, from which a margin can be subtracted."""
WITH_WEIGHTS = (*WITH_MARGINS, "orpo", "sft")
"""Losses that hubdpo can compute pair by pair, to weigh each."""
WITH_DIVERGENCES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
"""Losses for which TRL takes another divergence than the reverse KL (trl/trainer/dpo_trainer.py)."""
WITH_SMOOTHING = ("robust", "exo_pair", "aot", "aot_unpaired", "simpo", "cpo")
"""Losses that read `label_smoothing`; TRL's `sigmoid` does not (trl/trainer/dpo_trainer.py)."""
FITTING: dict[str, Collection[str]] = {
    "f_divergence_type": WITH_DIVERGENCES,
    "margin_columns": WITH_MARGINS,
    "weight_column": WITH_WEIGHTS,
    # TRL multiplies the loss of each pair, and `aot` and `sft` have none
    "use_weighting": [name for name in TRL_LOSSES if name not in {*WHOLE_BATCH_LOSSES, "sft"}],
    "ld_alpha": TRL_LOSSES,
}
"""Options that go with some losses only."""
BELONGS_TO = {"simpo_gamma": "simpo", "cpo_alpha": "cpo", "discopop_tau": "discopop"}
"""Options that one loss reads."""
ELSEWHERE = {
    "dpo": ("DPO's loss is called `sigmoid`, as in TRL", "--loss-type sigmoid"),
    "dpop": (
        "DPO-Positive is not in TRL, and `sft` beside `sigmoid` keeps the chosen answer up",
        "--loss-type sigmoid --loss-type sft",
    ),
    "kto": (
        "KTO learns from single answers with a label, and hubdpo trains on pairs",
        "`hubdpo prepare` makes pairs of labelled answers to the same prompt; then --loss-type bco_pair or apo_zero",
    ),
}  # fmt: skip
"""Names that people know from other trainers: why there is no such loss, and what to do instead."""


def uses_reference(losses: Sequence[str]) -> bool:
    """Tell whether any of the losses compares with the reference model; `sft` alone logs rewards against it."""
    return not set(REFERENCE_FREE) & set(losses) or bool(set(losses) - {*REFERENCE_FREE, "sft"})


class LossOptions(Config):
    panel = "Loss"

    loss_type: Weights[list[str]] = Field(
        ["sigmoid"],
        description="Loss of TRL, or simpo, cpo or orpo, which need no reference. Several are summed with "
        "--loss-weights.",
    )
    loss_weights: Weights[list[float] | None] = Field(None, description="Weight of each --loss-type, in order.")
    beta: Weights[float] = Field(
        0.1,
        gt=0,
        description="Strength of the KL penalty that keeps the policy close to the reference model. Without a "
        "reference the factor of the log-probs (SimPO: 2 or more), or the weight of ORPO's odds ratio.",
    )
    label_smoothing: Weights[float] = Field(
        0.0, ge=0, lt=0.5, description="Assumed share of wrong preferences (robust, exo_pair, aot, simpo, cpo)."
    )
    simpo_gamma: Weights[float] = Field(
        0.5, ge=0, description="Margin by which simpo wants the chosen answer ahead; divided by beta it is γ/β."
    )
    cpo_alpha: Weights[float] = Field(1.0, ge=0, description="Weight of cpo's log-likelihood term.")
    ld_alpha: Weights[float | None] = Field(
        None, ge=0, le=1, description="Weight of the tokens by which one answer is longer than the other (LD-DPO)."
    )
    use_weighting: Weights[bool] = Field(
        False, description="Weigh pairs by how likely the policy is to write them (WPO)."
    )
    f_divergence_type: Weights[Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]] = Field(
        "reverse_kl", description="Divergence from the reference that is penalised (f-DPO)."
    )
    f_alpha_divergence_coef: Weights[float] = Field(0.5, description="Coefficient of alpha_divergence.")
    discopop_tau: Weights[float] = Field(0.05, gt=0, description="Temperature of discopop.")
    margin_columns: Weights[Annotated[list[str] | None, Cli(metavar="COLUMN")]] = Field(
        None,
        description="Kept column with how much better the chosen answer is, or two columns with the scores of chosen "
        "and rejected. The margin is subtracted in the loss (ODPO).",
    )
    margin_scale: Weights[float] = Field(1.0, gt=0, description="Factor of the margins.")
    weight_column: Weights[str | None] = Field(
        None, description="Kept column with the weight of each pair in the loss. Weights are divided by their mean."
    )
    reference_adapter: Weights[Literal["frozen", "none"]] = Field(
        "frozen", description="Reference of a run with --adapter: that adapter as it was, or the base without it."
    )
    reference: Manner[Literal["online", "cached"]] = Field(
        "online",
        description="Compute reference log-probs in every step, or once and cache them on disk for later runs.",
    )

    @property
    def value_columns(self) -> list[str]:
        """Columns of the dataset that the losses read."""
        return [*(self.margin_columns or ()), *([self.weight_column] if self.weight_column else [])]

    @property
    def moves_losses(self) -> bool:
        """Whether weights or margins move the losses from what they usually are."""
        return bool(self.value_columns or self.use_weighting or self.loss_weights)

    @field_validator("loss_type")
    @classmethod
    def _not_elsewhere(cls, value: list[str]) -> list[str]:
        for name in value:
            if name.removesuffix("_pair") in ELSEWHERE:
                reason, instead = ELSEWHERE[name.removesuffix("_pair")]
                raise Unfit(f"there is no `{name}`: {reason}", hint=instead)
        return value

    @field_validator("margin_columns")
    @classmethod
    def _one_or_two(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not 1 <= len(value) <= 2:
            raise Unfit(
                f"margins come from one column or from two, and {len(value)} are given",
                hint="--margin-columns score_chosen --margin-columns score_rejected",
            )
        return value

    @model_validator(mode="after")
    def _losses_fit(self) -> LossOptions:
        if "exo_pair" in self.loss_type and self.label_smoothing == 0:  # TRL's own condition, and its value
            raise Unfit("the loss `exo_pair` needs label smoothing", hint="--label-smoothing 1e-3")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            weights, losses = len(self.loss_weights), len(self.loss_type)
            raise Unfit(
                f"{counted(weights, 'loss weight')} for {counted(losses, 'loss type')}",
                hint=" ".join(["--loss-weights 1"] * losses),
            )
        if self.loss_weights is not None and not (min(self.loss_weights) >= 0 < max(self.loss_weights)):
            raise Unfit(
                "a loss weight below zero unlearns the preferences, and one above zero is needed",
                hint=" ".join(["--loss-weights 1"] * len(self.loss_type)),
            )
        if self.label_smoothing and not set(WITH_SMOOTHING) & set(self.loss_type):
            raise Unfit(
                f"the loss `{self.loss_type[0]}` does not read --label-smoothing, as in TRL",
                hint=f"--loss-type robust, or leave it out; it goes with {', '.join(WITH_SMOOTHING)}",
            )
        for option in self.changed(*BELONGS_TO):
            if (loss := BELONGS_TO[option]) not in self.loss_type:
                raise Unfit(f"{flag_of(option)} belongs to the loss `{loss}`", hint=f"--loss-type {loss}")
        if self.changed("f_alpha_divergence_coef") and self.f_divergence_type != "alpha_divergence":
            raise Unfit(
                "--f-alpha-divergence-coef belongs to the divergence `alpha_divergence`",
                hint="--f-divergence-type alpha_divergence",
            )
        if self.changed("margin_scale") and self.margin_columns is None:
            raise Unfit(
                "--margin-scale needs the columns with the margins",
                hint="--margin-columns score_chosen --margin-columns score_rejected",
            )
        for option in self.changed(*FITTING):
            if other := [name for name in self.loss_type if name not in FITTING[option]]:
                raise Unfit(
                    f"{flag_of(option)} does not go with the loss `{other[0]}`",
                    hint=f"it goes with {', '.join(FITTING[option])}",
                )
        shaped = self.changed("ld_alpha", "use_weighting", "f_divergence_type")
        if shaped and self.value_columns:
            raise Unfit(
                f"{flag_of(shaped[0])} is TRL's, whose losses know no margin or weight of a pair",
                hint=f"leave {flag_of(shaped[0])} out, or the columns",
            )
        unused = self.changed("reference", "reference_adapter")
        if unused and not uses_reference(self.loss_type):
            raise Unfit(
                f"the loss `{self.loss_type[0]}` uses no reference, so {flag_of(unused[0])} has no effect",
                hint=f"leave {flag_of(unused[0])} out",
            )
        return self
