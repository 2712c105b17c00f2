"""TRL's DPOTrainer on rows that are tokenised already, with the shared-prefix forward pass under it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput

from hubdpo.config import TrainConfig
from hubdpo.errors import TrainingError
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.device import compute_dtype
from hubdpo.training.step.adapters import adapter_config, prepare_adapters
from hubdpo.training.step.arguments import dpo_config
from hubdpo.training.step.attention import NotShared
from hubdpo.training.step.batch import TOTALS, AssistantCollator, Batch, Counts, Pass, Step, Tally, cut_into_passes
from hubdpo.training.step.checkpointing import Recomputed, checkpointed_layers
from hubdpo.training.step.held_out import NamedEvaluations, Sets, each, held_out
from hubdpo.training.step.liger import LigerKernels
from hubdpo.training.step.lora import FusedLora, FusedNorms
from hubdpo.training.step.objectives import Objective
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.sharded import ShardedDPOTrainer
from hubdpo.training.step.shared_prefix import SharedPrefix

Metrics = defaultdict[str, list[float]]


@dataclass(frozen=True)
class Measured:
    """Limits of the run's passes: the numbers of the options, measured where an option is `auto`."""

    tokens_per_batch: int | None
    """Tokens of a forward pass; None where a pass holds a number of pairs."""
    checkpoint_layers: int | None
    """Layers that the longest pass recomputes; None where every pass recomputes all or none of them."""
    longest_pass: int | None
    """Tokens of the longest pass, in whose memory shorter ones recompute fewer layers; None where they do not."""


class SharedPrefixDPOTrainer(NamedEvaluations, ShardedDPOTrainer):
    """DPOTrainer whose backbone runs each pair's common prefix once; losses and metrics are TRL's own.

    Every pair weighs the same in its step and in an evaluation, however the pairs are cut into passes. With
    `tokens_per_batch` a batch holds all pairs of a step, and is cut into passes of at most that many tokens.
    """

    objective: Objective
    shared_prefix: SharedPrefix | None = None
    not_shared: str | None = None
    """Why there is no packed forward pass, where one is asked for."""
    tokens_per_batch: int | None = None
    recomputed: Recomputed | None = None
    fused_lora: FusedLora | None = None
    fused_norms: FusedNorms | None = None
    liger: LigerKernels | None = None
    loss_weights: list[float]
    router_aux_loss_coef: float
    evaluating = False
    """Stays True when an evaluation fails; `model.training` does not tell that from a failed training pass."""
    _step: Step
    _held_out: Tally

    @property
    def layers(self) -> int:
        """Layers of the model that can be recomputed."""
        return len(checkpointed_layers(self.model.get_base_model()))

    def use_limits(self, measured: Measured) -> None:
        """Train within the token budget and with the recomputed layers that the preflight measured."""
        self.tokens_per_batch = measured.tokens_per_batch
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

    def _prepare_dataset(self, dataset: Dataset, *args: object, **kwargs: object) -> Dataset:
        return dataset  # tokenised already

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """Write no card: TRL's knows neither base nor data. `hubdpo push` writes the card of a release."""

    def kernels(self) -> contextlib.AbstractContextManager[None]:
        """Return what a training pass computes within: Liger's kernels, where the run has them."""
        return self.liger.on() if self.liger is not None else contextlib.nullcontext()

    @contextlib.contextmanager
    def _packed(self) -> Iterator[None]:
        packed = self.shared_prefix.packed() if self.shared_prefix else contextlib.nullcontext()
        kernels = self.kernels() if self.model.training else contextlib.nullcontext()
        with packed, kernels, self.own_autocast():
            yield

    def compute_ref_log_probs(self, model: PeftModel, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with self._packed():
            chosen, rejected = super().compute_ref_log_probs(model, inputs)
        return chosen, rejected

    def _compute_loss(
        self, model: PeftModel, inputs: Batch, return_outputs: bool
    ) -> torch.Tensor | tuple[torch.Tensor, object]:
        with self._packed():
            result = self.objective.compute(self, super()._compute_loss, model, inputs, return_outputs)
        loss = result[0] if return_outputs else result
        if not torch.isfinite(loss):
            rows = ", ".join(map(str, self._rows_of(inputs))) or "unknown"
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, in rows {rows} of the "
                f"{'train' if self.model.training else 'test'} split; the last complete checkpoint is kept",
                hint="check those rows or lower `--learning-rate`, then continue with `--resume`",
            )
        return result

    def get_batch_samples(self, *args: object, **kwargs: object) -> tuple[list[Batch], torch.Tensor | int | None]:
        if self.control.should_training_stop:
            return [], None
        batches, items = super().get_batch_samples(*args, **kwargs)
        if batches:
            self.begin_step(batches)
        return batches, items

    def begin_step(self, batches: Sequence[Batch]) -> None:
        """Count the pairs of the next step over all processes, which its passes are weighted by."""
        if self.fused_lora is not None:
            self.fused_lora.forget_casts()
        own = [Counts.of(batch) for batch in batches]
        self._step = Step(self._sum_over_processes([sum(own[1:], own[0])])[0], len(batches))

    def training_step(self, model: PeftModel, inputs: Batch, *args: object, **kwargs: object) -> torch.Tensor:
        """Run one batch of the current step: as one pass, or with `tokens_per_batch` as several."""
        inputs, several = self._prepare_inputs(inputs), self.accelerator.num_processes > 1
        if self.tokens_per_batch is None:
            passes = [Pass(inputs, Counts.of(inputs))]
        else:
            passes = cut_into_passes(
                inputs, self.tokens_per_batch, shared_prefix=self.shared_prefix is not None,
                agree=self._max_over_processes if several else lambda costs: costs,
            )  # fmt: skip
        # transformers divides the loss by the first, and DDP averages gradients over the second
        divided_by = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        weights, loss = [*self.loss_weights, self.router_aux_loss_coef], torch.zeros((), device=self.accelerator.device)
        try:
            for index, part in enumerate(passes):
                *self.loss_weights, self.router_aux_loss_coef = self._step.loss_weights(
                    part.counts, [*self.loss_types, "aux_loss"], weights, divided_by=divided_by
                )
                # the processes exchange gradients once a batch, with its last pass
                is_last = index == len(passes) - 1
                synced = contextlib.nullcontext() if is_last else self.accumulating(model)
                with synced, self.kernels(), self._tallied("train", self._step.tally, part.counts):
                    loss += super().training_step(model, part.inputs, *args, **kwargs)
        finally:
            *self.loss_weights, self.router_aux_loss_coef = weights
        self._step.batches -= 1
        if not self._step.batches:
            # TRL's metrics are gathered over all processes already, so their weights must be as well
            self._step.tally.counts = self._sum_over_processes(self._step.tally.counts)
            self._log_merged("train", self._step.tally)
        return loss

    def evaluation_loop(self, *args: object, **kwargs: object) -> EvalLoopOutput:
        self._held_out, self.evaluating = Tally(), True
        output = super().evaluation_loop(*args, **kwargs)
        self.evaluating = False
        self._log_merged("eval", self._held_out)
        return output

    def prediction_step(
        self, model: PeftModel, inputs: Batch, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        inputs = self._prepare_inputs(inputs)
        with self._without_repeats():
            counts = Counts.of(inputs, self.accelerator.gather)
            with self._tallied("eval", self._held_out, counts):
                loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        return loss, logits, labels

    @contextlib.contextmanager
    def _tallied(self, mode: str, tally: Tally, counts: Counts) -> Iterator[None]:
        """Put what TRL measures in the body into a tally, and not yet among the metrics that it logs."""
        logged = self._metrics[mode]
        self._metrics[mode] = own = Metrics(list)
        try:
            yield
            tally.add(counts, own)
        finally:
            self._metrics[mode] = logged

    def _log_merged(self, mode: str, tally: Tally) -> None:
        """Log each metric of several passes as one value."""
        logged = self._metrics[mode]
        for name, value in tally.merged().items():
            logged[name] = [value] if name in TOTALS else [*logged[name], value]

    @contextlib.contextmanager
    def _without_repeats(self) -> Iterator[None]:
        """Drop from gathered tensors the pairs that accelerate repeats to fill the last batch of every process."""
        gather, state = self.accelerator.gather, self.accelerator.gradient_state

        def gather_once(tensor: torch.Tensor) -> torch.Tensor:
            gathered = gather(tensor)
            repeats = gathered.dim() and state.end_of_dataloader and state.remainder > 0
            return gathered[: state.remainder] if repeats else gathered

        self.accelerator.gather = gather_once
        try:
            yield
        finally:
            del self.accelerator.gather

    def _sum_over_processes(self, counts: list[Counts]) -> list[Counts]:
        if self.accelerator.num_processes == 1 or not counts:
            return counts
        table = torch.tensor([[each.pairs, each.chosen, each.rejected] for each in counts])
        return [Counts(*row) for row in self.accelerator.reduce(table.to(self.accelerator.device)).tolist()]

    def _max_over_processes(self, costs: torch.Tensor) -> torch.Tensor:
        gathered = self.accelerator.gather(costs.to(self.accelerator.device))
        return gathered.view(self.accelerator.num_processes, -1).amax(dim=0)

    def _rows_of(self, inputs: Batch) -> list[int]:
        """Return the indices, in their split, of the rows in a batch."""
        data = self.train_dataset if self.model.training else self.eval_dataset
        if isinstance(data, dict):
            data = data[self.evaluated]
        indices = {
            tuple(row["prompt_ids"] + row["chosen_ids"]): index
            for index, row in enumerate(data if data is not None else [])
        }
        pairs = len(inputs["input_ids"]) // 2
        lengths = inputs["attention_mask"][:pairs].sum(1).tolist()
        chosen = zip(inputs["input_ids"][:pairs].tolist(), lengths, strict=True)
        rows = [indices.get(tuple(ids[:length])) for ids, length in chosen]
        return [index for index in rows if index is not None]


def make_trainer(
    config: TrainConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    test: Dataset | None,
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
    held = held_out(test, sets or {})
    trainer = SharedPrefixDPOTrainer(
        model=model,
        args=dpo_config(config, device=device, steps=steps, evaluates=held is not None, warmup_steps=warmup_steps),
        train_dataset=train,
        eval_dataset=held,
        processing_class=tokenizer,
        peft_config=adapter_config(config, model, start),
        callbacks=callbacks,
    )
    trainer.objective = objective = Objective.of(config)
    if objective.own:
        trainer.loss_types, trainer.loss_weights = list(objective.losses), list(objective.losses.values())
        trainer.precompute_ref_logps = True  # TRL takes those that the objective gives it
    trainer.data_collator = AssistantCollator(pad_token_id=trainer.data_collator.pad_token_id)
    trainer.follow_ddp(bfloat16=compute_dtype(device, config.dtype) == torch.bfloat16)
    trainer.remove_callback(PrinterCallback)  # StepLines prints the metrics
    prepare_adapters(trainer.model, config, start)
    if isinstance(config.tokens_per_batch, int):
        trainer.tokens_per_batch = config.tokens_per_batch
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


def use_cached_reference(trainer: SharedPrefixDPOTrainer, identity: Mapping[str, object]) -> None:
    """Add the reference log-probs to every row, so that a step runs only the policy.

    Each split gets those of the mode in which its policy runs: fused projections, norms and kernels round otherwise.
    """

    def with_reference(data: Dataset, *, training: bool) -> Dataset:
        trainer.model.train(training)
        kind = {"fused": training and trainer.fused_lora is not None}
        if training and trainer.liger is not None:
            kind["liger"] = True
        return Dataset.from_list(add_reference_log_probs(trainer, data.to_list(), identity={**identity, **kind}))

    trainer.eval_dataset = each(trainer.eval_dataset, lambda data: with_reference(data, training=False))
    trainer.train_dataset = with_reference(trainer.train_dataset, training=True)
    trainer.precompute_ref_logps = True
