"""Find the adapter that a run starts from, and check that training can go on from it. Imports no torch.

It may come from hubdpo, whose manifests tell how it was made, or from any tool that writes PEFT's files: TRL,
LLaMA-Factory, axolotl. Pickles beside it (`training_args.bin`, optimizer states) are never fetched or opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.kinds import NOT_LOADED, read_run
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_PATTERNS, ADAPTER_WEIGHTS, CONFIG
from hubdpo.artefacts.formats.bounded import JsonObject, shortened
from hubdpo.artefacts.manifests.manifest import BUNDLE_FILE, CARD_FILE, MERGE_FILE, RUN_FILE, file_entry
from hubdpo.artefacts.manifests.run import FROM_ADAPTER, RunManifest, StartRef
from hubdpo.cards.licences import licence_of
from hubdpo.config import TrainConfig
from hubdpo.config.base import ADAPTERS, flag_of
from hubdpo.config.flags import quoted
from hubdpo.errors import ArtefactError, ConfigError
from hubdpo.hub.open import open_snapshot
from hubdpo.hub.snapshot import Snapshot
from hubdpo.model.adapters.check import CheckedAdapter, check_adapter_files
from hubdpo.model.untrusted import AGAIN

KEPT = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern",
    "alpha_pattern", "fan_in_fan_out", "use_rslora", "use_dora",
)  # fmt: skip
"""Keys of adapter_config.json that say what the adapter computes; the trained one keeps them."""
NOT_PLAIN = "it is no plain LoRA"
REFUSED = {
    "bias": "it trained biases of the base", "modules_to_save": "it trained whole layers of the base",
    "trainable_token_indices": "it trained embeddings of the base",
    "layer_replication": "it repeats layers of the base",
    "target_parameters": "it adapts parameters that are no layers", "lora_bias": NOT_PLAIN, "use_qalora": NOT_PLAIN,
    "alora_invocation_tokens": NOT_PLAIN, "arrow_config": NOT_PLAIN, "megatron_config": NOT_PLAIN,
    "use_bdlora": NOT_PLAIN, "velora_config": NOT_PLAIN, "monteclora_config": NOT_PLAIN, "kasa_config": NOT_PLAIN,
}  # fmt: skip
"""Keys that, with a value, make an adapter from which training does not go on, and why."""
SILENT = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "init_lora_weights", "megatron_core", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "qalora_group_size", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
"""Keys that say how the adapter was begun, trained or stored, and nothing about what its weights compute."""
CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` that also changed the base, which then is not the base that the adapter names."""
LORA_WEIGHT = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector")
EMBEDDINGS = (".embed_tokens.weight", ".lm_head.weight")
MERGE = "merge it into its base with PEFT (`merge_and_unload`), and train on the result"


@dataclass(frozen=True)
class StartAdapter:
    """An adapter that a run starts from: its reference for the manifest, its files, and the run that made it."""

    ref: StartRef
    adapter: CheckedAdapter
    run: RunManifest | None

    @property
    def folder(self) -> Path:
        return self.adapter.folder

    @property
    def lora(self) -> JsonObject:
        """The keys of its config that say what it computes."""
        config = self.adapter.config
        return {name: config[name] for name in KEPT if config.get(name) is not None}

    @property
    def base(self) -> tuple[str, str | None] | None:
        """Name and revision of the base on the Hub that it names, None where it names none."""
        if self.run is not None:
            base = self.run.base
            return (base.repo_id, base.revision) if base.repo_id else None
        named = self.adapter.named_base(is_local=False)
        return named if named is not None and not Path(named[0]).is_dir() else None

    def settle(self, config: TrainConfig) -> TrainConfig:
        """Return the config with the adapter's rank, alpha, layers and kind of LoRA.

        Raise ConfigError for an option that says otherwise.
        """
        own = {**self.adapter.options, "init_lora_weights": "default"}
        for name in sorted(FROM_ADAPTER & config.model_fields_set):
            given, has = getattr(config, name), own[name]
            if (sorted(given) if isinstance(given, list) else given) != has:
                words = ", ".join(map(str, has)) if isinstance(has, list) else has
                raise ConfigError(
                    f"`{flag_of(name)}` contradicts the adapter `{self.ref.name}`, which has {words}",
                    hint=f"leave `{flag_of(name)}` out: the adapter settles it",
                )
        return config.model_copy(update=own)


def find_start(name: str) -> StartAdapter:
    """Find an adapter, `USER/NAME[@REVISION]` or a folder, pin it to its content, and check that it is plain LoRA.

    Raise ArtefactError for anything from which training cannot go on, ConfigError for a name that is neither, HubError
    when the Hub does not have it.
    """
    files = open_snapshot(name, repo_type="model", wanted=ADAPTERS)
    if ADAPTER_CONFIG not in files.files:
        raise _no_adapter(name, files)
    folder, run = files.fetch([*ADAPTER_PATTERNS, BUNDLE_FILE, CARD_FILE]), None
    if (folder / RUN_FILE).is_file():
        run = read_run(folder, but=NOT_LOADED, hint=AGAIN if files.commit else None)
    adapter = check_adapter_files(folder)
    _check_plain(files.name, adapter)
    ref = files.as_adapter(file_entry(folder / ADAPTER_WEIGHTS).sha256).model_dump()
    if files.commit is not None and ref["version"] is None and files.bundle is not None:  # at the commit of a release
        ref["version"] = f"v{files.bundle.version}"
    rounds = run.rounds if run is not None else []
    return StartAdapter(StartRef(**ref, license=licence_of(folder)["license"], rounds=rounds), adapter, run)


def _no_adapter(name: str, files: Snapshot) -> ArtefactError:
    if MERGE_FILE in files.files or CONFIG in files.files:
        kind = "a merged model, which needs" if MERGE_FILE in files.files else "a whole model,"
        return ArtefactError(f"`{name}` is {kind} no adapter", hint=f"--model-name-or-path {name}, without `--adapter`")
    hint = "give USER/NAME of an adapter, or a folder with adapter_config.json and adapter_model.safetensors"
    return no_adapter_but_inside(name, files, "--adapter {}", hint)


def no_adapter_but_inside(name: str, files: Snapshot, use: str, otherwise: str) -> ArtefactError:
    """Return the error for a place that has no adapter; the hint is how to `use` the last one in a folder of it."""
    message = f"`{name}` holds no adapter: it has no {ADAPTER_CONFIG}"
    inner = [path.rpartition("/")[0] for path in files.files if path.endswith(f"/{ADAPTER_CONFIG}")]
    if not inner:
        return ArtefactError(message, hint=otherwise)
    last = max(inner, key=lambda place: (int("0" + "".join(filter(str.isdecimal, place))), place))
    fetch = f"hf download {name} --include '{last}/*' --local-dir adapter, then " if files.commit else ""
    place = quoted(f"adapter/{last}" if files.commit else f"{name}/{last}")
    return ArtefactError(message, hint=f"it has one in a folder: {fetch}{use.format(place)}")


def _check_plain(name: str, adapter: CheckedAdapter) -> None:
    """Raise ArtefactError for an adapter that is more than LoRA matrices on layers, and warn of keys it leaves out."""
    if problem := _problem(adapter):
        raise ArtefactError(f"training cannot start from `{name}`: {problem}", hint=MERGE)
    if unknown := sorted(key for key in adapter.config.keys() - {*KEPT, *REFUSED, *SILENT} if adapter.config[key]):
        words = ", ".join(f"`{shortened(key, 40)}`" for key in unknown)
        console.warn(f"{ADAPTER_CONFIG} of `{name}` has keys that hubdpo does not know and leaves out: {words}")


def _problem(adapter: CheckedAdapter) -> str | None:
    config = adapter.config
    for key, why in REFUSED.items():
        if config.get(key) not in (None, False, [], {}, "none"):
            return f"{why} (`{key}` of {ADAPTER_CONFIG} is {shortened(repr(config[key]), 80)})"
    begun = str(config.get("init_lora_weights")).lower()
    if begun.startswith(CHANGE_THE_BASE):
        return f"it was begun with {shortened(begun, 40)}, which changed the base as well"
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        return f"it is for another task than text generation ({shortened(str(config['task_type']), 40)})"
    for tensor, shape in adapter.shapes.items():
        if tensor.endswith(EMBEDDINGS):
            rows = f"`{shortened(tensor, 80)}`, {shape[0]:,} rows"
            return f"its vocabulary was resized, or its embeddings were trained: it holds {rows}"
        if not tensor.endswith(LORA_WEIGHT):
            return f"it holds more than LoRA weights, `{shortened(tensor, 80)}` first"
    if any(module.endswith("lm_head") for module in adapter.modules):
        return "it adapts `lm_head`, whose weights TRL reads directly, so that part would never be trained"
    return None
