"""Find in seconds what would stop a run after hours: a full disk, too little memory, a loss that is not finite."""

from __future__ import annotations

import functools
import time
from contextlib import nullcontext

import torch

from hubdpo import console
from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.config import TrainConfig
from hubdpo.config.roles import Role
from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.errors import TrainingError
from hubdpo.machine.refusals import check_room, in_units
from hubdpo.model.memory import bytes_of, kept_bytes, layers_that_fit, out_of_memory_is, tokens_that_fit
from hubdpo.training.step.batch import row_length
from hubdpo.training.step.passes import Limit, cut_into_passes, packed_tokens, padded_tokens
from hubdpo.training.step.trainer import Measured, SharedPrefixDPOTrainer

FLOAT = 4
"""Bytes of a float32: adapter, gradients and logits are float32."""
MEASURED_PAIRS = (1, 2, 4)
"""Pairs in the passes from which `auto` learns the memory of a token."""


SAME_MEMORY = frozenset({
    "beta", "label_smoothing", "learning_rate", "lora_alpha", "lr_scheduler_type", "max_grad_norm", "max_steps",
    "num_train_epochs", "seed", "warmup_ratio", "warmup_steps", "weight_decay",
})  # fmt: skip
"""Options that a step takes the same memory with, whatever their values."""


def kind_of_step(config: TrainConfig) -> str:
    """Return a name that is the same for runs of a sweep whose steps take the same memory."""
    told = {*TrainConfig.names(Role.WEIGHTS, Role.MANNER)} - SAME_MEMORY
    return "preflight " + fingerprint(config.model_dump(mode="json", include=told))


def check_checkpoint_room(config: TrainConfig, trainer: SharedPrefixDPOTrainer) -> None:
    """Raise MachineError when the disk has no room for the checkpoints that are kept."""
    check_room(
        config.output_dir, checkpoint_bytes(config, trainer), "checkpoints",
        hint="another `--output-dir`, a lower `--lora-r`, or a lower `--save-total-limit`",
    )  # fmt: skip


def checkpoint_bytes(config: TrainConfig, trainer: SharedPrefixDPOTrainer) -> int:
    """Return the bytes of the checkpoints that are kept and of the one being written: weights and optimiser state."""
    return (FLOAT + config.optimiser.bytes) * _trained(trainer) * (config.save_total_limit + 1)


def _trained(trainer: SharedPrefixDPOTrainer) -> int:
    return sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)


def preflight(config: TrainConfig, trainer: SharedPrefixDPOTrainer, rows: TokenRows, *, device: str) -> Measured:
    """Run the longest pairs forward and backward once, measure what is `auto`, and leave the trainer as it was.

    Weights, gradients, metrics and random state do not change. Raise TrainingError when memory runs out or the loss is
    not finite.
    """
    budget = trainer.limit.tokens
    if config.tokens_per_batch == "auto":
        budget = _measure_budget(config, trainer, [rows[index] for index in rows.longest(MEASURED_PAIRS[-1])], device)
    largest = _largest_pass(config, trainer, rows, budget)
    layers = trainer.recomputed.count if trainer.recomputed else None
    if config.checkpoint_layers == "auto" and trainer.recomputed:
        layers = _measure_layers(config, trainer, largest, device)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    _one_step(config, trainer, largest, layers=layers)
    seconds = time.monotonic() - began
    peak = f", peak {in_units(torch.cuda.max_memory_allocated())}" if device == "cuda" else ""
    pairs, tokens = len(largest), max(map(row_length, largest))
    frozen = [weight for weight in trainer.model.parameters() if not weight.requires_grad]
    base_bytes = sum(weight.numel() * weight.element_size() for weight in frozen)
    # [2B, T, vocabulary], which stock TRL holds; the packed forward pass only the rows of scored tokens
    logits_bytes = 2 * pairs * tokens * int(trainer.model.config.get_text_config().vocab_size) * FLOAT
    console.info(f"preflight {console.counted(pairs, 'longest pair')}, {tokens:,} tokens, in {seconds:.1f} s{peak}")
    console.info(
        f"memory    weights {in_units(base_bytes)}, adapter with gradients and {config.optim} "
        f"{in_units((2 * FLOAT + config.optimiser.bytes) * _trained(trainer))}, logits up to {in_units(logits_bytes)}; "
        f"checkpoints {in_units(checkpoint_bytes(config, trainer))} on the disk"
    )
    # sharded weights are gathered to recompute a layer, which is collective: every pass recomputes the same layers
    may_vary = layers is not None and not trainer.shards_weights
    return Measured(budget, layers, _pass_tokens(trainer, largest) if may_vary else None)


def _measure_budget(config: TrainConfig, trainer: SharedPrefixDPOTrainer, longest: list[Row], device: str) -> int:
    """Return the tokens of a pass that fit on every process, from passes of one, two and four of the longest pairs."""
    measured: list[tuple[int, int]] = []  # tokens of a pass, bytes that it took
    for count in MEASURED_PAIRS[: max(len(longest), 1)]:
        rows = longest[:count]
        try:
            taken = bytes_of(functools.partial(_one_step, config, trainer, rows), trainer.model, device)
        except TrainingError:
            if not measured:
                raise
            break  # too many pairs: the smaller passes tell how many fit
        measured.append((_pass_tokens(trainer, rows), taken))
    budget = _min_over_processes(
        trainer, tokens_that_fit(measured, device, keeps_layers=config.checkpoint_layers == "auto")
    )
    sizes = " and ".join(f"{tokens:,}" for tokens, _ in measured[-2:])
    console.info(f"tokens    {budget:,} in a forward pass, from the memory that passes of {sizes} tokens took")
    return budget


def _measure_layers(config: TrainConfig, trainer: SharedPrefixDPOTrainer, rows: list[Row], device: str) -> int:
    """Return the fewest layers that the pass of these rows must recompute to fit into memory."""
    layers, longest_pair = trainer.layers, rows[:1]

    def kept_by_longest_pair(count: int) -> int:
        return kept_bytes(lambda: _one_step(config, trainer, longest_pair, layers=count), trainer.model)

    # one layer fewer recomputed is one layer kept; its activations grow with the tokens, from the pair to the pass
    none_kept = kept_by_longest_pair(layers)
    layer = kept_by_longest_pair(layers - 1) - none_kept
    layer_bytes = layer * _pass_tokens(trainer, rows) / _pass_tokens(trainer, longest_pair)
    taken = bytes_of(lambda: _one_step(config, trainer, rows, layers=layers), trainer.model, device)
    kept = _min_over_processes(trainer, min(layers_that_fit(taken, round(layer_bytes), device), layers))
    console.info(
        f"layers    {layers - kept} of {layers} recomputed in the longest pass, each {in_units(layer_bytes)} if kept"
    )
    return layers - kept


def _min_over_processes(trainer: SharedPrefixDPOTrainer, value: int) -> int:
    return int(trainer.accelerator.gather(torch.tensor([value], device=trainer.accelerator.device)).min())


def _pass_tokens(trainer: SharedPrefixDPOTrainer, rows: list[Row]) -> int:
    if trainer.shared_prefix is None:
        return len(rows) * max(map(padded_tokens, rows))
    return packed_tokens(rows)


def _largest_pass(
    config: TrainConfig, trainer: SharedPrefixDPOTrainer, rows: TokenRows, budget: int | None
) -> list[Row]:
    """Return the rows of the largest forward pass that the run can meet, the longest first."""
    longest = rows.longest()
    if budget is None:
        return [rows[index] for index in longest[: config.per_device_train_batch_size]]
    if trainer.shared_prefix is None:  # padded rows of like length go together, the longest first
        worst_step = [rows[index] for index in longest[: config.pairs_per_process]]
        return [worst_step[index] for index in cut_into_passes(worst_step, Limit(tokens=budget), packed=False)[0]]
    # a pass can be as full as the budget allows: with the longest rows, and with shorter ones that fit beside them. At
    # most a packed pair has all of its tokens, when its answers begin differently
    most = rows.lengths.sum(axis=1).tolist()
    chosen, used = longest[:1], most[longest[0]]
    for index in longest[1:]:
        if len(chosen) == config.pairs_per_process:
            break
        if used + most[index] <= budget:
            chosen.append(index)
            used += most[index]
    return [rows[index] for index in chosen]


def _one_step(
    config: TrainConfig, trainer: SharedPrefixDPOTrainer, rows: list[Row], *, layers: int | None = None
) -> None:
    """Run one forward and backward pass as training does, and restore gradients, metrics and random state.

    `layers` of it are recomputed; None leaves that to the trainer.
    """
    model, metrics = trainer.model, trainer._metrics["train"]
    if config.gradient_checkpointing:  # transformers enables it at the first step
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs)
    model.train()
    # only this process's GPU: reading the state of another GPU opens a CUDA context there
    devices = [torch.cuda.current_device()] if trainer.accelerator.device.type == "cuda" else []
    fixed = trainer.recomputed.fixed(layers) if trainer.recomputed and layers is not None else nullcontext()
    try:
        with (
            out_of_memory_is(lambda: out_of_memory(config, layers=trainer.layers)),
            fixed,
            trainer.kernels(),
            torch.random.fork_rng(devices=devices),
        ):
            # the trainer puts its model under autocast only when it trains
            with trainer.accelerator.autocast(), trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(model, trainer.batch(rows))
            loss.backward()
            trainer.check_losses()
    finally:
        model.zero_grad()
        metrics.clear()


def out_of_memory(config: TrainConfig, *, layers: int = 0, resume: bool = False) -> TrainingError:
    """Return the error for a device that ran out of memory; its hint are options that keep the run's results.

    `layers` are those of the model, where it is loaded; `resume` tells that there is a checkpoint to resume from.
    """
    cause, options = _less_memory(config, layers)
    if options is None:
        hint = "a lower `--max-length`" + (", which is another run: give another `--output-dir`" if resume else "")
    else:
        hint = f"{options} --resume" if resume else options
    return TrainingError(f"the device ran out of memory with {cause}", hint=hint)


def _less_memory(config: TrainConfig, layers: int) -> tuple[str, str | None]:
    """Return what took the memory, and the options that take less in the same steps; None when there are none."""
    pairs = config.per_device_train_batch_size
    if config.dequantize_once:
        return "the base de-quantised", "--no-dequantize-once"
    if isinstance(config.checkpoint_layers, int) and config.checkpoint_layers < layers:
        return "layers that are not recomputed", f"--checkpoint-layers {layers}"
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
