"""The train stage: from a dataset of preferences and a base to a run folder with an adapter."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
from pathlib import Path

import torch
import transformers
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedTokenizerBase

from hubdpo import console
from hubdpo.artefacts.folders.journal import Journal
from hubdpo.artefacts.folders.kinds import RUN_FILES, entries_of
from hubdpo.artefacts.folders.run_folder import remember_places, resume_command
from hubdpo.artefacts.formats.pair_scores import to_lines
from hubdpo.artefacts.manifests.evaluation import EvalReport
from hubdpo.artefacts.manifests.manifest import EVAL_FILE, EVAL_PAIRS_FILE, PROBES_FILE, RUN_FILE, write_atomic
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import TrainConfig
from hubdpo.config.needs import check_needs
from hubdpo.config.objective import uses_reference
from hubdpo.data.encoded.encoded import EncodedSplit
from hubdpo.errors import TrainingError
from hubdpo.evaluation.models import Models, weights_in_words
from hubdpo.evaluation.ranking import score_encoded
from hubdpo.evaluation.samples import samples_of
from hubdpo.model.adapters.start import find_start
from hubdpo.model.bases.find import check_base_options
from hubdpo.model.device import pick_device
from hubdpo.model.generation import stops_elsewhere, unstopped, use_stops, write_stops
from hubdpo.model.memory import out_of_memory_is, room_for_scoring
from hubdpo.model.probes import record_probes
from hubdpo.model.tokenizer.own_template import template_for
from hubdpo.training.common import Common
from hubdpo.training.families import choose_forward
from hubdpo.training.launch.processes import launch, leave_at_exit, rank, world_size
from hubdpo.training.preflight import check_checkpoint_room, kind_of_step, out_of_memory, preflight
from hubdpo.training.run import resume
from hubdpo.training.run.advice import explain_metrics
from hubdpo.training.run.best import Selection, take_best
from hubdpo.training.run.output_folder import (
    complete_checkpoints,
    delete_partial_files,
    newest_checkpoint,
    stopped_at_ctrl_c,
)
from hubdpo.training.run.record import CheckpointMarker, MetricsFile, gather_adapter, published_config, save_adapter
from hubdpo.training.run.resume import EarlierRun, OwnOptions, find_earlier_run
from hubdpo.training.run.steps import StepLines, StopAtStep
from hubdpo.training.run.tracked import TrackedRuns
from hubdpo.training.schedule import Epoch, check_rates, print_extension, print_plan
from hubdpo.training.sharding import check_sharding
from hubdpo.training.step.liger import of_family
from hubdpo.training.step.reference import reference_identity
from hubdpo.training.step.spent import SUMMARY
from hubdpo.training.step.tally import TOTAL
from hubdpo.training.step.trainer import SharedPrefixDPOTrainer, make_trainer, say_groups, use_cached_reference
from hubdpo.version import __version__, library_versions, requirement


def train(config: TrainConfig, common: Common, journal: Journal) -> RunManifest:
    """Train as `hubdpo.training.start.train` says, which resolved this config and locked the output folder.

    A sweep gives each of its runs the same `common`, where the first one leaves what the others need. The journal
    takes what happens from the moment on when the run folder is opened.
    """
    if config.num_processes > 1 and world_size() == 1:
        try:
            with stopped_at_ctrl_c(config):
                launch(config)
        finally:
            if (config.output_dir / RUN_FILE).exists():  # the first process has opened the folder
                journal.open(config.output_dir, f"{config.num_processes} processes")
        return RunManifest.read(config.output_dir / RUN_FILE)
    leave_at_exit()
    folder, is_first = config.output_dir, rank() == 0

    # 1. refuse what can be refused before anything is written
    earlier = find_earlier_run(config)
    start = find_start(config.adapter) if config.adapter is not None else None
    config, started_from = (start.settle(config), start.ref) if start is not None else (config, None)
    base = common.base_files(config)
    check_base_options(config, base)
    _, dataset = common.data(config)
    device = _own_device(config.device)
    check_needs(config, cuda=device == "cuda")
    if config.use_liger_kernel:
        of_family(str(base.facts.config["model_type"]))
    sharding = check_sharding(device, config)
    if device == "cuda" and not (sharding and sharding.shards_weights):  # the preflight measures the whole model
        config = config.for_gpu(earlier.manifest.config if earlier else None)
    if earlier is not None:
        config = resume.as_before(config, earlier.manifest, base.facts)
        resume.check_same_experiment(earlier.manifest, config, base.ref, dataset, started_from, sharding)
        if earlier.is_complete and not config.extend:
            return _nothing_left(config, earlier)

    # 2. tokenize the pairs
    pairs = common.pairs(config)
    tokenizer, account, train_rows = pairs.tokenizer, pairs.account, pairs.train

    # 3. count the steps, and print the plan
    steps = resume.steps_to_take(config, len(train_rows), earlier)
    if earlier is not None and earlier.is_complete and steps == earlier.planned:
        return _nothing_left(config, earlier)
    warmup_steps = config.warmup((earlier and earlier.first_planned) or steps)
    check_rates(config, steps=steps, warmup_steps=warmup_steps)
    print_plan(config, account, _device_name(device), Epoch.of(config, len(train_rows)), steps)
    checkpoint = earlier.checkpoint if earlier else None
    if checkpoint:
        left = console.counted(steps - checkpoint.step, "step")
        console.info(f"resumes   from {checkpoint.folder.name}, {left} left")
    if earlier is not None and earlier.planned is not None and earlier.planned != steps:
        print_extension(config, before=earlier.planned, now=steps, warmup_steps=warmup_steps, reached=earlier.step)

    # 4. load the base, build the trainer, and try the longest pairs
    stopping, tracked = StopAtStep(), TrackedRuns(config.report_to)
    model = common.base(config, device)
    transformers.set_seed(config.seed)  # after the base, which another run may have loaded
    place = tempfile.TemporaryDirectory(prefix="hubdpo-dry-run-") if config.dry_run else contextlib.nullcontext(folder)
    with out_of_memory_is(lambda: out_of_memory(config)), place as made_in:
        trainer = make_trainer(
            config.model_copy(update={"output_dir": Path(made_in)}),
            model, tokenizer,
            train_rows, pairs.evaluated if len(pairs.evaluated) else None, device=device,
            steps=steps, warmup_steps=warmup_steps, start=start, sets=pairs.sets,
            callbacks=[CheckpointMarker(), OwnOptions(), Selection(config), stopping, tracked],
        )  # fmt: skip
    spent = trainer.spent
    metrics, lines = MetricsFile(folder, spent), StepLines(spent)
    trainer.add_callback(metrics)
    trainer.add_callback(lines)
    trainer.check_sharded(sharding)
    common.once(f"groups of {config.group_prompts}", lambda: say_groups(config, trainer))
    with out_of_memory_is(lambda: out_of_memory(config, layers=trainer.layers)):
        config, stock_forward = choose_forward(config, trainer, train_rows, earlier.manifest if earlier else None)
    check_checkpoint_room(config, trainer)
    measured = common.once(kind_of_step(config), lambda: preflight(config, trainer, train_rows, device=device))
    trainer.use_limits(measured)
    config = resume.fill_auto(config, dataclasses.asdict(measured))
    manifest = RunManifest(
        hubdpo_version=__version__, hubdpo_from=requirement(), status="running",
        config=published_config(config), dataset=dataset, base=base.ref,
        started_from=started_from, versions=library_versions(), device=_device_name(device), sharding=sharding,
        seed=config.seed, planned_steps=steps, tokenization=dict(sorted(account.counts.items())),
        end_of_turn=unstopped(base.folder, account.end_of_turn), stock_forward=stock_forward,
        evaluation_sets=pairs.facts, eval_pairs=len(pairs.evaluated),
    )  # fmt: skip
    if (sentence := stops_elsewhere(manifest)) is not None:
        console.warn(sentence)
    use_stops(trainer.model, manifest)
    if config.dry_run:
        return manifest
    if config.reference == "cached":
        message = "the device ran out of memory while the reference log-probs were computed"
        with out_of_memory_is(lambda: TrainingError(message, hint="--reference online")):
            use_cached_reference(trainer, reference_identity(config, base, device, start), once=common.once)
    elif config.num_train_epochs > 1 and config.max_steps < 0 and uses_reference(config.loss_type):
        console.hint("`--reference cached` computes the reference log-probs once instead of in every epoch")

    # 5. open the run folder; a failure before this line leaves nothing in it
    if is_first:
        manifest = resume.note_changes(earlier, manifest) if earlier else manifest
        delete_partial_files(folder)  # before anything is written: a full disk may need the room
        manifest.write(folder / RUN_FILE)
        remember_places(config)
        journal.open(folder, f"training from step {earlier.step if earlier else 0:,}")
        metrics.forget_after(earlier.step if earlier else 0)

    # 6. take the steps
    out_of = out_of_memory_is(lambda: _out_of_memory_in(trainer, config))
    with stopped_at_ctrl_c(config), stopping.listening(), out_of, console.progress("training", steps) as lines.bar:
        trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
    if stopping.stops:  # the launching process says so
        return manifest
    took, seconds = spent.total, spent.seconds
    chosen = take_best(trainer, config) if config.load_best_model_at_end else None
    last = _last_metrics(trainer, until=chosen.step if chosen else None)
    taken = trainer.state.global_step - (checkpoint.step if checkpoint else 0)
    speed = f", {spent.tokens / seconds:,.0f} tokens/s" if spent.tokens else ""
    console.info(f"trained   {console.counted(taken, 'step')} in {console.duration(seconds)}{speed}")
    if took is None:
        console.info("note: an earlier hubdpo began this run, and kept no time: run.json has neither time nor memory")
        last = {name: value for name, value in last.items() if not name.endswith(TOTAL)}

    # 7. save the adapter, score it, and close the run folder; a sharded model needs all processes for both
    weights = gather_adapter(trainer.model)
    if is_first:
        source = template_for(config.chat_template, tokenizer) if config.chat_template is not None else None
        save_adapter(trainer.model, weights, base, folder, source)
        if manifest.end_of_turn is not None:
            write_stops(folder, manifest.end_of_turn)
    if is_first or trainer.shards_weights:
        with stopped_at_ctrl_c(config):
            _score(config, trainer, tokenizer, pairs.test, common)
    if not is_first:
        return manifest
    write_plots(folder, chosen=chosen.step if chosen else None)
    for sentence in explain_metrics(
        metrics.lines(until=chosen.step if chosen else None), losses=config.loss_type, moved=config.moves_losses,
        learning_rate=config.learning_rate, test_pairs=len(pairs.evaluated),
        checkpoints=[checkpoint.step for checkpoint in complete_checkpoints(folder)],
    ):  # fmt: skip
        console.info(f"note: {sentence}")
    manifest = manifest.model_copy(
        update={
            "status": "complete",
            "steps": trainer.state.global_step,
            "chosen": chosen,
            "train_seconds": took and round(took.seconds, 2),
            "tokens_per_second": round(took.tokens / took.seconds, 1) if took and took.tokens else None,
            "peak_memory_bytes": spent.total and spent.total.peak_bytes,
            "tracked": tracked.runs,
            "metrics": last,
            "files": entries_of(folder, RUN_FILES),
        }
    )
    manifest.write(folder / RUN_FILE)
    return manifest


def _nothing_left(config: TrainConfig, earlier: EarlierRun) -> RunManifest:
    console.info(f"{config.output_dir} is complete; nothing is left to train")
    return earlier.manifest


def _own_device(requested: str) -> str:
    """Return the device, and select the GPU of this process when there are several processes."""
    device = pick_device(requested)
    if device == "cuda" and world_size() > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    elif device == "cuda" and (visible := torch.cuda.device_count()) > 1:
        console.hint(f"{visible} GPUs are visible and one is used; `--num-processes {visible}` uses all of them")
    return device


def _out_of_memory_in(trainer: SharedPrefixDPOTrainer, config: TrainConfig) -> TrainingError:
    saved, pairs = newest_checkpoint(config.output_dir) is not None, config.per_device_eval_batch_size
    if not trainer.evaluating or pairs == 1:
        return out_of_memory(config, layers=trainer.layers, resume=saved)
    return TrainingError(
        f"the device ran out of memory with {pairs} pairs in an evaluation pass",
        hint=f"--per-device-eval-batch-size {pairs // 2}" + (" --resume" if saved else ""),
    )


def _last_metrics(trainer: SharedPrefixDPOTrainer, *, until: int | None) -> dict[str, float]:
    """Return the last value of each metric, up to a step; the summary of the whole run is always among them."""
    last: dict[str, float] = {}
    for line in trainer.state.log_history:
        if until is not None and line["step"] > until and SUMMARY not in line:
            continue
        last |= {key: float(value) for key, value in line.items() if isinstance(value, (int, float))}
    return {key: value for key, value in sorted(last.items()) if math.isfinite(value)}


def _score(
    config: TrainConfig, trainer: SharedPrefixDPOTrainer, tokenizer: PreTrainedTokenizerBase, test: EncodedSplit | None,
    common: Common,
) -> None:  # fmt: skip
    """Score the adapter on our probes, and on the test split where there is one; rank 0 writes the results."""

    def command_with(pairs: int) -> str:
        return resume_command(config.model_copy(update={"per_device_eval_batch_size": pairs}))

    model, pairs = trainer.model, config.per_device_eval_batch_size
    if rank() == 0:
        console.info("now probes, the ranking of the test split and sample answers, for the card")
    with room_for_scoring(pairs, command_with, kept="; all steps are done and saved"):
        if isinstance(model, FSDPModule):
            # FSDP gathers what belongs to no decoder layer and no embedding in the model's own forward pass alone,
            # which scoring does not call; writing a checkpoint has just sharded it
            model.unshard()
        probes = record_probes(
            model, tokenizer, load_in_4bit=config.load_in_4bit, template_kwargs=config.chat_template_kwargs
        )
        if test is not None:
            models = Models(model, weights=weights_in_words(model, in_4bit=config.load_in_4bit))
            ranking, scores = score_encoded(models, test, beta=config.beta, batch_size=pairs, once=common.once)
            samples = samples_of(models, tokenizer, once=common.once)
    if rank() > 0:
        return
    probes.write(config.output_dir / PROBES_FILE)
    if test is not None:
        report = EvalReport(split="test", **dict(ranking), samples=samples, samples_weights=models.weights)
        report.write(config.output_dir / EVAL_FILE)
        write_atomic(config.output_dir / EVAL_PAIRS_FILE, to_lines(scores))
    else:
        console.warn(f"`{config.dataset}` has no test split, so the run has no eval.json")


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
