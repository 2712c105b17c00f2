"""The entry of `train`: resolve the options, and refuse what needs neither torch nor weights to be refused."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.journal import Journal
from hubdpo.artefacts.folders.run_folder import alone_in
from hubdpo.artefacts.manifests.manifest import sha256_file
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.chat_template import recorded
from hubdpo.config.needs import check_needs
from hubdpo.config.schedules import BY_EVALUATION
from hubdpo.config.takes import takes
from hubdpo.config.trackers import in_project, installed
from hubdpo.data.load import look_at_dataset
from hubdpo.errors import ConfigError, HubError
from hubdpo.hub.client import download
from hubdpo.machine.endings import LAUNCHED, end_with_parent
from hubdpo.machine.refusals import machine_errors
from hubdpo.model.adapters.start_base import check_fit, with_start
from hubdpo.model.bases.find import look_at_base
from hubdpo.model.device import check_device, cuda_is_possible, deterministic_kernels
from hubdpo.model.quiet import without_chatter
from hubdpo.training.common import Common
from hubdpo.training.launch.processes import rank, world_size
from hubdpo.training.pair_values import check_value_columns
from hubdpo.training.run.output_folder import check_output_folder, saved_state, set_damaged_aside

TOKENIZER = "tokenizer.json"


@takes(TrainConfig, "model_name_or_path", "dataset", "output_dir")
def train(config: TrainConfig) -> RunManifest:
    """Train a QLoRA adapter with DPO and return its manifest.

    The run folder is complete when its `run.json` says so. A run that was killed and is resumed ends with the adapter
    that it would have had: to the bit on a CPU, and on a GPU with `deterministic`. An extended run continues as one
    longer run would, as far as its schedule allows. `dry_run` stops after the preflight and writes nothing.

    Raise ConfigError, UnsupportedBase, ArtefactError or HubError before anything is written; TrainingError when memory
    runs out or the loss is not finite; ResumeMismatch when anything changed that the weights depend on; MachineError
    when the disk is full or this machine refuses anything else; Stopped at Ctrl-C. The hints of the last two are the
    command that resumes the run.
    """
    return run_in(config, Common(), check_start)


def run_in(config: TrainConfig, common: Common, check: Callable[[TrainConfig], TrainConfig]) -> RunManifest:
    """Train in the output folder, alone there, once the options pass the `check`; see `train`."""
    launches = config.num_processes > 1 and world_size() == 1  # the processes it launches lock and write the folder
    config = config.model_copy(update={"num_processes": config.num_processes if launches else world_size()})
    writes = rank() == 0 and not config.dry_run
    journal, saved = Journal(), functools.partial(saved_state, config)
    with journal.kept(), machine_errors([config.output_dir], saved), contextlib.ExitStack() as held:
        if rank() > 0:  # rank 0 says the same
            held.enter_context(console.written_as(console.Format.quiet, errors_only=True))
        folder = config.output_dir
        # lock a folder that exists before it is checked, and a new one when the checks have passed
        if writes and folder.is_dir():
            held.enter_context(alone_in(folder))
        if rank() == 0 and LAUNCHED not in os.environ:  # once for all processes
            config = check(config)
        if launches:
            held.close()
        elif writes and not folder.is_dir():
            held.enter_context(alone_in(folder))
        if LAUNCHED in os.environ:
            end_with_parent(os.getppid())
        if config.deterministic:
            held.enter_context(deterministic_kernels())
        held.enter_context(without_chatter())
        held.enter_context(in_project(config.project))
        from hubdpo.training.train import train as run

        return run(config, common, journal)


def check_start(config: TrainConfig) -> TrainConfig:
    """Check options, device, output folder, dataset and base in seconds, without torch.

    Return the config with dataset, adapter and base pinned to commits. Raise ConfigError, UnsupportedBase,
    ArtefactError or HubError.
    """
    return check_inputs(check_folder(config))


def check_folder(config: TrainConfig) -> TrainConfig:
    """Check the output folder, and pin what a run in it names to its commits."""
    if config.resumes and config.output_dir.is_dir():
        set_damaged_aside(config.output_dir, dry_run=config.dry_run)
    earlier = check_output_folder(config)
    return config if earlier is None else at_commits_of(earlier, config)


def check_inputs(config: TrainConfig) -> TrainConfig:
    """Check the device, the trackers, the dataset, the adapter to start from and the base, and pin them to commits."""
    check_device(config.device)
    check_needs(config, cuda=config.device != "cpu" and cuda_is_possible())
    config = config.model_copy(update={"report_to": installed(config.report_to)})
    dataset, pinned = look_at_dataset(config.dataset)
    if config.lr_scheduler_type in BY_EVALUATION and not dataset.splits.get("test"):
        raise ConfigError(
            f"the schedule `{config.lr_scheduler_type}` follows the loss on a test split, and "
            f"`{config.dataset}` has none",
            hint="--lr-scheduler-type cosine, or hubdpo prepare SOURCE -o DIR --test-size 0.05",
        )
    check_value_columns(config, config.dataset, dataset)
    if config.chooses and not dataset.splits.get("test"):
        option = "load-best-model-at-end" if config.load_best_model_at_end else "early-stopping-patience"
        raise ConfigError(
            f"`--{option}` compares evaluations on a test split, and `{config.dataset}` has none",
            hint="hubdpo prepare SOURCE -o DIR --test-size 0.05",
        )
    places = {}
    for name, place in config.evaluation_sets.items():
        held_out, places[name] = look_at_dataset(place, trains=False)
        check_value_columns(config, place, held_out)
    config = config.model_copy(update={"eval_dataset": [f"{name}={place}" for name, place in places.items()]})
    config, start = with_start(config.model_copy(update={"dataset": pinned}))
    config = look_at_base(config, functools.partial(check_fit, start, config) if start is not None else None)
    warn_of_other_tokenizer(dataset, config)
    return config


def at_commits_of(earlier: RunManifest, config: TrainConfig) -> TrainConfig:
    """Pin base, adapter and dataset of a resumed run to its commits, where the options name the repos alone."""
    pinned: dict[str, str] = {}
    for what, name, repo in (
        ("base", config.model_name_or_path, earlier.base if config.model_revision is None else None),
        ("adapter", config.adapter, earlier.started_from),
        ("dataset", config.dataset, earlier.dataset),
    ):
        if name is None or repo is None or not repo.revision or Path(name).is_dir():
            continue
        if name.removeprefix("datasets/") == repo.repo_id:
            pinned |= {"model_revision": repo.revision} if what == "base" else {what: f"{name}@{repo.revision}"}
            console.info(f"the run keeps its {what}, {name}@{repo.revision[:12]}")
    return config.model_copy(update=pinned)


def warn_of_other_tokenizer(dataset: PrepareManifest, config: TrainConfig) -> None:
    """Warn when the run's tokenizer, or its chat template arguments, differ from those that counted the dataset.

    A dataset prepared without `--model` was not counted. Two names may stand for one tokenizer.
    """
    model = dataset.config.get("model")
    if not model:
        return
    counted = f"the dataset was counted with the tokenizer of {_label(model['name'], model.get('revision'))}"
    if _differs(model, config.model_name_or_path, config.model_revision):
        base = _label(config.model_name_or_path, config.model_revision)
        console.warn(f"{counted}, and this run uses that of {base}: pairs dropped by length may have fitted")
        console.hint("hubdpo prepare SOURCE -o DIR --model MODEL, with the base of this run")
    template = recorded(config.chat_template)
    if (counted_by := dataset.config.get("chat_template")) != template:
        named = [f"`{some}`" if some else "the base's own" for some in (counted_by, template)]
        console.warn(
            f"the dataset was counted with the chat template {named[0]}, and this run has {named[1]}: its prompts have "
            "other lengths"
        )
    before, now = dataset.config.get("chat_template_kwargs") or {}, config.chat_template_kwargs or {}
    if before != now:
        console.warn(
            f"the dataset was counted with `--chat-template-kwargs` {_as_json(before)}, and this run has "
            f"{_as_json(now)}: its prompts have other lengths"
        )
        if before:
            console.hint(f"--chat-template-kwargs {shlex.quote(_as_json(before))}")
        else:
            console.hint("leave `--chat-template-kwargs` out, or prepare with the same")


def _differs(model: Mapping[str, str | None], base: str, revision: str | None) -> bool:
    name, counted_revision = str(model["name"]), model.get("revision")
    if revision is not None and (name, counted_revision) == (base, revision):
        return False
    counted = model.get("tokenizer") or _tokenizer_hash(name, counted_revision)
    return counted is None or counted != _tokenizer_hash(base, revision)


def _tokenizer_hash(name: str, revision: str | None) -> str | None:
    """Return the SHA-256 of a model's tokenizer file, None when it is not available."""
    try:
        folder = Path(name) if revision is None else download(name, revision, allow_patterns=[TOKENIZER])
    except HubError:
        return None
    return sha256_file(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None


def _label(name: str, revision: str | None) -> str:
    return f"{name}@{revision[:12]}" if revision else name


def _as_json(kwargs: Mapping[str, object]) -> str:
    return json.dumps(kwargs, sort_keys=True, ensure_ascii=False) if kwargs else "none"
