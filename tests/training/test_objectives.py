"""Losses without a reference, and with margins and weights, equal independent ones, however a step is cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from test_shared_prefix import make_trainer as stock_trainer
from test_shared_prefix import one_step, pairs, with_turns
from test_shares import move_adapter, step
from test_token_budget import LONGEST, config_for
from transformers import AutoTokenizer

from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.data.encoded.rows import TokenRows
from hubdpo.model.bases.find import find_base
from hubdpo.model.bases.load import load_base
from hubdpo.training.step.batch import PairCollator
from hubdpo.training.step.objectives import log_odds_ratio
from hubdpo.training.step.reference import reference_identity
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, use_cached_reference
from hubdpo.training.step.trainer import make_trainer as our_trainer
from tests.near import Step, assert_near, assert_same_step

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
ROWS = 5
FREE: dict[str, dict[str, Any]] = {
    "simpo": {"loss_type": ["simpo"], "beta": 2.0, "simpo_gamma": 0.7},
    "smoothed simpo": {"loss_type": ["simpo"], "beta": 2.0, "label_smoothing": 0.1},
    "cpo": {"loss_type": ["cpo"], "cpo_alpha": 0.5},
    "cpo alone": {"loss_type": ["cpo"], "cpo_alpha": 0.0, "label_smoothing": 0.2},
    "orpo": {"loss_type": ["orpo"], "beta": 0.3},
}


def with_values(data: Dataset) -> Dataset:
    """Pairs with a margin and a weight each; the weights have the mean 1."""
    rows = list(data)
    return Dataset.from_list(
        [{**row, "margin": 0.3 * i, "weight": 2 * (i + 1) / (len(rows) + 1)} for i, row in enumerate(rows)]
    )


def trainer_for(base: Path, out: Path, data: Dataset, *, nf4: bool = False, **options: Any) -> SharedPrefixDPOTrainer:
    """A trainer whose adapter is not that of the first step."""
    trainer = our_trainer(
        config_for(out, **{"gradient_checkpointing": False, **options}),
        load_base(base, device="cpu", load_in_4bit=nf4), AutoTokenizer.from_pretrained(base), TokenRows.of(data),
        TokenRows.of(data),
        device="cpu", steps=1, callbacks=[],
    )  # fmt: skip
    move_adapter(trainer)
    return trainer


def peer_step(trainer: SharedPrefixDPOTrainer, loss: str, options: dict[str, Any]) -> Step:
    """The step of trl.experimental's trainer on the padded batch, with the same model."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    peer = (ORPOTrainer if loss == "orpo" else CPOTrainer).__new__(ORPOTrainer if loss == "orpo" else CPOTrainer)
    settings = {
        "accelerator": trainer.accelerator, "is_encoder_decoder": False, "aux_loss_enabled": False, "alpha": 0.0,
        "pad_token_id": 0, "padding_value": 0, "beta": 0.1, "label_smoothing": 0.0, "simpo_gamma": 0.5,
        "cpo_alpha": 0.0 if loss == "simpo" else 1.0, **options, "loss_type": "simpo" if loss == "simpo" else "sigmoid",
    }  # fmt: skip
    vars(peer).update(settings)
    batch = trainer.batch(list(trainer.train_dataset))
    rows = {
        "input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"],
        "labels": batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100),
    }  # fmt: skip
    sides = zip(("chosen", "rejected"), (0, 1), strict=True)
    inputs = {f"{side}_{name}": value.chunk(2)[half] for side, half in sides for name, value in rows.items()}
    trainer.model.train()
    found, metrics = peer.get_batch_loss_metrics(trainer.model, inputs)
    found.backward()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    # logits are means over other tokens there, and the log-probs of SimPO and ORPO means over tokens
    others = ("logits", "logps", *([] if settings["cpo_alpha"] else ["nll_loss"]))
    same = {name: [value] for name, value in metrics.items() if not name.startswith(others)}
    return found.item(), same, gradients


def short_prompts(count: int) -> Dataset:
    """Pairs with prompts of one token, which has no prediction: trl's ORPO also learns to predict the prompt."""
    return Dataset.from_list([{**row, "prompt_ids": row["prompt_ids"][:1]} for row in pairs("skewed", count)])


@pytest.mark.parametrize("way", ["packed", "padded", "nf4"])
@pytest.mark.parametrize("name", FREE)
def test_losses_without_reference_are_those_of_trl_experimental(
    tiny_base: Path, tmp_path: Path, name: str, way: str
) -> None:
    options = FREE[name]
    loss = options["loss_type"][0]
    data = short_prompts(ROWS) if loss == "orpo" else pairs("skewed", ROWS)
    more = {"nf4": way == "nf4", "shared_prefix": way != "padded", "per_device_train_batch_size": ROWS}
    found = step(trainer_for(tiny_base, tmp_path, data, **more, **options))
    assert_same_step(found, peer_step(trainer_for(tiny_base, tmp_path, data, **more, **options), loss, options))


def test_no_reference_is_run_where_no_loss_uses_one(tiny_base: Path, tmp_path: Path) -> None:
    tokens = []
    for losses in (["simpo", "sft"], ["sigmoid", "simpo"]):
        trainer = trainer_for(tiny_base, tmp_path, pairs("skewed", 2), loss_type=losses)
        step(trainer)
        assert trainer.shared_prefix is not None
        tokens.append(trainer.shared_prefix.packed_tokens)
    assert tokens[1] == 2 * tokens[0]


def test_orpo_learns_the_answer_and_not_the_prompt(tiny_base: Path, tmp_path: Path) -> None:
    """trl.experimental's odds ratio, and its CPO's likelihood of the chosen answer alone."""
    data, options = pairs("long prompts", ROWS), {"loss_type": ["orpo"], "beta": 0.3}
    _, found, _ = step(trainer_for(tiny_base, tmp_path, data, per_device_train_batch_size=ROWS, **options))
    trainer = trainer_for(tiny_base, tmp_path, data, per_device_train_batch_size=ROWS, **options)
    _, odds, _ = peer_step(trainer, "orpo", {"beta": 0.3})
    _, likelihood, _ = peer_step(trainer, "cpo", {})
    for name in ("log_odds_ratio", "log_odds_chosen", "rewards/margins"):
        assert_near(found[name], odds[name], share=1e-5, scale=1, name=name)
    assert_near(found["nll_loss"], likelihood["nll_loss"], share=1e-5)


CUTS: dict[str, dict[str, Any]] = {
    "1 x 5": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 5},
    "2 + 2 + 1": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
    "by tokens": {"per_device_train_batch_size": 8, "tokens_per_batch": LONGEST},
    "by tokens, padded": {"per_device_train_batch_size": 8, "tokens_per_batch": LONGEST, "shared_prefix": False},
}
MIXED: dict[str, dict[str, Any]] = {
    "cpo": FREE["cpo"],
    "orpo": FREE["orpo"],
    "simpo and sft": {"loss_type": ["simpo", "sft"], "loss_weights": [1.0, 0.3], "beta": 2.0},
    "sigmoid and simpo": {"loss_type": ["sigmoid", "simpo"], "loss_weights": [0.4, 0.6], "beta": 0.5},
    "margins and weights": {"loss_type": ["sigmoid", "cpo"], "margin_columns": ["m"], "weight_column": "w"},
}
SOME_CUTS = [
    (losses, cut) for row, losses in enumerate(MIXED) for column, cut in enumerate(CUTS) if (row + column) % 2 == 0
]


@pytest.mark.parametrize(("losses", "cut"), SOME_CUTS)
def test_a_step_is_the_same_however_it_is_cut(tiny_base: Path, tmp_path: Path, losses: str, cut: str) -> None:
    data, options = with_values(pairs("skewed", ROWS)), MIXED[losses]
    whole = step(trainer_for(tiny_base, tmp_path, data, per_device_train_batch_size=ROWS, **options))
    found = step(trainer_for(tiny_base, tmp_path, data, **CUTS[cut], **options))
    assert_same_step(found, whole)


def by_hand(trainer: SharedPrefixDPOTrainer, losses: str, beta: float) -> Step:
    """Loss and gradients of one pair at a time, from the logits of unpadded rows, in plain PyTorch."""
    total, model = torch.zeros(()), trainer.model.train()
    rows = list(trainer.train_dataset)
    chosen_tokens = sum(len(row["chosen_ids"]) for row in rows)
    for row in rows:
        policy, base = {}, {}
        for side in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([[*row["prompt_ids"], *row[side]]])
            answer = torch.tensor(row[side], dtype=torch.long)
            places = slice(len(row["prompt_ids"]) - 1, -1)

            def log_prob(ids: torch.Tensor = ids, places: slice = places, answer: torch.Tensor = answer) -> Any:
                return -F.cross_entropy(model(ids).logits[0, places], answer, reduction="sum")

            policy[side] = log_prob()
            with torch.no_grad(), model.disable_adapter():
                base[side] = log_prob()
        gap = {
            "sigmoid": policy["chosen_ids"] - base["chosen_ids"] - policy["rejected_ids"] + base["rejected_ids"],
            "sigmoid_norm": (policy["chosen_ids"] - base["chosen_ids"]) / len(row["chosen_ids"])
            - (policy["rejected_ids"] - base["rejected_ids"]) / len(row["rejected_ids"]),
            "simpo": policy["chosen_ids"] / len(row["chosen_ids"]) - policy["rejected_ids"] / len(row["rejected_ids"]),
            "cpo": policy["chosen_ids"] - policy["rejected_ids"],
        }
        logits = beta * gap[losses.removeprefix("hinge ").removeprefix("robust ")] - 0.5 * row["margin"]
        if losses == "hinge sigmoid":
            loss = (1 - logits).clamp(min=0)
        elif losses == "robust sigmoid":
            loss = (-0.9 * F.logsigmoid(logits) + 0.1 * F.logsigmoid(-logits)) / 0.8
        else:
            loss = -F.logsigmoid(logits - (0.7 if losses == "simpo" else 0.0))
        total = total + row["weight"] * loss / len(rows)
        if losses == "cpo":
            total = total - row["weight"] * policy["chosen_ids"] / chosen_tokens
    total.backward()
    return total.item(), {}, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("losses", ["sigmoid", "sigmoid_norm", "hinge sigmoid", "robust sigmoid", "simpo", "cpo"])
def test_margins_and_weights_are_those_of_plain_pytorch(tiny_base: Path, tmp_path: Path, losses: str) -> None:
    rows = [{**row, "margin": 0.5 * row["margin"]} for row in with_values(pairs("skewed", ROWS))]
    options = {
        "loss_type": [losses.partition(" ")[0]], "beta": 0.4, "margin_columns": ["m"], "weight_column": "w",
        **({"label_smoothing": 0.1} if "robust" in losses else {}),
        **({"simpo_gamma": 0.7} if losses == "simpo" else {}),
    }  # fmt: skip
    scaled = trainer_for(tiny_base, tmp_path, Dataset.from_list(rows), **CUTS["2 + 2 + 1"], **options)
    plain = trainer_for(tiny_base, tmp_path, with_values(pairs("skewed", ROWS)), **options)
    found = step(scaled)
    assert_same_step((found[0], {}, found[2]), by_hand(plain, losses, 0.4))


@pytest.mark.parametrize("loss", ["sigmoid", "hinge", "robust", "sigmoid_norm", "sft"])
def test_a_margin_of_0_and_a_weight_of_1_change_nothing(tiny_base: Path, tmp_path: Path, loss: str) -> None:
    data = Dataset.from_list([{**row, "weight": 1.0} for row in pairs("skewed", ROWS)])
    smoothing = {"label_smoothing": 0.1} if loss == "robust" else {}
    options = {"loss_type": [loss], "per_device_train_batch_size": ROWS, **smoothing}
    found = step(trainer_for(tiny_base, tmp_path, data, weight_column="w", **options))
    found[1].pop("nll_loss", None)
    assert_same_step(found, step(trainer_for(tiny_base, tmp_path, pairs("skewed", ROWS), **options)))


SHAPED: dict[str, dict[str, Any]] = {
    "ld_alpha": {"ld_alpha": 0.4},
    "ld_alpha 0, ipo": {"ld_alpha": 0.0, "loss_type": ["ipo"]},
    "wpo": {"use_weighting": True, "loss_type": ["sigmoid", "apo_zero"]},
    "forward_kl": {"f_divergence_type": "forward_kl", "loss_type": ["sigmoid", "sft"]},
    "js": {"f_divergence_type": "js_divergence"},
    "alpha": {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3, "loss_type": ["hinge"]},
    "discopop": {"loss_type": ["discopop"], "discopop_tau": 0.2},
    "all": {"ld_alpha": 0.7, "use_weighting": True, "f_divergence_type": "js_divergence", "beta": 0.3},
}


@pytest.mark.parametrize("reference", ["online", "cached"])
@pytest.mark.parametrize("name", SHAPED)
def test_options_of_trl_are_trls_when_a_step_is_packed_and_cut(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reference: str
) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path))
    data = with_turns(pairs("skewed", ROWS))
    options = {**SHAPED[name], "tokens_per_batch": LONGEST, "lora_r": 4, "lora_alpha": 8}
    ours = trainer_for(tiny_base, tmp_path, data, per_device_train_batch_size=8, **options)
    if reference == "cached":
        use_cached_reference(ours, {})
    stock = stock_trainer(tiny_base, tmp_path, data, remove_unused_columns=False, **SHAPED[name])
    stock.data_collator = PairCollator(stock.data_collator.pad_token_id)
    assert_same_step(step(ours), one_step(stock))


def test_references_are_cached_for_each_ld_alpha_of_their_own(tiny_base: Path, tmp_path: Path) -> None:
    base = find_base(str(tiny_base), None, load_in_4bit=True)
    identities = [
        fingerprint(reference_identity(config_for(tmp_path, **more), base, "cpu"))
        for more in ({}, {"ld_alpha": 0.5}, {"ld_alpha": 1.0}, {"loss_type": "ipo"})
    ]
    assert len({*identities}) == 3
    assert identities[0] == identities[3]


def test_margins_change_no_cached_reference(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBDPO_CACHE", str(tmp_path))
    for data, more in ((pairs("skewed", 2), {}), (with_values(pairs("skewed", 2)), {"margin_columns": ["m"]})):
        use_cached_reference(trainer_for(tiny_base, tmp_path / "run", data, **more), {})
    assert len(list((tmp_path / "reference").iterdir())) == 2  # of training, and of evaluations


def test_the_odds_ratio_has_gradients_at_certain_tokens() -> None:
    log_probs = torch.tensor([0.0, -1e-9, -1e-4, -0.6931, -0.6932, -5.0, -100.0], requires_grad=True)
    found = log_odds_ratio(log_probs, torch.full_like(log_probs, -0.5))
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(log_probs.grad).all()  # type: ignore[arg-type]
    exact = log_probs.detach().double()[2:]
    assert_near(
        found.detach()[2:],
        exact - torch.log(-torch.expm1(exact)) + 0.5 + torch.log(-torch.expm1(torch.tensor(-0.5))),
        share=1e-6,
    )
