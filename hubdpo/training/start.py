"""The way into the train stage: what needs neither weights nor torch is refused before either is loaded."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

from hubdpo import console
from hubdpo.artefacts.folders.run_folder import alone_in
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.schedules import BY_EVALUATION
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import ConfigError
from hubdpo.machine.endings import LAUNCHED
from hubdpo.machine.orphans import end_with_parent
from hubdpo.machine.refusals import machine_errors
from hubdpo.model.bases.find import look_at_base
from hubdpo.model.device import cuda_is_possible
from hubdpo.training.launch.processes import rank, world_size
from hubdpo.training.run.checkpoints import set_damaged_aside
from hubdpo.training.run.counted import tell_other_counts
from hubdpo.training.run.output_folder import check_before_start, what_is_kept
from hubdpo.training.run.trackers import check_trackers


def train(config: TrainConfig | None = None, **options: Any) -> RunManifest:
    """Train a QLoRA adapter with DPO and return its manifest; call with a TrainConfig or with its options.

    The run folder is complete when `run.json` says so. A run that was killed and is resumed ends with the adapter that
    it would have had; one that is extended goes on as one longer run would, as far as its schedule allows. `dry_run`
    stops after the preflight and writes nothing. Raise ConfigError, UnsupportedBase, ArtefactError or HubError before
    anything is written; TrainingError when memory runs out or the loss is not finite; ResumeMismatch when options
    changed that change the weights; MachineError when the disk is full or this machine refuses anything else; Stopped
    at Ctrl-C. The hints of the last two are the command that goes on.
    """
    config = TrainConfig.given(config, options)
    checks = rank() == 0 and LAUNCHED not in os.environ  # once for all processes
    launches = config.num_processes > 1 and world_size() == 1  # others that write, and lock
    folder, writes = config.output_dir, rank() == 0 and not config.dry_run
    all_processes = {"num_processes": max(config.num_processes, world_size())}
    kept = functools.partial(what_is_kept, config.model_copy(update=all_processes))
    with machine_errors([folder], kept), contextlib.ExitStack() as held:
        if rank() > 0:  # the first process says it
            held.enter_context(console.written_as(console.Format.quiet, errors_only=True))
        if writes and folder.is_dir():
            held.enter_context(alone_in(folder))
        if checks:
            config = check_start(config)
        if launches:
            held.close()
        elif writes and not folder.is_dir():
            held.enter_context(alone_in(folder))
        if LAUNCHED in os.environ:
            end_with_parent(os.getppid())
        from hubdpo.training.train import train as run

        return run(config)


def check_start(config: TrainConfig) -> TrainConfig:
    """Check options, device, output folder, dataset and base in seconds, without torch; return the config with the
    commits of both.

    Raise ConfigError, UnsupportedBase, ArtefactError or HubError.
    """
    if config.device == "cuda" and not cuda_is_possible():
        raise ConfigError("no CUDA device is found", hint="hubdpo doctor, or use `--device cpu`")
    if not config.dry_run:
        if config.goes_on and config.output_dir.is_dir():
            set_damaged_aside(config.output_dir)
        check_before_start(config)
    check_trackers(config.report_to)
    dataset, pinned = look_at_dataset(config.dataset)
    if config.lr_scheduler_type in BY_EVALUATION and not dataset.splits.get("test"):
        raise ConfigError(
            f"the schedule `{config.lr_scheduler_type}` follows the loss on a test split, and the dataset has none",
            hint="--lr-scheduler-type cosine, or hubdpo prepare SOURCE -o DIR --test-size 0.05",
        )
    config = look_at_base(config.model_copy(update={"dataset": pinned}))
    tell_other_counts(dataset, config)
    return config
