"""The entry of `train`: resolve the options, and refuse what needs neither torch nor weights to be refused."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.run_folder import alone_in
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.schedules import BY_EVALUATION
from hubdpo.config.takes import takes
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import ConfigError
from hubdpo.machine.endings import LAUNCHED, end_with_parent
from hubdpo.machine.refusals import machine_errors
from hubdpo.model.bases.find import look_at_base
from hubdpo.model.device import check_device, deterministic_kernels
from hubdpo.training.launch.processes import rank, world_size
from hubdpo.training.run.checkpoints import set_damaged_aside
from hubdpo.training.run.counted import warn_of_other_tokenizer
from hubdpo.training.run.output_folder import check_output_folder, saved_state

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""Packages that can serve each tracker, the one to install first."""


@takes(TrainConfig, "model_name_or_path", "dataset", "output_dir")
def train(config: TrainConfig) -> RunManifest:
    """Train a QLoRA adapter with DPO and return its manifest.

    The run folder is complete when its `run.json` says so. A run that was killed and is resumed ends with the adapter
    that it would have had: to the bit on a CPU, and on a GPU with `deterministic`. An extended run continues as one
    longer run would, as far as its schedule allows. `dry_run` stops after the preflight and writes nothing.

    Raise ConfigError, UnsupportedBase, ArtefactError or HubError before anything is written; TrainingError when memory
    runs out or the loss is not finite; ResumeMismatch when an option changed that the weights depend on; MachineError
    when the disk is full or this machine refuses anything else; Stopped at Ctrl-C. The hints of the last two are the
    command that resumes the run.
    """
    launches = config.num_processes > 1 and world_size() == 1  # the processes it launches lock and write the folder
    config = config.model_copy(update={"num_processes": config.num_processes if launches else world_size()})
    writes = rank() == 0 and not config.dry_run
    saved = functools.partial(saved_state, config)
    with machine_errors([config.output_dir], saved), contextlib.ExitStack() as held:
        if rank() > 0:  # rank 0 says the same
            held.enter_context(console.written_as(console.Format.quiet, errors_only=True))
        if config.dry_run:
            scratch = held.enter_context(tempfile.TemporaryDirectory(prefix="hubdpo-dry-run-"))
            config = config.model_copy(update={"output_dir": Path(scratch) / "run"})
        folder = config.output_dir
        # lock a folder that exists before it is checked, and a new one when the checks have passed
        if writes and folder.is_dir():
            held.enter_context(alone_in(folder))
        if rank() == 0 and LAUNCHED not in os.environ:  # once for all processes
            config = check_start(config)
        if launches:
            held.close()
        elif writes and not folder.is_dir():
            held.enter_context(alone_in(folder))
        if LAUNCHED in os.environ:
            end_with_parent(os.getppid())
        if config.deterministic:
            held.enter_context(deterministic_kernels())
        from hubdpo.training.train import train as run

        return run(config)


def check_start(config: TrainConfig) -> TrainConfig:
    """Check options, device, output folder, dataset and base in seconds, without torch.

    Return the config with dataset and base pinned to commits. Raise ConfigError, UnsupportedBase, ArtefactError or
    HubError.
    """
    check_device(config.device)
    if config.resumes and config.output_dir.is_dir():
        set_damaged_aside(config.output_dir)
    check_output_folder(config)
    _check_trackers(config.report_to)
    dataset, pinned = look_at_dataset(config.dataset)
    if config.lr_scheduler_type in BY_EVALUATION and not dataset.splits.get("test"):
        raise ConfigError(
            f"the schedule `{config.lr_scheduler_type}` follows the loss on a test split, and the dataset has none",
            hint="--lr-scheduler-type cosine, or hubdpo prepare SOURCE -o DIR --test-size 0.05",
        )
    config = look_at_base(config.model_copy(update={"dataset": pinned}))
    warn_of_other_tokenizer(dataset, config)
    return config


def _check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError when no package of a tracker is installed."""
    for name in names:
        if not any(importlib.util.find_spec(package) for package in TRACKERS[name]):
            raise ConfigError(f"`--report-to {name}` needs its package", hint=f"pip install {TRACKERS[name][0]}")
