"""The losses beside TRL's: those without a reference, and those with a margin or a weight for each pair.

TRL's DPOTrainer computes its own losses, and the metrics of every run. The losses here come from the log-probs of the
same packed forward pass. A loss is a mean over pairs, and `sft` one over chosen tokens, so that passes of a step sum to
the step (see `Step.loss_weights`). For that, CPO and ORPO are two losses: their preference term, and `sft`.

Where no loss compares with a reference, none is run: TRL gets zeros for its log-probs, so that the rewards that it logs
are beta times the policy's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from hubdpo.config import TrainConfig
from hubdpo.config.objective import REFERENCE_FREE, uses_reference
from hubdpo.training.step.batch import Batch, for_trl

if TYPE_CHECKING:
    from peft import PeftModel

    from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

SURE = -torch.finfo(torch.float32).eps
"""Log-probability of a token above which ORPO's odds are not followed: those of probability 1 are infinite."""


@dataclass(frozen=True)
class Pairs:
    """What the losses know of B pairs. All are `[B]`; log-probs are sums over the scored tokens, in nats."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_length: torch.Tensor
    """Scored tokens of the chosen answer."""
    rejected_length: torch.Tensor
    margin: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def of(cls, log_probs: torch.Tensor, batch: Batch) -> Pairs:
        """Sum the log-probs `[2B, T - 1]` of each answer."""
        chosen, rejected = log_probs.sum(dim=1).chunk(2)
        chosen_length, rejected_length = batch["completion_mask"][:, 1:].sum(dim=1).clamp(min=1).chunk(2)
        return cls(
            chosen, rejected, batch["ref_chosen_logps"], batch["ref_rejected_logps"], chosen_length, rejected_length,
            batch.get("margin", torch.zeros_like(chosen)), batch.get("weight", torch.ones_like(chosen)),
        )  # fmt: skip

    @property
    def per_token(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean log-prob of a token of either answer."""
        return self.chosen / self.chosen_length, self.rejected / self.rejected_length


@dataclass(frozen=True)
class Objective:
    """The losses that a run sums with their weights, those of which CPO and ORPO consist among them."""

    losses: dict[str, float]
    own: frozenset[str]
    """The losses that are computed here; TRL computes the others."""
    uses_reference: bool
    rewards_by_token: bool
    """Whether the rewards are those of SimPO and ORPO, of the mean log-prob of a token; CPO's are of the whole."""
    config: TrainConfig

    @classmethod
    def of(cls, config: TrainConfig) -> Objective:
        weights, likelihood = config.loss_weights or [1.0] * len(config.loss_type), {"cpo": config.cpo_alpha, "orpo": 1}
        losses: dict[str, float] = {}
        for loss, weight in zip(config.loss_type, weights, strict=True):
            losses[loss] = losses.get(loss, 0.0) + weight
            if likelihood.get(loss):
                losses["sft"] = losses.get("sft", 0.0) + weight * likelihood[loss]
        first = next((loss for loss in losses if loss in REFERENCE_FREE), None)
        needs_reference = uses_reference(config.loss_type)
        return cls(
            losses, frozenset(losses if config.value_columns else {*losses} & {*REFERENCE_FREE}),
            needs_reference, not needs_reference and first != "cpo", config,
        )  # fmt: skip

    def compute(
        self, trainer: SharedPrefixDPOTrainer, by_trl: Callable[..., torch.Tensor], model: PeftModel, inputs: Batch
    ) -> torch.Tensor:
        """Return the weighted sum of all losses as `DPOTrainer._compute_loss` does; `by_trl` is that method."""
        if not self.own:
            return by_trl(model, inputs, return_outputs=False)
        outputs: list[Any] = []

        def recorded(**kwargs: object) -> object:
            outputs.append(model(**kwargs))
            return outputs[-1]

        batch = self._with_reference(trainer, inputs)
        names, weights = trainer.loss_types, trainer.loss_weights
        own = {name: weight for name, weight in zip(names, weights, strict=True) if name in self.own}
        trainer.loss_types = [name for name in names if name not in own]
        trainer.loss_weights = [weight for name, weight in zip(names, weights, strict=True) if name not in own]
        try:
            of_trl = by_trl(recorded, for_trl(batch), return_outputs=False)
        finally:
            trainer.loss_types, trainer.loss_weights = names, weights
        pairs = Pairs.of(outputs[0].log_probs, batch)
        with torch.no_grad():
            self._log(trainer, pairs)
        return sum(weight * self.loss(name, pairs) for name, weight in own.items()) + of_trl

    def loss(self, name: str, pairs: Pairs) -> torch.Tensor:
        """Return one loss of a pass, a scalar."""
        if name == "sft":  # over tokens; the others are means over pairs
            return -(pairs.weight * pairs.chosen).sum() / pairs.chosen_length.sum()
        return (pairs.weight * self._of_each_pair(name, pairs)).mean()

    def _of_each_pair(self, name: str, pairs: Pairs) -> torch.Tensor:
        """Return `[B]` losses. A margin is subtracted from the scaled difference (ODPO, arXiv 2402.10571)."""
        if name == "orpo":  # arXiv 2403.07691, eq. 7, lambda being beta
            return -self.config.beta * F.logsigmoid(log_odds_ratio(*pairs.per_token))
        logits = self.config.beta * self._difference(name, pairs) - pairs.margin
        if name == "simpo":  # arXiv 2405.14734, eq. 6
            logits = logits - self.config.simpo_gamma
        if name == "hinge":
            return torch.relu(1 - logits)
        right, wrong = -F.logsigmoid(logits), -F.logsigmoid(-logits)
        noise = self.config.label_smoothing
        if name == "robust":  # arXiv 2403.00409
            return ((1 - noise) * right - noise * wrong) / (1 - 2 * noise)
        if name in REFERENCE_FREE:  # smoothed as in trl.experimental.cpo
            return (1 - noise) * right + noise * wrong
        return right

    def _difference(self, name: str, pairs: Pairs) -> torch.Tensor:
        if name == "simpo":
            chosen, rejected = pairs.per_token
        elif name == "cpo":  # arXiv 2401.08417, eq. 3
            chosen, rejected = pairs.chosen, pairs.rejected
        else:
            chosen, rejected = pairs.chosen - pairs.ref_chosen, pairs.rejected - pairs.ref_rejected
        if name == "sigmoid_norm":
            chosen, rejected = chosen / pairs.chosen_length, rejected / pairs.rejected_length
        return chosen - rejected

    def _with_reference(self, trainer: SharedPrefixDPOTrainer, inputs: Batch) -> Batch:
        """Return the batch with the log-probs of the reference, or with zeros where no loss uses one."""
        if "ref_chosen_logps" in inputs:
            return inputs
        if self.uses_reference:
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, inputs)
        else:
            chosen = rejected = torch.zeros(len(inputs["input_ids"]) // 2, device=inputs["input_ids"].device)
        with_reference: Batch = {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        return with_reference

    def _log(self, trainer: SharedPrefixDPOTrainer, pairs: Pairs) -> None:
        """Log what trl.experimental logs of these losses, under its names; rewards as in a run without reference."""
        metrics = trainer._metrics[trainer.mode]
        if self.rewards_by_token:
            chosen, rejected = (self.config.beta * side for side in pairs.per_token)
            metrics["rewards/chosen"][-1] = chosen.mean()
            metrics["rewards/rejected"][-1] = rejected.mean()
            metrics["rewards/accuracies"][-1] = (chosen > rejected).float().mean()
            metrics["rewards/margins"][-1] = (chosen - rejected).mean()
        if "sft" in self.losses:
            metrics["nll_loss"].append(-pairs.chosen.sum() / pairs.chosen_length.sum())
        if "orpo" in self.own:
            log_odds = log_odds_ratio(*pairs.per_token)
            metrics["log_odds_chosen"].append(log_odds.mean())
            metrics["log_odds_ratio"].append(F.logsigmoid(log_odds).mean())


def log_odds_ratio(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Return log(odds(chosen) / odds(rejected)) of log-probs, where odds(p) = p / (1 - p)."""
    return chosen - _log_of_rest(chosen) - (rejected - _log_of_rest(rejected))


def _log_of_rest(log_prob: torch.Tensor) -> torch.Tensor:
    """Return log(1 - exp(log_prob)), which neither cancels near 0 nor far below it (Mächler 2012, eq. 7)."""
    log_prob = log_prob.clamp(max=SURE)
    near = log_prob > -0.6931
    # each branch gets numbers that it can differentiate, as `where` multiplies the other's gradient by 0
    above, below = log_prob.where(near, -0.5), log_prob.where(~near, -1.0)
    return torch.where(near, torch.log(-torch.expm1(above)), torch.log1p(-torch.exp(below)))
