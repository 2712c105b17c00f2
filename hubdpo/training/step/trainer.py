"""TRL's DPOTrainer on rows that are tokenised already, with the shared-prefix forward pass under it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from hubdpo import console
from hubdpo.config import TrainConfig
from hubdpo.config.objective import WHOLE_BATCH_LOSSES
from hubdpo.data.encoded.rows import Row, TokenRows
from hubdpo.evaluation.scoring import Once, anew
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.device import compute_dtype
from hubdpo.training.step.adapters import adapter_config, prepare_adapters
from hubdpo.training.step.arguments import dpo_config
from hubdpo.training.step.attention import NotShared
from hubdpo.training.step.batch import Batch, PairCollator, for_trl
from hubdpo.training.step.checkpointing import Recomputed, checkpointed_layers
from hubdpo.training.step.grouping import Groups, GroupSampler, together
from hubdpo.training.step.layout import build_layout, to_device
from hubdpo.training.step.liger import LigerKernels
from hubdpo.training.step.lora import FusedLora, FusedNorms
from hubdpo.training.step.measured import MeasuredDPOTrainer, Sets, each, held_out
from hubdpo.training.step.objectives import Objective
from hubdpo.training.step.passes import Limit, cut_into_passes, in_as_many
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.shared_prefix import SharedPrefix
from hubdpo.training.step.tally import Counts, Step

EVAL_PASSES = 8
"""Passes that a batch of an evaluation may be cut into."""
HINTED_BY = 1000
"""Pairs in which a hint looks for prompts that repeat."""
PLACEHOLDER = Dataset.from_dict({"prompt_ids": [[0]]})
"""TRL asks for a `datasets.Dataset`, which would make lists of the rows."""


@dataclass(frozen=True)
class Measured:
    """Limits of the run's passes: the numbers of the options, measured where an option is `auto`."""

    tokens_per_batch: int | None
    """Tokens of a forward pass; None where a pass holds a number of pairs."""
    checkpoint_layers: int | None
    """Layers that the longest pass recomputes; None where every pass recomputes all or none of them."""
    longest_pass: int | None
    """Tokens of the longest pass, in whose memory shorter ones recompute fewer layers; None where they do not."""


class SharedPrefixDPOTrainer(MeasuredDPOTrainer):
    """DPOTrainer whose backbone runs what sequences share once; losses and metrics are TRL's own.

    A DataLoader's batch is a list of rows. It is cut into passes on the CPU, and each pass is collated and laid out
    there. Every pair weighs the same in its step and in an evaluation, however the pairs are cut.
    """

    objective: Objective
    collate: PairCollator
    shared_prefix: SharedPrefix | None = None
    not_shared: str | None = None
    """Why there is no packed forward pass, where one is asked for."""
    limit = Limit()
    """Of a pass in training."""
    eval_limit = Limit()
    groups: Groups | None = None
    """The prompts of the train split, where their pairs go together."""
    recomputed: Recomputed | None = None
    fused_lora: FusedLora | None = None
    fused_norms: FusedNorms | None = None
    liger: LigerKernels | None = None
    _step: Step

    @property
    def layers(self) -> int:
        """Layers of the model that can be recomputed."""
        return len(checkpointed_layers(self.model.get_base_model()))

    def use_limits(self, measured: Measured) -> None:
        """Train within the token budget and with the recomputed layers that the preflight measured."""
        if measured.tokens_per_batch is not None:
            self.limit = Limit(tokens=measured.tokens_per_batch)
        if self.recomputed is not None and measured.checkpoint_layers is not None:
            self.recomputed.count, self.recomputed.longest = measured.checkpoint_layers, measured.longest_pass

    def use_stock_forward(self) -> None:
        """Run TRL's own forward pass from now on, as without `shared_prefix`."""
        if self.shared_prefix is not None:
            self.shared_prefix.remove()
        for fused in (self.fused_lora, self.fused_norms):
            if fused is not None:
                fused.active = False
        self.shared_prefix = self.fused_lora = self.fused_norms = None

    def _prepare_dataset(self, dataset: TokenRows, *args: object, **kwargs: object) -> TokenRows:
        return dataset  # tokenised already

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Write no card: TRL's knows neither base nor data. `hubdpo push` writes the card of a release."""

    def _get_train_sampler(self, train_dataset: TokenRows | None = None) -> Sampler[int] | None:
        sampler: Sampler[int] | None = self.group_sampler()
        return sampler if sampler is not None else super()._get_train_sampler(train_dataset)

    def group_sampler(self) -> GroupSampler | None:
        """Return what draws the pairs of a prompt together, None where they come as they are drawn."""
        if self.groups is None:
            return None
        return GroupSampler(self.groups, pairs=self.args.train_batch_size, seed=self.args.data_seed)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """Return the rows of a pass as a batch on the device, laid out for the packed forward pass if there is one."""
        batch, device = self.collate(rows), self.accelerator.device
        if self.shared_prefix is not None:  # from tensors that are still on the CPU
            layout = build_layout(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
            batch["layout"] = layout.to(device)
        for name, value in batch.items():
            if isinstance(value, torch.Tensor):
                batch[name] = to_device(value, device)  # type: ignore[literal-required]
        return batch

    def kernels(self) -> contextlib.AbstractContextManager[None]:
        """Return what a training pass computes within: Liger's kernels, where the run has them."""
        return self.liger.on() if self.liger is not None else contextlib.nullcontext()

    @contextlib.contextmanager
    def packed(self, batch: Mapping[str, object]) -> Iterator[None]:
        """Pack the forward passes of the body, which run this batch, where this trainer shares prefixes."""
        layout = batch.get("layout")
        packs = self.shared_prefix.packed(layout) if self.shared_prefix else contextlib.nullcontext()  # type: ignore[arg-type]
        kernels = self.kernels() if self.model.training else contextlib.nullcontext()
        with packs, kernels, self.own_autocast():
            yield

    def compute_ref_log_probs(self, model: PeftModel, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with self.packed(inputs):
            chosen, rejected = super().compute_ref_log_probs(model, for_trl(inputs))
        return chosen, rejected

    def _compute_loss(self, model: PeftModel, inputs: Batch, return_outputs: bool) -> torch.Tensor:
        with self.packed(inputs):
            loss = self.objective.compute(self, super()._compute_loss, model, inputs)
        self.note_loss(loss, inputs.get("row", []))
        return loss

    def get_batch_samples(self, *args: object, **kwargs: object) -> tuple[list[list[Row]], torch.Tensor | int | None]:
        if self.control.should_training_stop:
            return [], None
        batches, items = super().get_batch_samples(*args, **kwargs)
        if batches:
            self.begin_step(batches)
        return batches, items

    def begin_step(self, batches: Sequence[Sequence[Row]]) -> None:
        """Count the pairs of the next step over all processes, which its passes are weighted by."""
        self.check_losses()
        if self.fused_lora is not None:
            self.fused_lora.forget_casts()
        own = sum(map(Counts.of, batches), Counts())
        self._step = Step(self.sum_of_counts(own), len(batches))

    def passes(self, rows: Sequence[Row], limit: Limit) -> list[list[Row]]:
        """Return the rows of each forward pass. All processes have equally many passes."""
        passes = cut_into_passes(rows, limit, packed=self.shared_prefix is not None)
        if self.accelerator.num_processes > 1 and limit != Limit():
            count = torch.tensor([len(passes)], device=self.accelerator.device)
            passes = in_as_many(passes, int(self.accelerator.gather(count).max()))
        return [[rows[index] for index in indices] for indices in passes]

    def training_step(self, model: PeftModel, inputs: list[Row], *args: object, **kwargs: object) -> torch.Tensor:
        """Run one batch of the current step, as one pass or as several."""
        # transformers divides the loss by the first, and DDP averages gradients over the second
        divided_by = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        passes, loss = self.passes(inputs, self.limit), torch.zeros((), device=self.accelerator.device)
        for index, rows in enumerate(passes):
            # the processes exchange gradients once a batch, with its last pass
            synced = contextlib.nullcontext() if index == len(passes) - 1 else self.accumulating(model)
            with (
                synced,
                self.kernels(),
                self.measured("train", self._step, self._step.tally, Counts.of(rows), divided_by),
            ):
                loss += super().training_step(model, self.batch(rows), *args, **kwargs)
        self._step.batches -= 1
        if not self._step.batches:
            self.spent.tokens += self._step.total.tokens
            self.keep_merged("train", self._step.tally, self._step.total)
        return loss

    def prediction_step(
        self, model: PeftModel, inputs: list[Row], *args: object, **kwargs: object
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        own = self._without_repeats(inputs)
        step, mean = Step(Counts.of(own)), torch.zeros((), device=self.accelerator.device)
        for rows in self.passes(own, self.eval_limit):
            # with no pair of its own, a process takes part in the pass of the others and counts nothing
            with self.measured("eval", step, self._held_out, Counts.of(rows)):
                loss, _, _ = super().prediction_step(model, self.batch(rows or inputs[:1]), *args, **kwargs)
            mean += loss
        return mean, None, None

    def _without_repeats(self, rows: list[Row]) -> list[Row]:
        """Return the rows without those that accelerate repeats to fill the last batch of every process."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return rows
        # the processes have consecutive parts of the last batch, whose first `remainder` rows are no repeats
        return rows[: max(state.remainder - self.accelerator.process_index * len(rows), 0)]


def make_trainer(
    config: TrainConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: TokenRows,
    test: TokenRows | None,
    *,
    device: str,
    steps: int,
    callbacks: list[TrainerCallback],
    warmup_steps: int = 0,
    start: StartAdapter | None = None,
    sets: Sets | None = None,
) -> SharedPrefixDPOTrainer:
    """Build the trainer, which evaluates on `test` and on further `sets`. No second model is loaded for the reference.

    It is the model with its adapter disabled, or with the frozen adapter to `start` from in its place.
    """
    held = each(held_out(test, sets or {}), together)
    compares_all = bool(WHOLE_BATCH_LOSSES & {*config.loss_type})
    trainer = SharedPrefixDPOTrainer(
        model=model,
        args=dpo_config(
            config,
            device=device,
            steps=steps,
            evaluates=held is not None,
            warmup_steps=warmup_steps,
            eval_batch=None if compares_all else _eval_batch(config, held),
        ),  # fmt: skip
        train_dataset=PLACEHOLDER,
        eval_dataset=None if held is None else PLACEHOLDER,
        processing_class=tokenizer,
        peft_config=adapter_config(config, model, start),
        callbacks=callbacks,
    )
    trainer.train_dataset, trainer.eval_dataset = train, held
    trainer.objective = objective = Objective.of(config)
    if objective.own:
        trainer.loss_types, trainer.loss_weights = list(objective.losses), list(objective.losses.values())
        trainer.precompute_ref_logps = True  # TRL takes those that the objective gives it
    trainer.collate, trainer.data_collator = PairCollator(trainer.data_collator.pad_token_id), list
    if isinstance(config.tokens_per_batch, int):
        trainer.limit = Limit(tokens=config.tokens_per_batch)
    elif config.group_prompts:
        trainer.limit = Limit(pairs=config.per_device_train_batch_size)
    if not compares_all:
        trainer.eval_limit = Limit(pairs=config.per_device_eval_batch_size)
    if config.group_prompts:
        trainer.groups = Groups(train)
    trainer.follow_ddp(bfloat16=compute_dtype(device, config.dtype) == torch.bfloat16)
    trainer.remove_callback(PrinterCallback)  # StepLines prints the metrics
    prepare_adapters(trainer.model, config, start)
    if config.shared_prefix:
        try:
            trainer.shared_prefix = SharedPrefix(trainer.model.get_base_model())
        except NotShared as problem:
            trainer.not_shared = str(problem)
        if trainer.shared_prefix and not trainer.shards_weights:
            trainer.fused_lora, trainer.fused_norms = FusedLora(trainer.model), FusedNorms(trainer.model)
    if config.use_liger_kernel:
        trainer.liger = LigerKernels(trainer.model.get_base_model())
    if config.checkpoint_layers is not None and trainer.layers:
        count = trainer.layers if config.checkpoint_layers == "auto" else config.checkpoint_layers
        trainer.recomputed = Recomputed(trainer.model.get_base_model(), count)
    return trainer


def _eval_batch(config: TrainConfig, held: TokenRows | Sets | None) -> int:
    """Return the pairs of an evaluation's batch, which is cut into passes: more of a prompt's pairs meet in a pass."""
    most = max(map(len, held.values() if isinstance(held, dict) else [held or ()]), default=0)
    pairs = min(EVAL_PASSES * config.per_device_eval_batch_size, math.ceil(most / config.num_processes))
    return max(pairs, 1)


def say_groups(config: TrainConfig, trainer: SharedPrefixDPOTrainer) -> None:
    """Print what `--group-prompts` finds, or a hint where it would help: prepared pairs of a prompt lie together."""
    if (sampler := trainer.group_sampler()) is not None:
        console.info(f"groups    {sampler.summary()}")
        if len(trainer.groups or ()) == len(trainer.train_dataset):
            console.warn("no two pairs have the same prompt, so --group-prompts has nothing to put together")
        return
    first: TokenRows = trainer.train_dataset[:HINTED_BY]
    could = config.shared_prefix and not WHOLE_BATCH_LOSSES & {*config.loss_type}
    if could and (prompts := len(Groups(first))) * 3 <= len(first) * 2:
        console.hint(
            f"`--group-prompts` runs a prompt and each of its answers once a step: the first {len(first):,} pairs have "
            f"{console.counted(prompts, 'prompt')}"
        )


def use_cached_reference(trainer: SharedPrefixDPOTrainer, identity: Mapping[str, object], *, once: Once = anew) -> None:
    """Add the reference log-probs to every row, so that a step runs only the policy.

    Each split gets those of the mode in which its policy runs: fused projections, norms and kernels round otherwise.
    """

    def with_reference(data: TokenRows, *, training: bool) -> TokenRows:
        trainer.model.train(training)
        kind = {"fused": training and trainer.fused_lora is not None}
        if training and trainer.liger is not None:
            kind["liger"] = True
        return add_reference_log_probs(trainer, data, identity={**identity, **kind}, once=once)

    trainer.eval_dataset = each(trainer.eval_dataset, lambda data: with_reference(data, training=False))
    trainer.train_dataset = with_reference(trainer.train_dataset, training=True)
    trainer.precompute_ref_logps = True
