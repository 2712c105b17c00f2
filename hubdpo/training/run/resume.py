"""Resume and extend a run: what may change, what is noted of a change, and how many steps are left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hubdpo import console
from hubdpo.artefacts.folders.run_folder import remembered_folder, train_again
from hubdpo.artefacts.manifests.manifest import RUN_FILE
from hubdpo.artefacts.manifests.run import AdapterRef, BaseRef, Change, DatasetRef, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.train_groups import ALL_LINEAR
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.model.bases.identity import told_apart_by
from hubdpo.model.bases.tensors import BaseFacts
from hubdpo.training.run.output_folder import Checkpoint, check_output_folder, newest_checkpoint
from hubdpo.training.run.record import Options, published_config
from hubdpo.training.run.same import LENGTH, options_of_weights, whole_options
from hubdpo.training.schedule import planned_steps

PLANNED = "planned_steps"
IN_FOLDERS = {"base files": "model_name_or_path", "dataset fingerprint": "dataset", "adapter to start from": "adapter"}
"""What a run is told apart by that a folder may hold, and the option that names the folder."""


@dataclass(frozen=True)
class EarlierRun:
    """The run to resume: its manifest and its newest complete checkpoint."""

    manifest: RunManifest
    checkpoint: Checkpoint | None

    @property
    def step(self) -> int:
        return self.checkpoint.step if self.checkpoint else 0

    @property
    def is_complete(self) -> bool:
        return self.manifest.status == "complete"

    @property
    def planned(self) -> int | None:
        """Steps of its learning-rate schedule; runs of hubdpo 0.2 record them only in their checkpoints."""
        if self.manifest.planned_steps is not None or self.checkpoint is None:
            return self.manifest.planned_steps
        state = json.loads((self.checkpoint.folder / "trainer_state.json").read_text(encoding="utf-8"))
        return int(state["max_steps"])

    @property
    def first_planned(self) -> int | None:
        """Steps that were planned at the first start; the warm-up is a share of these."""
        plans = [change.values[PLANNED][0] for change in self.manifest.changes if PLANNED in change.values]
        return plans[0] if plans else self.planned


def find_earlier_run(config: TrainConfig) -> EarlierRun | None:
    """Return the run to resume in the output folder, None when a new one starts; see `check_output_folder`."""
    manifest = check_output_folder(config)
    if manifest is not None:
        # a dry run leaves a damaged checkpoint its marker, so it must look for itself
        return EarlierRun(manifest, newest_checkpoint(config.output_dir, hashes=config.dry_run))
    if (config.output_dir / RUN_FILE).exists():
        console.info(f"{config.output_dir} holds a run that had not saved anything yet; it starts again")
    return None


def as_before(config: TrainConfig, earlier: RunManifest, base: BaseFacts) -> TrainConfig:
    """Return the config of a resumed run with what the earlier one found out: numbers, and its forward pass.

    The layers of the adapter keep their names where `all-linear` stands for the same ones.
    """
    before, now = earlier.config.get("lora_target_modules"), config.lora_target_modules
    if isinstance(before, list):
        meant = [base.all_linear if names == [ALL_LINEAR] else frozenset(names) for names in (before, now)]
        if meant[0] == meant[1]:
            config = config.model_copy(update={"lora_target_modules": before})
    if earlier.stock_forward is not None:
        config = config.model_copy(update={"shared_prefix": False})
    return fill_auto(config, earlier.config)


def fill_auto(config: TrainConfig, numbers: Mapping[str, object]) -> TrainConfig:
    """Return the config with a number for each option that is `auto`, as far as `numbers` has one.

    A resumed run takes those of the earlier run: the memory that is free now may be different.
    """
    settled = {
        name: numbers[name]
        for name in ("tokens_per_batch", "checkpoint_layers")
        if getattr(config, name) == "auto" and isinstance(numbers.get(name), int)
    }
    return config.model_copy(update=settled)


def check_same_experiment(
    earlier: RunManifest, config: TrainConfig, base: BaseRef, dataset: DatasetRef, start: AdapterRef | None = None,
    sharding: str | None = None,
) -> None:  # fmt: skip
    """Raise ResumeMismatch, after a table of the differences, when a resumed run would learn something else."""
    identity = told_apart_by(base, earlier.base) | _identity(dataset, start, sharding)
    before = {**whole_options(earlier.config)} | told_apart_by(earlier.base, base)
    before |= _identity(earlier.dataset, earlier.started_from, earlier.sharding)
    now = {**whole_options(published_config(config)), **identity}
    # an option that only one of them knows is newer, or older, than the run
    fixed = options_of_weights(config) | identity.keys() | (before.keys() ^ now.keys())
    if config.extend:
        fixed -= LENGTH
    differences = [
        (name, before.get(name), now.get(name)) for name in sorted(fixed) if before.get(name) != now.get(name)
    ]
    if not differences:
        return
    console.table(["option", "the run has", "now"], differences)
    names = [name for name, _, _ in differences]
    own = train_again(
        config.output_dir, earlier,
        extend_to={name: getattr(config, name) for name in sorted(LENGTH)} if config.extend else None,
    )  # fmt: skip
    # how many pairs are dropped is not known yet
    may_be_longer = earlier.planned_steps is None or planned_steps(config, dataset.train_pairs) > earlier.planned_steps
    if {*names} <= LENGTH and may_be_longer:
        hint = "add `--extend`"
    elif identity.keys() & {*names}:
        resuming = "--extend" if config.extend else "--resume"
        changed = _changed_in_place(config, names)  # the run's own command finds it changed as well
        way_back = f"put {' and '.join(changed)} back as it was" if changed else own
        hint = f"give another `--output-dir`; leave `{resuming}` out, or {way_back}"
    else:
        hint = own
    raise ResumeMismatch(
        f"the run in `{config.output_dir}` was started with another configuration: {', '.join(names)}; a new one needs "
        "another `--output-dir`",
        hint=hint,
    )


def _changed_in_place(config: TrainConfig, names: list[str]) -> list[str]:
    """Return the folders that the options name as the run did, and whose content is among what differs."""
    named = {option: getattr(config, option) for what, option in IN_FOLDERS.items() if what in names}
    return [
        f"`{place}`"
        for option, place in named.items()
        if place and remembered_folder(config.output_dir, option) == Path(place).resolve()
    ]


def _identity(dataset: DatasetRef | None, start: AdapterRef | None, sharding: str | None) -> Options:
    # each kind of sharding writes checkpoints of its own
    return {
        "dataset fingerprint": dataset and dataset.fingerprint,
        "adapter to start from": start.sha256 if start is not None else None, "sharding": sharding,
    }  # fmt: skip


def steps_to_take(config: TrainConfig, rows: int, earlier: EarlierRun | None) -> int:
    """Return the step at which the run ends; a resumed run keeps the end of the earlier one, unless it is extended.

    Raise ConfigError when an extension would not make the run longer.
    """
    requested = planned_steps(config, rows)
    before = earlier.planned if earlier else None
    if earlier is None or before is None:
        return requested
    if not config.extend:
        return before
    if requested < before:
        state = "has" if earlier.is_complete else f"is saved at step {earlier.step:,} of"
        raise ConfigError(
            f"the run in `{config.output_dir}` {state} {before:,} steps, and these options ask for {requested:,}",
            hint=f"--extend --max-steps {before + requested}" if earlier.is_complete else
            train_again(config.output_dir, earlier.manifest),
        )  # fmt: skip
    if requested > before and earlier.checkpoint is None:
        raise ConfigError(
            f"no checkpoint is left in `{config.output_dir}` to resume from", hint="give another `--output-dir`"
        )
    return requested


def note_changes(earlier: EarlierRun, manifest: RunManifest) -> RunManifest:
    """Return the manifest of a resumed run with what differs from the last start, and print each difference."""
    before = _recorded(earlier.manifest, earlier.planned)
    now = _recorded(manifest, manifest.planned_steps)
    values = {name: (before.get(name), now[name]) for name in now if before.get(name) != now[name]}
    for name, (old, new) in values.items():
        console.info(f"changed   {name.replace('_', ' ')}: {old} before, {new} from step {earlier.step + 1:,} on")
    change = [Change(step=earlier.step, values=values)] if values else []
    return manifest.model_copy(update={"changes": [*earlier.manifest.changes, *change]})


def _recorded(manifest: RunManifest, planned: int | None) -> Options:
    """Return everything of a manifest whose change is noted."""
    options = {
        name: value for name, value in whole_options(manifest.config).items() if name in TrainConfig.model_fields
    }
    return {
        **options, PLANNED: planned, "hardware": manifest.device, "hubdpo": manifest.hubdpo_version, **manifest.versions
    }  # fmt: skip


class OwnOptions(TrainerCallback):
    """Make a resumed run follow its own options; transformers would follow those saved in the checkpoint."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        lr_scheduler: LRScheduler | None = None,
        **kwargs: object,
    ) -> None:
        state.compute_steps(args, state.max_steps)
        # transformers looks for the end only after a step, and would train on a run that was killed after its last one
        control.should_training_stop = state.global_step >= state.max_steps
        if not isinstance(lr_scheduler, LambdaLR):
            return
        # the loaded optimizer state holds the next learning rate of the schedule that was saved
        pairs = zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
        rates = [base * rate(lr_scheduler.last_epoch) for base, rate in pairs]
        for group, rate in zip(lr_scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        lr_scheduler._last_lr = rates
