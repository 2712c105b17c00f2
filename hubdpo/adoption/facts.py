"""Gather what the files beside an adapter tell of its training. What they do not tell is not known, and left out.

`training_args.bin` would tell more, but it is a pickle, which can run code when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from hubdpo import console
from hubdpo.adoption.find import RESULTS, STATE, Found
from hubdpo.adoption.readme import METHODS, read_card, yaml_object
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG
from hubdpo.artefacts.formats.bounded import JsonObject, read_object, read_text
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.config import TrainConfig
from hubdpo.config.base import Values
from hubdpo.config.repo_id import is_repo_id
from hubdpo.config.roles import Role
from hubdpo.config.schedules import SCHEDULES
from hubdpo.config.train import TRAINERS
from hubdpo.config.trainers.table import of_other_trainer, options_told
from hubdpo.errors import ArtefactError

FOUR_BITS = "-bnb-4bit"
"""End of the names of bases that are stored in NF4."""
TOLD_ELSEWHERE = {"chat_template", "init_lora_weights", "eval_dataset", "report_to", "run_name", "project"}
"""Options that config files name and that are not taken from there."""
OTHER_SCHEDULES = {"greedy", "one_cycle", "rex"}
"""Schedules of transformers and axolotl that hubdpo does not have."""
MOST_CONFIGS, LONGEST = 10, 1_000
"""Config files to look at, and characters of an option's value."""


@dataclass
class Facts:
    """What is known of a training; `options` have hubdpo's names, `log` the lines for metrics.jsonl."""

    tool: str | None = None
    tool_version: str | None = None
    method: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    options: Values = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    named_base: str | None = None
    named_revision: str | None = None
    steps: int | None = None
    seconds: float | None = None
    log: list[JsonObject] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric."""
        values = {name: float(value) for line in self.log for name, value in line.items()}
        return {name: value for name, value in sorted(values.items()) if name != "step"}

    def take(self, options: Values, file: str) -> None:
        """Add options whose values are such; what is known already stays, and a contradiction is said."""
        for name, value in options.items():
            known = _value(name, value)
            if known is None:
                continue
            if self.options.setdefault(name, known) != known:
                console.warn(f"`{file}` says {name} {known}, and another file {self.options[name]}, which is taken")


def gather(found: Found) -> Facts:
    """Return what the files of an adapter tell. A file that cannot be read is named, and left out."""
    facts = Facts()
    _from_adapter_config(facts, found)
    for read in (_from_card, _from_configs, _from_state, _from_results):
        try:
            read(facts, found)
        except (ArtefactError, OSError) as problem:
            console.warn(f"{getattr(problem, 'message', problem)}; what it says of the training is left out")
    if facts.method == "SFT":  # the loss and beta of a config file belong to a training with preferences
        facts.options = {name: value for name, value in facts.options.items() if name not in ("loss_type", "beta")}
    facts.tool_version = facts.versions.get((facts.tool or "").lower())
    return facts


def _from_adapter_config(facts: Facts, found: Found) -> None:
    config = found.adapter.config
    facts.options = {**found.adapter.options, "lora_dropout": config.get("lora_dropout") or 0.0}
    named, mapping = config.get("base_model_name_or_path"), config.get("auto_mapping")
    if isinstance(revision := config.get("revision"), str) and revision:
        facts.named_revision = revision[:200]
    if isinstance(named, str) and is_repo_id(named, owner_required=False):
        facts.named_base = named
        if named.endswith(FOUR_BITS):
            facts.options["load_in_4bit"] = True
    if isinstance(mapping, dict) and mapping.get("unsloth_fixed"):
        facts.tool = "Unsloth"
    if isinstance(version := config.get("peft_version"), str) and len(version) <= 40:
        facts.versions["peft"] = version
    facts.read.append(ADAPTER_CONFIG)


def _from_card(facts: Facts, found: Found) -> None:
    if CARD_FILE not in found.files.files:
        return
    told = read_card(read_text(found.folder / CARD_FILE))
    facts.tool, facts.method = told.tool or facts.tool, told.method
    facts.versions = {**told.versions, **facts.versions}
    facts.take(told.options, CARD_FILE)
    facts.datasets = told.datasets
    if told.trainer_config:
        _take_config(facts, told.trainer_config, CARD_FILE)
    facts.read.append(CARD_FILE)


def _from_configs(facts: Facts, found: Found) -> None:
    names = [name for name in found.files.files if name.endswith((".yaml", ".yml")) and "/" not in name]
    for name in sorted(names)[:MOST_CONFIGS]:
        if _take_config(facts, yaml_object(read_text(found.folder / name)), name):
            facts.read.append(name)


def _take_config(facts: Facts, values: JsonObject, file: str) -> bool:
    """Take the options of a config of a known trainer; tell whether it is one."""
    defaults = {name: each.get_default(call_default_factory=True) for name, each in TrainConfig.model_fields.items()}
    trainer = of_other_trainer(values, defaults, TRAINERS)
    if trainer is None:
        return False
    told = options_told(values, defaults, trainer)
    lasting = {*TrainConfig.names(Role.WEIGHTS, Role.MANNER)} - TOLD_ELSEWHERE
    of_adapter = {"lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "layers_to_transform"}
    facts.take({name: value for name, value in told.items() if name in lasting - of_adapter}, file)
    if "load_in_4bit" not in facts.options and not {"load_in_8bit", "quantization_bit"} & values.keys():
        facts.options["load_in_4bit"] = False  # a config names quantisation where there is one
    facts.tool = facts.tool or trainer.name
    facts.method = facts.method or METHODS.get(str(values.get("stage") or values.get("rl")).lower())
    if isinstance(data := told.get("dataset"), str) and not Path(data).is_absolute():
        facts.datasets = facts.datasets or [data[:200]]
    return True


def _from_state(facts: Facts, found: Found) -> None:
    if found.state_folder is None:
        return
    state = read_object(found.state_folder / STATE)
    if type(steps := state.get("global_step")) is int and 0 <= steps < 2**53:
        facts.steps = steps
    history, endless = state.get("log_history"), 0
    for line in history if isinstance(history, list) else []:
        if not isinstance(line, dict) or type(step := line.get("step")) is not int or not 0 <= step < 2**53:
            continue
        numbers = {name: value for name, value in line.items() if type(value) in (int, float)}
        finite = {name: value for name, value in numbers.items() if abs(value) < 2**1023}  # JSON has no others
        endless += len(numbers) - len(finite)
        facts.log.append({"step": step, **finite})
    if endless:
        console.warn(f"left out of the log: {console.counted(endless, 'number')} of `{STATE}`, as not finite")
    facts.seconds = _seconds(facts.last.get("train_runtime"))
    inside = found.state_folder.name + "/" if found.state_folder != found.folder else ""
    facts.read.append(inside + STATE)


def _from_results(facts: Facts, found: Found) -> None:
    for name in RESULTS:
        if name not in found.files.files:
            continue
        seconds = _seconds(read_object(found.folder / name).get("train_runtime"))
        facts.seconds = seconds if facts.seconds is None else facts.seconds
        facts.read.append(name)


def _seconds(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 2**53 else None


def _value(name: str, value: Any) -> Any:
    """Return an option as `train` would take it; None where it is no value of that option."""
    of = TrainConfig.model_fields[name]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[of.annotation, *of.metadata])  # type: ignore[arg-type]
        known = adapter.validate_python(value)
    except ValidationError:
        return None
    if name == "lr_scheduler_type" and known not in {*SCHEDULES, *OTHER_SCHEDULES}:
        return None
    fits = abs(known) < 2**53 if isinstance(known, (int, float)) else len(str(known)) <= LONGEST  # not of NaN either
    return known if fits else None
