"""What would stop a run after hours, found in seconds: room on the disk, memory for the longest pairs, a loss."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.errors import TrainingError
from hubdpo.machine.refusals import check_room, in_units
from hubdpo.model.memory import bytes_of, kept_bytes, layers_that_fit, out_of_memory_is, tokens_that_fit
from hubdpo.training.step.token_budget import fill, pair_costs

Row = dict[str, list[int]]

FLOAT = 4
MOMENTS = 2
"""Of AdamW, each as large as the weights (Loshchilov & Hutter 2019)."""

MEASURED_PAIRS = (1, 2, 4)
"""Pairs in the passes that tell `auto` what a token takes."""


@dataclass(frozen=True)
class Preflight:
    """Bytes and seconds of a step on the longest pairs, and the bytes that the checkpoints will take."""

    base_bytes: int
    adapter_bytes: int
    logits_bytes: int
    checkpoint_bytes: int
    longest_tokens: int
    seconds: float
    peak_bytes: int | None


def preflight(config: TrainConfig, trainer: Any, rows: list[Row], *, device: str) -> Preflight:
    """Run the longest pairs forward and backward, leaving weights, metrics and random state as they were.

    Raise MachineError when the disk is too small, TrainingError when memory runs out or the loss is not finite.
    """
    model = trainer.model
    weights = [(p, p.numel() * p.element_size()) for p in model.parameters()]
    adapter = sum(p.numel() * FLOAT for p, _ in weights if p.requires_grad)
    checkpoints = (1 + MOMENTS) * adapter * (config.save_total_limit + 1)
    check_room(
        config.output_dir, checkpoints, "checkpoints",
        hint="another `--output-dir`, a lower `--lora-r`, or a lower `--save-total-limit`",
    )  # fmt: skip
    longest = sorted(rows, key=_tokens, reverse=True)
    if config.tokens_per_batch == "auto":
        trainer.tokens_per_batch = _measured_budget(config, trainer, longest[: MEASURED_PAIRS[-1]], device)
    batch = _first_pass(config, trainer, longest)
    if trainer.recomputed is not None:
        if config.checkpoint_layers == "auto":
            trainer.recomputed.count = _measured_layers(config, trainer, batch, device)
        if not trainer.is_fsdp_enabled:  # which may gather weights to recompute: all processes must do the same
            trainer.recomputed.longest = _pass_tokens(trainer, batch)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    _one_step(config, trainer, batch)
    found = Preflight(
        base_bytes=sum(size for p, size in weights if not p.requires_grad),
        adapter_bytes=adapter,
        logits_bytes=2 * len(batch) * _tokens(longest[0]) * int(model.config.vocab_size) * FLOAT,
        checkpoint_bytes=checkpoints,
        longest_tokens=_tokens(longest[0]),
        seconds=time.monotonic() - began,
        peak_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else None,
    )
    _tell(found, len(batch))
    return found


def _measured_budget(config: TrainConfig, trainer: Any, longest: list[Row], device: str) -> int:
    """Measure the longest pair alone and with others; processes that train together take what fits on each of them."""
    measured: list[tuple[int, int]] = []
    for count in MEASURED_PAIRS[: max(len(longest), 1)]:
        rows = longest[:count]
        try:
            taken = bytes_of(lambda: _one_step(config, trainer, rows), trainer.model, device)  # noqa: B023
        except TrainingError:
            if not measured:
                raise
            break  # so many do not fit: the smaller passes say what does
        measured.append((_pass_tokens(trainer, rows), taken))
    both = config.checkpoint_layers == "auto"
    budget = _least(trainer, tokens_that_fit(measured, device, keeps_layers=both))
    sizes = " and ".join(f"{tokens:,}" for tokens, _ in measured[-2:])
    console.info(f"tokens    {budget:,} a forward pass, from the memory that {sizes} took")
    return budget


def _measured_layers(config: TrainConfig, trainer: Any, batch: list[Row], device: str) -> int:
    """Measure the largest pass with every layer recomputed, and what one layer more keeps of the longest pair."""
    recomputed, step = trainer.recomputed, lambda: _one_step(config, trainer, batch[:1])
    least = kept_bytes(step, trainer.model)
    recomputed.count -= 1
    layer = kept_bytes(step, trainer.model) - least
    recomputed.count += 1
    taken = bytes_of(lambda: _one_step(config, trainer, batch), trainer.model, device)
    share = _pass_tokens(trainer, batch) / _pass_tokens(trainer, batch[:1])
    keeps = _least(trainer, min(layers_that_fit(taken, round(layer * share), device), recomputed.count))
    count: int = recomputed.count - keeps
    each = in_units(layer * share)
    console.info(f"layers    {count} of {recomputed.count} recomputed in the longest pass, each {each} if kept")
    return count


def _least(trainer: Any, value: int) -> int:
    """Return the least of the values of all processes."""
    values = torch.tensor([value], device=trainer.accelerator.device)
    return int(trainer.accelerator.gather(values).min())


def _pass_tokens(trainer: Any, rows: list[Row]) -> int:
    """Return the tokens that the backbone runs for these pairs in one pass."""
    batch = trainer.data_collator(rows)
    if trainer.shared_prefix is None:
        return int(batch["input_ids"].numel())
    return int(pair_costs(batch, shared_prefix=True).sum())


def _first_pass(config: TrainConfig, trainer: Any, longest: list[Row]) -> list[Row]:
    """Return the pairs of the largest forward pass that the run can meet."""
    if trainer.tokens_per_batch is None:
        return longest[: config.per_device_train_batch_size]
    candidates = longest[: config.pairs_per_process]
    shared = trainer.shared_prefix is not None
    costs = pair_costs(trainer.data_collator(candidates), shared_prefix=shared).tolist()
    ordered = [row for _, row in sorted(zip(costs, candidates, strict=True), key=lambda pair: pair[0], reverse=True)]
    return ordered[: fill(sorted(costs, reverse=True), trainer.tokens_per_batch, padded=not shared)[0]]


def out_of_memory(config: TrainConfig, *, resume: bool = False) -> TrainingError:
    """Return the error of a device that is too small, with what to change in the command so that the run is the same.

    With `resume` a checkpoint is there to go on from.
    """
    what, options = _less_memory(config)
    if options is None:
        hint = "a lower `--max-length`" + (", which is another run: give another `--output-dir`" if resume else "")
    else:
        hint = options + (
            " --resume" if resume and options.startswith("--") else ", and add `--resume`" if resume else ""
        )
    return TrainingError(f"the device ran out of memory with {what}", hint=hint)


def _less_memory(config: TrainConfig) -> tuple[str, str | None]:
    """Return what took the memory, and the options that take less in the same steps, None where there are none."""
    pairs = config.per_device_train_batch_size
    if config.dequantize_once:
        return "the base de-quantised", "--no-dequantize-once"
    if isinstance(config.checkpoint_layers, int):
        return "layers that are not recomputed", "leave `--checkpoint-layers` out"
    if config.tokens_per_batch is not None:
        least, now = config.max_length, config.tokens_per_batch
        if now != least:
            lower = least if now == "auto" else max(now // 2, least)
            return "the tokens of one forward pass", f"--tokens-per-batch {lower}"
    elif pairs > 1:
        fewer = max(size for size in range(1, pairs // 2 + 1) if pairs % size == 0)
        more = config.gradient_accumulation_steps * pairs // fewer
        return (
            f"{pairs} pairs in a forward pass",
            f"--per-device-train-batch-size {fewer} --gradient-accumulation-steps {more}",
        )
    if not config.gradient_checkpointing:
        return "all activations kept", "--gradient-checkpointing"
    return "the fewest pairs in a forward pass", None


def _one_step(config: TrainConfig, trainer: Any, longest: list[Row]) -> None:
    model, metrics, seen = trainer.model, trainer._metrics["train"], trainer._total_train_tokens
    if config.gradient_checkpointing:  # as transformers does at the first step
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs)
    model.train()
    # the state of other GPUs is not touched: to ask for it opens a context on each
    devices = [torch.cuda.current_device()] if trainer.accelerator.device.type == "cuda" else []
    try:
        with out_of_memory_is(lambda: out_of_memory(config)), torch.random.fork_rng(devices=devices):
            batch = trainer._prepare_inputs(trainer.data_collator(longest))
            # the trainer wraps its model in autocast once it trains; until then a forward would be another computation
            with trainer.accelerator.autocast(), trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(model, batch)
            loss.backward()
    finally:
        model.zero_grad()
        metrics.clear()
        trainer._total_train_tokens = seen


def _tokens(row: Row) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _tell(found: Preflight, pairs: int) -> None:
    peak = f", peak {in_units(found.peak_bytes)}" if found.peak_bytes is not None else ""
    adapter = in_units(4 * found.adapter_bytes)
    console.info(f"preflight {pairs} longest pairs, {found.longest_tokens:,} tokens, in {found.seconds:.1f} s{peak}")
    console.info(
        f"memory    weights {in_units(found.base_bytes)}, adapter with gradients and AdamW {adapter}, "
        f"logits up to {in_units(found.logits_bytes)}; checkpoints {in_units(found.checkpoint_bytes)} on the disk"
    )
