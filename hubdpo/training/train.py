"""The train stage: a dataset of preferences and a base in, a run folder with an adapter out."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset

from hubdpo import console
from hubdpo.artefacts.folders.run_folder import remember_places
from hubdpo.artefacts.manifests.file_entries import file_entry
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, PROBES_FILE, RUN_FILE
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.commands import resume_command
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import TrainConfig
from hubdpo.data.load import load_with_reference
from hubdpo.data.tokens.tokenize import PairTokenizer
from hubdpo.errors import ConfigError, Stopped, TrainingError
from hubdpo.evaluation.samples import with_samples
from hubdpo.evaluation.scoring import score_pairs
from hubdpo.machine.endings import LAUNCHED
from hubdpo.model.bases.find import Base, check_base_options, find_base
from hubdpo.model.bases.load import load_base
from hubdpo.model.device import pick_device
from hubdpo.model.memory import out_of_memory_is
from hubdpo.model.pretrained import read_tokenizer
from hubdpo.model.probes import record_probes
from hubdpo.model.room import room_for_base, room_for_reference, room_for_scoring
from hubdpo.model.stopping import stops_elsewhere, unstopped, use_stops, write_stops
from hubdpo.training.launch.processes import check_launch, launch, leave_at_exit, rank, world_size
from hubdpo.training.preflight import out_of_memory, preflight
from hubdpo.training.run.advice import explain_metrics
from hubdpo.training.run.callbacks import CheckpointMarker, MetricsFile, OwnOptions
from hubdpo.training.run.checkpoints import complete_checkpoints, newest_checkpoint
from hubdpo.training.run.output_folder import check_before_start, drop_partial, how_to_go_on
from hubdpo.training.run.record import published_config, save_adapter, versions, whole_adapter
from hubdpo.training.run.resume import Earlier, check_same_experiment, note_changes, steps_to_take, with_measured_of
from hubdpo.training.run.trackers import check_trackers
from hubdpo.training.schedule import Epoch, check_rates, tell_extension
from hubdpo.training.step.trainer import make_trainer, settled, use_cached_reference
from hubdpo.version import __version__


def train(config: TrainConfig | None = None, **options: Any) -> RunManifest:
    """Do as `hubdpo.training.start.train`, which comes first."""
    config = TrainConfig.given(config, options)
    if config.num_processes > 1 and world_size() == 1:
        try:
            launch(config)
        except KeyboardInterrupt:
            raise Stopped(how_to_go_on(config)) from None
        return RunManifest.read(config.output_dir / RUN_FILE)
    leave_at_exit()
    with _folder_for(config) as config:
        return _train(config.model_copy(update={"num_processes": world_size()}))


@contextlib.contextmanager
def _folder_for(config: TrainConfig) -> Iterator[TrainConfig]:
    """Give a dry run a folder of its own, which goes away with it."""
    if not config.dry_run:
        yield config
        return
    with tempfile.TemporaryDirectory(prefix="hubdpo-dry-run-") as place:
        yield config.model_copy(update={"output_dir": Path(place) / "run"})


def _train(config: TrainConfig) -> RunManifest:
    folder, first = config.output_dir, rank() == 0

    # 1. everything that can be refused is refused before anything is written
    found = check_before_start(config)
    if found is None and (folder / RUN_FILE).exists():
        console.info(f"{folder} holds a run that had not saved anything yet; it starts anew")
    earlier = Earlier(found, newest_checkpoint(folder)) if found else None
    check_trackers(config.report_to)
    base = find_base(config.model_name_or_path, config.model_revision, load_in_4bit=config.load_in_4bit)
    check_base_options(config, base)
    data, dataset = load_with_reference(config.dataset)
    device = _own_device(config.device)
    check_launch(device)
    if earlier is not None:
        config = with_measured_of(earlier.manifest, config)
        check_same_experiment(earlier.manifest, config, base.ref, dataset)
        if earlier.manifest.status == "complete" and not config.extend:
            return _nothing_left(config, earlier)

    # 2. tokens
    tokenizer = read_tokenizer(base.folder, config.chat_template_kwargs)
    encoder = PairTokenizer(tokenizer, max_length=config.max_length, prompt_budget=config.prompt_budget)
    train_rows = encoder.rows(data["train"])
    if not train_rows:
        raise ConfigError(
            f"no pair is left to train on: {'; '.join(encoder.dropped())}",
            hint="raise `--max-length`, or mend the rows",
        )
    test_rows = _rows_for_evaluation(config, tokenizer, data.get("test"))

    # 3. the arithmetic, told before it is spent
    steps = steps_to_take(config, len(train_rows), earlier)
    if earlier is not None and earlier.manifest.status == "complete" and steps == earlier.planned:
        return _nothing_left(config, earlier)
    warmup_steps = round(config.warmup_ratio * ((earlier and earlier.first_planned) or steps))
    check_rates(config, steps=steps, warmup_steps=warmup_steps)
    _tell_plan(config, encoder, device, Epoch.of(config, len(train_rows)), steps)
    if earlier is not None and earlier.planned not in (None, steps):
        tell_extension(config, before=earlier.planned, now=steps, warmup_steps=warmup_steps, reached=earlier.step)
    manifest = RunManifest(
        hubdpo_version=__version__, status="running", config=published_config(config), dataset=dataset, base=base.ref,
        versions=versions(), device=_device_name(device), seed=config.seed, planned_steps=steps,
        tokenization=dict(sorted(encoder.counts.items())), end_of_turn=unstopped(base.folder, encoder.end_of_turn),
    )  # fmt: skip
    if (sentence := stops_elsewhere(manifest)) is not None:
        console.warn(sentence)

    # 4. the trainer, and a look at what could stop it
    transformers.set_seed(config.seed)
    metrics = MetricsFile(folder)
    with room_for_base(load_in_4bit=config.load_in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=config.load_in_4bit)
    use_stops(model, manifest)
    with out_of_memory_is(lambda: out_of_memory(config)):
        trainer = make_trainer(
            config, model.dequantize() if config.dequantize_once else model, tokenizer,
            Dataset.from_list(train_rows), Dataset.from_list(test_rows) if test_rows else None, device=device,
            steps=steps, warmup_steps=warmup_steps, callbacks=[metrics, CheckpointMarker(), OwnOptions()],
        )  # fmt: skip
    preflight(config, trainer, train_rows, device=device)
    if "auto" in (config.tokens_per_batch, config.checkpoint_layers):
        config = settled(config, trainer)
        manifest = manifest.model_copy(update={"config": published_config(config)})
    if config.dry_run:
        return manifest
    if config.reference == "cached":
        with room_for_reference():
            use_cached_reference(trainer, _what_the_reference_is(config, base, device))
    elif config.num_train_epochs > 1 and config.max_steps < 0:
        console.hint("`--reference cached` computes the reference log-probs once instead of in every epoch")

    # 5. the run folder opens: what failed until here left nothing
    if first:
        if earlier is not None:
            manifest = note_changes(earlier, manifest)
        drop_partial(folder)  # first: a full disk may need the room
        manifest.write(folder / RUN_FILE)
        remember_places(config)
        metrics.forget_after(earlier.step if earlier else 0)

    # 6. steps
    checkpoint = earlier.checkpoint if earlier else None
    if checkpoint:
        console.info(f"going on from {checkpoint[0].name}")
    started = time.monotonic()
    last = _run_steps(trainer, str(checkpoint[0]) if checkpoint else None, config)
    seconds = time.monotonic() - started
    # 7. the adapter, what it learned, and what the curves say; where FSDP shards the model, all processes take part
    weights = whole_adapter(trainer.model)
    if first:
        save_adapter(trainer.model, weights, base, folder)
        if manifest.end_of_turn is not None:
            write_stops(folder, manifest.end_of_turn)
    if not (first or trainer.is_fsdp_enabled):
        return manifest
    with room_for_scoring(
        config.per_device_eval_batch_size, lambda pairs: resume_command(_evaluating(config, pairs)),
        kept="; all steps are done and saved",
    ):  # fmt: skip
        probes = record_probes(
            trainer.model, tokenizer, load_in_4bit=config.load_in_4bit, template_kwargs=config.chat_template_kwargs
        )
        report = None
        if "test" in data:
            report = score_pairs(
                trainer.model, tokenizer, data["test"], beta=config.beta, max_length=config.max_length,
                prompt_budget=config.prompt_budget, batch_size=config.per_device_eval_batch_size,
            )  # fmt: skip
            report = with_samples(report, trainer.model, tokenizer)
    if not first:
        return manifest
    probes.write(folder / PROBES_FILE)
    if report is not None:
        report.write(folder / EVAL_FILE)
    else:
        console.warn("the dataset has no test split, so the run has no eval.json")
    write_plots(folder)
    for sentence in explain_metrics(
        metrics.lines(), losses=config.loss_type, learning_rate=config.learning_rate, test_pairs=len(test_rows),
        checkpoints=[step for _, step in complete_checkpoints(folder)],
    ):  # fmt: skip
        console.info(f"note: {sentence}")

    # 8. the manifest closes the folder
    seen = last.get("num_tokens", 0.0)
    manifest = manifest.model_copy(
        update={
            "status": "complete",
            "steps": trainer.state.global_step,
            "train_seconds": round(seconds, 2),
            "tokens_per_second": round(seen / seconds, 1) if seen and not checkpoint else None,
            "peak_memory_bytes": _peak_memory(device),
            "metrics": last,
        }
    )
    manifest.write(folder / RUN_FILE)
    return manifest


def _nothing_left(config: TrainConfig, earlier: Earlier) -> RunManifest:
    console.info(f"{config.output_dir} is complete; nothing is left to train")
    return earlier.manifest


def _own_device(wanted: str) -> str:
    """Pick the device, and of several GPUs the one of this process."""
    device = pick_device(wanted)
    if device == "cuda" and world_size() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    elif device == "cuda" and (visible := torch.cuda.device_count()) > 1:
        console.hint(f"{visible} GPUs are visible and one is used; `--num-processes {visible}` takes all of them")
    return device


def _what_the_reference_is(config: TrainConfig, base: Base, device: str) -> dict[str, Any]:
    """Name everything that reference log-probs depend on beside the tokens."""
    weights = base.ref.revision or {path.name: file_entry(path).sha256 for path in base.folder.glob("*.safetensors")}
    return {
        "base": base.ref.name, "weights": weights, "load_in_4bit": config.load_in_4bit, "device": device,
        "shared_prefix": config.shared_prefix,
        "versions": {name: versions()[name] for name in ("torch", "transformers")},
    }  # fmt: skip


def _rows_for_evaluation(config: TrainConfig, tokenizer: Any, test: Any) -> list[dict[str, list[int]]]:
    if test is None:
        return []
    encoder = PairTokenizer(tokenizer, max_length=config.max_length, prompt_budget=config.prompt_budget)
    return encoder.rows(test.select(range(min(len(test), config.max_eval_pairs))))


def _run_steps(trainer: Any, checkpoint: str | None, config: TrainConfig) -> dict[str, float]:
    """Train, and return the last value of every metric that was logged."""

    def no_room() -> TrainingError:
        resume, pairs = newest_checkpoint(config.output_dir) is not None, config.per_device_eval_batch_size
        if not trainer.evaluating or pairs == 1:
            return out_of_memory(config, resume=resume)
        return TrainingError(
            f"the device ran out of memory with {pairs} pairs in an evaluation pass",
            hint=f"--per-device-eval-batch-size {pairs // 2}" + (" --resume" if resume else ""),
        )

    try:
        with out_of_memory_is(no_room):
            trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt:
        if LAUNCHED in os.environ:  # the process that was asked says how to go on
            raise
        raise Stopped(how_to_go_on(config)) from None
    last: dict[str, float] = {}
    for line in trainer.state.log_history:
        last |= {key: float(value) for key, value in line.items() if isinstance(value, (int, float))}
    return {key: value for key, value in sorted(last.items()) if math.isfinite(value)}


def _evaluating(config: TrainConfig, pairs: int) -> TrainConfig:
    return config.model_copy(update={"per_device_eval_batch_size": pairs})


def _tell_plan(config: TrainConfig, encoder: PairTokenizer, device: str, epoch: Epoch, steps: int) -> None:
    counts, pairs = encoder.counts, epoch.rows
    console.info(
        f"device    {_device_name(device)}{'' if device == 'cuda' else ', because no CUDA device was chosen or found'}"
    )
    quantised = "NF4" if config.load_in_4bit else "not quantised"
    console.info(f"base      {config.model_name_or_path}, {quantised}, LoRA r {config.lora_r}")
    console.info(
        f"pairs     {pairs:,} of {counts['rows']:,} rows, {counts['tokens'] / (2 * pairs):.0f} tokens a sequence"
    )
    for sentence in encoder.told():
        console.warn(sentence)
    each = f"{config.per_device_train_batch_size} a forward pass, {config.gradient_accumulation_steps} accumulated"
    if config.tokens_per_batch == "auto":
        each = "as many tokens a forward pass as memory holds"
    elif config.tokens_per_batch:
        each = f"{config.tokens_per_batch:,} tokens a forward pass"
    if config.num_processes > 1:
        each += f", {config.num_processes} processes"
    console.info(f"steps     {steps:,} x {epoch.pairs_per_step} pairs ({each}) = {epoch.done(steps):.2f} epochs")
    if steps >= epoch.steps and epoch.in_last_step < epoch.pairs_per_step:
        console.info(f"          of these, {epoch.in_last_step} in the last step of each epoch")
    if epoch.repeated:
        console.info(f"          repeated in each epoch, so that the processes have as many: {epoch.repeated}")
    if config.learning_rate > 5e-5:
        console.warn(f"learning rate {config.learning_rate:g} is high for DPO with LoRA; 5e-6 is usual")


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
