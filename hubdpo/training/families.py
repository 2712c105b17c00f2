"""Use the packed forward pass where it gives the log-probs of the padded one, and TRL's own forward pass elsewhere.

Attention says what it cannot repeat in a packed row. What else a model does with tokens that stand side by side, such
as a convolution, a state that runs along the row, or dropout of its own, no flag tells. So before the first step, one
pair runs in both ways, in training mode and without the adapter.

Only rounding may differ. In 16 bits its size depends on the model, so it is measured: as the difference between two
padded rows and the same rows alone.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from hubdpo import console
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.data.encoded.rows import Row, TokenRows, sequence
from hubdpo.errors import UnsupportedBase
from hubdpo.model.memory import is_out_of_memory
from hubdpo.training.step.attention import NotShared
from hubdpo.training.step.batch import Batch, for_trl
from hubdpo.training.step.liger import WITHOUT
from hubdpo.training.step.shared_prefix import IGNORED_LABEL
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer

FLOAT32_ROUNDING, ROUNDING = 1e-4, 3e-3
"""Mean differences of a row's log-probs that are rounding, in float32 and in 16 bits.

In tests/training/families.py, models whose prefix can be shared have 1e-7 and 1e-3 at most, others 8e-3 or more.
"""
MOST_ROUNDINGS = 4
"""In 16 bits, a mean difference is rounding up to so many times that of padded rows and the same rows alone."""


def choose_forward(
    config: TrainConfig, trainer: SharedPrefixDPOTrainer, rows: TokenRows, before: RunManifest | None
) -> tuple[TrainConfig, str | None]:
    """Return the config as the run follows it, and why it runs the stock forward pass where it should share prefixes.

    A resumed run takes the way that it took `before`. Raise UnsupportedBase for a model that TRL itself cannot run, or
    whose log-probs Liger's kernels change.
    """
    _leave_out_router_loss(trainer)
    batch = trainer.batch([_telling_pair(rows[rows.longest(1)[0]])])
    trainer.model.train()
    if trainer.liger is not None:
        _check_liger(trainer, for_trl(batch))
    if before and trainer.not_shared is None and before.config.get("shared_prefix") == config.shared_prefix:
        return config, before.stock_forward
    reason = trainer.not_shared
    if trainer.shared_prefix is not None:
        reason = _difference(trainer, batch)
    # every process goes the same way
    differs = torch.tensor([int(reason is not None)], device=trainer.accelerator.device)
    if not trainer.accelerator.gather(differs).any():
        return config, None
    reason = reason or "the packed one differs in another process"
    trainer.use_stock_forward()
    console.warn(f"`{_family(trainer.model)}` runs TRL's own forward pass, which is slower, because {reason}")
    return config.model_copy(update={"shared_prefix": False}), reason


def _leave_out_router_loss(trainer: SharedPrefixDPOTrainer) -> None:
    """Turn off the auxiliary loss of a mixture of experts where TRL's head would fail on it, with a warning."""
    facts = trainer.model.config.get_text_config()
    asked = trainer.aux_loss_enabled or getattr(facts, "output_router_logits", False)
    if asked and not (hasattr(facts, "num_experts") and hasattr(facts, "num_experts_per_tok")):
        trainer.aux_loss_enabled, trainer.router_aux_loss_coef, facts.output_router_logits = False, 0.0, False
        console.warn(f"the loss that balances experts is left out: TRL cannot compute it for `{facts.model_type}`")


def _family(model: PreTrainedModel) -> str:
    return str(model.config.get_text_config().model_type)


def _telling_pair(row: Row) -> Row:
    """Return a pair as long as a row, with a prefix, answers that differ from their first token on, and padding.

    Its chosen side reaches as far as any of the run, so it crosses every window that the run crosses.
    """
    longer = "chosen" if len(row["chosen_ids"]) >= len(row["rejected_ids"]) else "rejected"
    ids = sequence(row, longer).tolist()
    half = len(ids) // 2
    prompt, answer = ids[:half], ids[half:]
    other = answer[::-1][: max(len(answer) * 3 // 4, 1)]
    if other[0] == answer[0]:
        other[0] = next((token for token in ids if token != answer[0]), answer[0] + 1)
    return {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": other}


def _difference(trainer: SharedPrefixDPOTrainer, batch: Batch) -> str | None:
    """Return in which way the packed forward pass differs from the padded one, None if only by rounding."""
    try:
        padded = _log_probs(trainer, for_trl(batch))
    except Exception as problem:
        if is_out_of_memory(problem):
            raise
        raise UnsupportedBase(
            f"TRL cannot run a `{_family(trainer.model)}` model: {_first_line(problem)}",
            hint="take a base of another family, such as Qwen/Qwen2-7B-Instruct",
        ) from problem
    try:
        apart = _apart(_log_probs(trainer, batch), padded)
        if apart <= _rounding(trainer, batch):
            return None
        return f"log-probs of the packed one differ by {apart:.1g}"
    except NotShared as problem:
        return str(problem)
    except Exception as problem:
        if is_out_of_memory(problem):
            raise
        return f"the packed one fails with {_first_line(problem)}"


def _check_liger(trainer: SharedPrefixDPOTrainer, batch: Batch) -> None:
    """Raise UnsupportedBase where Liger's kernels give other log-probs than the model's own code, but for rounding."""
    ligers, liger = _log_probs(trainer, batch), trainer.liger
    trainer.liger = None
    own = _log_probs(trainer, batch)
    trainer.liger = liger
    if (apart := _apart(ligers, own)) > _rounding(trainer, batch):
        raise UnsupportedBase(
            f"Liger's kernels change the log-probs of a `{_family(trainer.model)}` model by {apart:.1g}", hint=WITHOUT
        )


def _log_probs(trainer: SharedPrefixDPOTrainer, batch: Batch) -> list[torch.Tensor]:
    """Return the log-probs of each row's scored tokens without the adapter, packed where the batch has a layout."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED_LABEL)
    devices = [torch.cuda.current_device()] if trainer.accelerator.device.type == "cuda" else []
    with (
        torch.no_grad(), torch.random.fork_rng(devices), trainer.model.disable_adapter(), trainer.packed(batch),
        trainer.accelerator.autocast(), trainer.compute_loss_context_manager(),
    ):  # fmt: skip
        output = trainer.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, use_cache=False,
            fused_lm_head=True,
        )  # fmt: skip
    scored = labels[:, 1:] != IGNORED_LABEL
    return [row[mask].float() for row, mask in zip(output.log_probs, scored, strict=True)]


def _apart(rows: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """Return the mean difference in the row where it is largest: a state that runs along spoils only the second one."""
    return max(float((row - other).abs().mean()) for row, other in zip(rows, others, strict=True))


def _rounding(trainer: SharedPrefixDPOTrainer, batch: Batch) -> float:
    """Return the mean difference that rounding can make in a row, measured where nothing is random."""
    if trainer.model.dtype == torch.float32 and not trainer.bfloat16:
        return FLOAT32_ROUNDING
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    alone: list[Batch] = [
        {
            "input_ids": batch["input_ids"][i : i + 1, :length],
            "attention_mask": batch["attention_mask"][i : i + 1, :length],
            "completion_mask": batch["completion_mask"][i : i + 1, :length],
        }
        for i, length in enumerate(lengths)
    ]
    trainer.model.eval()
    padded = _log_probs(trainer, for_trl(batch))
    rounding = _apart([_log_probs(trainer, row)[0] for row in alone], padded)
    trainer.model.train()
    return max(ROUNDING, MOST_ROUNDINGS * rounding)


def _first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).strip() or 'no message'}".splitlines()[0]
