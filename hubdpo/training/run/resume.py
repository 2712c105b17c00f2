"""Going on with a run: what may differ from its first start, what is noted of it, and how it is made longer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdpo import console
from hubdpo.artefacts.manifests.run import BaseRef, Change, DatasetRef, RunManifest
from hubdpo.config import TrainConfig
from hubdpo.config.schedules import BY_EVALUATION
from hubdpo.config.train import WHOLE_BATCH_LOSSES, Role
from hubdpo.errors import ConfigError, ResumeMismatch
from hubdpo.training.run.record import published_config
from hubdpo.training.schedule import planned_steps

LENGTH = ("max_steps", "num_train_epochs")
"""What `--extend` may change; `num_train_epochs` counts where `max_steps` is -1."""
PLANNED = "planned_steps"


@dataclass(frozen=True)
class Earlier:
    """A run that is gone on with: its manifest, and its newest complete checkpoint with the step of it."""

    manifest: RunManifest
    checkpoint: tuple[Path, int] | None

    @property
    def step(self) -> int:
        return self.checkpoint[1] if self.checkpoint else 0

    @property
    def planned(self) -> int | None:
        """Steps that its schedule was made for; runs of hubdpo 0.2 say so in their checkpoints alone."""
        if self.manifest.planned_steps is not None or self.checkpoint is None:
            return self.manifest.planned_steps
        state = json.loads((self.checkpoint[0] / "trainer_state.json").read_text(encoding="utf-8"))
        return int(state["max_steps"])

    @property
    def first_planned(self) -> int | None:
        """Steps that were planned at the first start, which the warm-up is a share of."""
        plans = [change.values[PLANNED][0] for change in self.manifest.changes if PLANNED in change.values]
        return plans[0] if plans else self.planned


def with_measured_of(earlier: RunManifest, config: TrainConfig) -> TrainConfig:
    """Return the config with the numbers that `auto` took in the earlier run: memory may be another now."""
    taken = {
        name: earlier.config[name]
        for name in ("tokens_per_batch", "checkpoint_layers")
        if getattr(config, name) == "auto" and isinstance(earlier.config.get(name), int)
    }
    return config.model_copy(update=taken)


def check_same_experiment(earlier: RunManifest, config: TrainConfig, base: BaseRef, dataset: DatasetRef) -> None:
    """Raise ResumeMismatch, after a table of the differences, when a resumed run would learn something else."""
    before, now = _options(earlier.config), _options(published_config(config))
    fixed = _what_is_learned(config) | (before.keys() ^ now.keys())
    if config.extend:
        fixed -= {*LENGTH}
    for options, model, data in ((before, earlier.base, earlier.dataset), (now, base, dataset)):
        options |= {"base": model.name, "base revision": model.revision, "dataset fingerprint": data.fingerprint}
    fixed |= {"base", "base revision", "dataset fingerprint"}
    differences = [
        (name, before.get(name), now.get(name)) for name in sorted(fixed) if before.get(name) != now.get(name)
    ]
    if not differences:
        return
    console.table(["option", "the run has", "now"], differences)
    names = [name for name, _, _ in differences]
    longer = set(names) <= {*LENGTH}
    raise ResumeMismatch(
        f"the run in `{config.output_dir}` was started with another configuration: {', '.join(names)}",
        hint="add `--extend` to train it for longer" if longer else "give the same options as before, or another "
        "`--output-dir`",
    )  # fmt: skip


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """Return recorded options, those that are newer than the run at their default, and what several say together."""
    fields = {name: TrainConfig.model_fields[name] for name in TrainConfig.names(Role.WEIGHTS, Role.MANNER)}
    options = {name: field.get_default(call_default_factory=True) for name, field in fields.items()} | config
    options["pairs per step"] = options["per_device_train_batch_size"] * options["gradient_accumulation_steps"]
    return options


def _what_is_learned(config: TrainConfig) -> set[str]:
    """Return the options that this run's weights depend on."""
    names = {*TrainConfig.names(Role.WEIGHTS), "pairs per step"}
    if WHOLE_BATCH_LOSSES & set(config.loss_type):
        names.add("per_device_train_batch_size")
    if config.lr_scheduler_type in BY_EVALUATION:
        names |= {"eval_steps", "max_eval_pairs"}
    return names


def steps_to_take(config: TrainConfig, rows: int, earlier: Earlier | None) -> int:
    """Return the step at which the run ends: an earlier one's own end, unless it is extended.

    Raise ConfigError when an extension does not make it longer.
    """
    asked = planned_steps(config, rows)
    before = earlier.planned if earlier else None
    if earlier is None or before is None:
        return asked
    if not config.extend:
        return before
    if asked < before:
        raise ConfigError(
            f"the run in `{config.output_dir}` is of {before:,} steps already, and these options ask for {asked:,}",
            hint=f"--extend --max-steps {before + asked}",
        )
    if asked > before and earlier.checkpoint is None:
        raise ConfigError(
            f"no checkpoint is left in `{config.output_dir}` to go on from", hint="give another `--output-dir`"
        )
    return asked


def note_changes(earlier: Earlier, manifest: RunManifest) -> RunManifest:
    """Return the manifest of a resumed run with what differs from the last start, and tell each difference."""
    before, now = _facts(earlier.manifest, earlier.planned), _facts(manifest, manifest.planned_steps)
    values = {name: (before.get(name), now[name]) for name in now if before.get(name) != now[name]}
    for name, (old, new) in values.items():
        console.info(f"changed   {name.replace('_', ' ')}: {old} before, {new} from step {earlier.step + 1:,} on")
    own = [Change(step=earlier.step, values=values)] if values else []
    return manifest.model_copy(update={"changes": [*earlier.manifest.changes, *own]})


def _facts(manifest: RunManifest, planned: int | None) -> dict[str, Any]:
    options = {name: value for name, value in _options(manifest.config).items() if name in TrainConfig.model_fields}
    return {
        **options, PLANNED: planned, "hardware": manifest.device, "hubdpo": manifest.hubdpo_version, **manifest.versions
    }  # fmt: skip
