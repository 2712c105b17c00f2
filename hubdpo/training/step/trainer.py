"""TRL's DPOTrainer on token ids of ours, with the shared-prefix forward under it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from hubdpo.config import TrainConfig
from hubdpo.errors import TrainingError
from hubdpo.model.device import compute_dtype
from hubdpo.training.lora import adapter_to_float32, lora_config
from hubdpo.training.schedule import batches_of
from hubdpo.training.step.checkpointing import Recomputed
from hubdpo.training.step.collator import AssistantCollator
from hubdpo.training.step.reference import add_reference_log_probs
from hubdpo.training.step.shared_prefix import SharedPrefix
from hubdpo.training.step.shares import TOTALS, Counts, Step, Tally
from hubdpo.training.step.token_budget import Pass, passes

Metrics = defaultdict[str, list[float]]


class SharedPrefixDPOTrainer(DPOTrainer):
    """DPOTrainer whose backbone runs each pair's common prefix once; losses and metrics are TRL's own.

    Every pair weighs alike in its step and in an evaluation, however they are cut into passes. With `tokens_per_batch`
    a batch is all the pairs of a step, which is cut into passes of so many tokens.
    """

    shared_prefix: SharedPrefix | None = None
    tokens_per_batch: int | None = None
    recomputed: Recomputed | None = None
    loss_weights: list[float]
    evaluating = False
    """Left on by an evaluation that fails, whatever mode the model is in."""
    _step: Step
    _held_out: Tally

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # tokenised already

    def _packed(self) -> contextlib.AbstractContextManager[None]:
        return self.shared_prefix.packed() if self.shared_prefix else contextlib.nullcontext()

    def compute_ref_log_probs(self, *args: Any, **kwargs: Any) -> Any:
        with self._packed():
            return super().compute_ref_log_probs(*args, **kwargs)

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        with self._packed():
            result = super()._compute_loss(model, inputs, return_outputs)
        loss = result[0] if return_outputs else result
        if not torch.isfinite(loss):
            rows = ", ".join(map(str, self._rows_of(inputs))) or "unknown"
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, in rows {rows} of the "
                f"{'train' if self.model.training else 'test'} split; the last complete checkpoint is kept",
                hint="look at those rows, or lower `--learning-rate`, then go on with `--resume`",
            )
        return result

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        if self.control.should_training_stop:
            return [], None
        batches, items = super().get_batch_samples(*args, **kwargs)
        if batches:
            self.begin_step(batches)
        return batches, items

    def begin_step(self, batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Note what the step consists of, so that each of its passes weighs as much as it holds."""
        own = [Counts.of(batch) for batch in batches]
        self._step = Step(self._of_all_processes([sum(own[1:], own[0])])[0], len(batches))

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run one of the batches of the step that has begun, in one pass or, by tokens, in several."""
        inputs, several = self._prepare_inputs(inputs), self.accelerator.num_processes > 1
        if self.tokens_per_batch is None:
            cut = [Pass(inputs, Counts.of(inputs))]
        else:
            cut = passes(
                inputs, self.tokens_per_batch, shared_prefix=self.shared_prefix is not None,
                agree=self._largest_of_all_processes if several else lambda costs: costs,
            )  # fmt: skip
        divided_by = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        weights, logged = self.loss_weights, self._metrics["train"]
        loss = torch.zeros((), device=self.accelerator.device)
        try:
            for place, part in enumerate(cut):
                self.loss_weights = self._step.loss_weights(
                    part.counts, self.loss_types, weights, divided_by=divided_by
                )
                self._metrics["train"] = own = Metrics(list)
                # gradients travel between the processes once, with the last pass
                last = place == len(cut) - 1
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    loss += super().training_step(model, part.inputs, *args, **kwargs)
                self._step.tally.add(part.counts, own)
        finally:
            self.loss_weights, self._metrics["train"] = weights, logged
        self._step.batches -= 1
        if not self._step.batches:
            self._step.tally.counts = self._of_all_processes(self._step.tally.counts)
            _log_together(self._step.tally, logged)
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._held_out, self.evaluating = Tally(), True
        output = super().evaluation_loop(*args, **kwargs)
        self.evaluating = False
        _log_together(self._held_out, self._metrics["eval"])
        return output

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inputs, logged = self._prepare_inputs(inputs), self._metrics["eval"]
        self._metrics["eval"] = own = Metrics(list)
        try:
            with self._without_repeats():
                result = super().prediction_step(model, inputs, *args, **kwargs)
                self._held_out.add(Counts.of(inputs, self.accelerator.gather), own)
        finally:
            self._metrics["eval"] = logged
        return result

    @contextlib.contextmanager
    def _without_repeats(self) -> Iterator[None]:
        """Leave out of what TRL gathers the pairs that accelerate repeats so that every process has a last batch."""
        gather, state = self.accelerator.gather, self.accelerator.gradient_state

        def once(tensor: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = gather(tensor)
            return (
                found[: state.remainder] if found.dim() and state.end_of_dataloader and state.remainder > 0 else found
            )

        self.accelerator.gather = once
        try:
            yield
        finally:
            del self.accelerator.gather

    def _of_all_processes(self, counts: list[Counts]) -> list[Counts]:
        if self.accelerator.num_processes == 1 or not counts:
            return counts
        table = torch.tensor([[each.pairs, each.chosen, each.rejected] for each in counts])
        return [Counts(*row) for row in self.accelerator.reduce(table.to(self.accelerator.device)).tolist()]

    def _largest_of_all_processes(self, costs: torch.Tensor) -> torch.Tensor:
        gathered = self.accelerator.gather(costs.to(self.accelerator.device))
        return gathered.view(self.accelerator.num_processes, -1).amax(dim=0)

    def _rows_of(self, inputs: Any) -> list[int]:
        """Return which rows of the split are in a batch, counted from 0."""
        data = self.train_dataset if self.model.training else self.eval_dataset
        places = {
            tuple(row["prompt_ids"] + row["chosen_ids"]): place
            for place, row in enumerate(data if data is not None else [])
        }
        half = inputs["input_ids"].shape[0] // 2
        texts = zip(inputs["input_ids"][:half].tolist(), inputs["attention_mask"][:half].sum(1).tolist(), strict=True)
        found = [places.get(tuple(ids[:length])) for ids, length in texts]
        return [place for place in found if place is not None]


def _log_together(tally: Tally, logged: dict[str, list[float]]) -> None:
    """Log the metrics of several passes as one value each."""
    for name, value in tally.merged().items():
        logged[name] = [value] if name in TOTALS else [*logged[name], value]


def make_trainer(
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    train: Dataset,
    test: Dataset | None,
    *,
    device: str,
    steps: int,
    callbacks: list[Any],
    warmup_steps: int | None = None,
) -> SharedPrefixDPOTrainer:
    """Build the trainer. The reference is the model with its adapter off, so no second model is loaded.

    The warm-up is `--warmup-ratio` of the steps, unless `warmup_steps` says otherwise.
    """
    trainer = SharedPrefixDPOTrainer(
        model=model,
        args=dpo_config(config, device=device, steps=steps, evaluates=test is not None, warmup_steps=warmup_steps),
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        peft_config=lora_config(config, model),
        callbacks=callbacks,
    )
    trainer.data_collator = AssistantCollator(pad_token_id=trainer.data_collator.pad_token_id)
    trainer.remove_callback(PrinterCallback)  # MetricsFile tells the same, for people
    adapter_to_float32(trainer.model)
    if isinstance(config.tokens_per_batch, int):
        trainer.tokens_per_batch = config.tokens_per_batch
    if config.shared_prefix:
        trainer.shared_prefix = SharedPrefix(trainer.model.get_base_model())
    if config.checkpoint_layers is not None:
        layers = trainer.model.config.num_hidden_layers
        count = layers if config.checkpoint_layers == "auto" else config.checkpoint_layers
        trainer.recomputed = Recomputed(trainer.model.get_base_model(), count)
    return trainer


def settled(config: TrainConfig, trainer: SharedPrefixDPOTrainer) -> TrainConfig:
    """Return the config with the numbers that `auto` became, so that a resumed run takes the same."""
    taken: dict[str, int | None] = {}
    if config.tokens_per_batch == "auto":
        taken["tokens_per_batch"] = trainer.tokens_per_batch
    if config.checkpoint_layers == "auto" and trainer.recomputed is not None:
        taken["checkpoint_layers"] = trainer.recomputed.count
    return config.model_copy(update=taken)


def use_cached_reference(trainer: SharedPrefixDPOTrainer, identity: dict[str, Any]) -> None:
    """Give every row its reference log-probs, so that a step runs the policy alone."""
    trainer.train_dataset = _with_reference(trainer, trainer.train_dataset, identity)
    if trainer.eval_dataset is not None:
        trainer.eval_dataset = _with_reference(trainer, trainer.eval_dataset, identity)
    trainer.precompute_ref_logps = True


def _with_reference(trainer: SharedPrefixDPOTrainer, data: Any, identity: dict[str, Any]) -> Dataset:
    return Dataset.from_list(add_reference_log_probs(trainer, data.to_list(), identity=identity))


def dpo_config(
    config: TrainConfig, *, device: str, steps: int, evaluates: bool, warmup_steps: int | None = None
) -> DPOConfig:
    batch, accumulated = batches_of(config)
    args = DPOConfig(
        output_dir=str(Path(config.output_dir)),
        loss_type=config.loss_type,
        loss_weights=config.loss_weights,
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        max_length=None,  # cut already
        remove_unused_columns=False,  # what is read and not scored has columns of its own
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        lr_scheduler_kwargs=config.lr_scheduler_kwargs,
        warmup_steps=round(config.warmup_ratio * steps) if warmup_steps is None else warmup_steps,
        max_steps=steps,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=config.per_device_eval_batch_size,
        gradient_accumulation_steps=accumulated,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        # every weight of the adapter has a part in every pass, so there is none to look for
        ddp_find_unused_parameters=False,
        disable_dropout=config.lora_dropout == 0,
        bf16=compute_dtype(device) == torch.bfloat16,
        fp16=False,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.eval_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        report_to=config.report_to or "none",
        run_name=Path(config.output_dir).absolute().name,
        disable_tqdm=True,
        push_to_hub=False,
    )
    # one GPU a process: where more are visible transformers would wrap the model in DataParallel, which TRL refuses
    args._n_gpu = min(args.n_gpu, 1)
    return args
