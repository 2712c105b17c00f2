"""The merge stage: an adapter and its base in, one model that plain transformers loads out.

An adapter that was trained on NF4 weights fits those, so it is merged into them, de-quantised; into the original
weights on request. It is never merged into 4 bits: rounding would take most of it away. The output folder is absent or
complete: the written model is loaded and compared with the adapter before the folder gets its name.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.model_files import CHAT_TEMPLATE, CONFIG
from hubdpo.artefacts.folders.scratch import entries
from hubdpo.artefacts.folders.workspace import workspace
from hubdpo.artefacts.formats.bounded import JsonObject, read_text
from hubdpo.artefacts.manifests.manifest import CARD_FILE, MERGE_FILE, PROBES_FILE, file_entry, write_atomic
from hubdpo.artefacts.manifests.merge import MergeManifest, read_merged_folder
from hubdpo.cards.licences import Licence, merged_licence
from hubdpo.cards.model.card import render_merged_card
from hubdpo.config import MergeConfig
from hubdpo.config.merge import SEVERAL
from hubdpo.config.takes import takes
from hubdpo.errors import ArtefactError, ConfigError, LicenceError
from hubdpo.machine.refusals import check_room
from hubdpo.model.adapters.load import load_on_base
from hubdpo.model.bases.find import copy_base_files
from hubdpo.model.device import pick_device
from hubdpo.model.generation import write_stops
from hubdpo.model.merge.check import compare, probe_written
from hubdpo.model.merge.combine import combine
from hubdpo.model.merge.sources import Source, find_sources
from hubdpo.model.merge.weights import plan_weights, write_weights
from hubdpo.model.probes import record_probes
from hubdpo.model.untrusted import read_json
from hubdpo.version import __version__, requirement


@takes(MergeConfig, "adapter", "output_dir")
def merge(config: MergeConfig) -> MergeManifest:
    """Merge an adapter, or the weighted combination of several, into their base and return the manifest.

    Weights are written one file of `max_shard_size` at a time. Raise ArtefactError when an adapter is not from a
    finished run, is not plain LoRA, or has a base that is stored quantised; ConfigError for adapters that do not belong
    together; VerificationFailed, with nothing written, when the merged model does not give the adapter's
    log-probabilities.
    """
    sources = find_sources(config)
    with workspace(str(config.output_dir), last=MERGE_FILE) as space:
        return _merged(config, sources, Path(space.new), space.publish)


def _merged(config: MergeConfig, sources: list[Source], new: Path, publish: Callable[[], None]) -> MergeManifest:
    source = sources[0]
    settings = read_json(source.base / CONFIG)
    if "quantization_config" in settings:
        raise ArtefactError(
            f"the weights of `{source.run.base.name}` are stored quantised, and a merge would be rounded to their bits",
            hint="train on, and merge into, the 16-bit model that it was made from",
        )
    if (ready := _ready(config, sources)) is not None:
        console.info(f"{config.output_dir} is up to date")
        return ready

    device = pick_device(config.device)
    in_4bit = any(each.run.in_4bit for each in sources) and config.base_weights == "as-trained"
    console.info(f"base      {source.run.base.name}, {'NF4, de-quantised' if in_4bit else 'as it is stored'}")
    model, tokenizer = load_on_base(source.folder, source.base, device=device, load_in_4bit=in_4bit)
    active = combine(model, sources, config)
    plan = plan_weights(model, config.dtype, config.shard_bytes, adapter=active)
    check_room(config.output_dir, plan.bytes, "the merged weights", hint="another `--output-dir`, or make room")
    console.info(f"writing   {console.counted(len(plan.files), 'file')}, {plan.bytes / 1e6:,.1f} MB")
    write_weights(plan, new)
    _write_settings(settings, source, config, new)
    template_kwargs = source.run.template_kwargs
    record = partial(record_probes, model, tokenizer, load_in_4bit=in_4bit, template_kwargs=template_kwargs)
    adapter, parameters = record(), plan.parameters
    with model.disable_adapter():
        base = record()
    del model, plan, record
    gc.collect()

    console.info("loading what was written, to compare")
    merged = probe_written(
        new, config.dtype, device, computed_in=adapter.environment["dtype"], template_kwargs=template_kwargs
    )
    check = compare(adapter, base, merged, config)
    merged.loaded.write(new / PROBES_FILE)
    names = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    parts = [each.record for each in sources]
    manifest = MergeManifest(
        hubdpo_version=__version__, hubdpo_from=requirement(), adapter=source.ref, adapters=parts, base=source.run.base,
        dataset=parts[0].dataset if all(part.dataset == parts[0].dataset for part in parts) else None,
        started_from=parts[0].started_from if len(parts) == 1 else None, config=_lasting(config), dtype=config.dtype,
        dequantised=in_4bit, parameters=parameters,
        method=" + ".join(dict.fromkeys(part.method for part in parts if part.method)) or None,
        chat_template_kwargs=template_kwargs, check=check,
        files={name: file_entry(new / name) for name in names},
    )  # fmt: skip
    card = render_merged_card(manifest, repo="USER/NAME", version="0.1.0", licence=_licence(manifest))
    write_atomic(new / CARD_FILE, card)
    manifest.write(new / MERGE_FILE)
    publish()
    return manifest


def _ready(config: MergeConfig, sources: list[Source]) -> MergeManifest | None:
    """Return the manifest of this merge from the output folder, None where it is empty; raise ConfigError otherwise."""
    folder = config.output_dir
    if not entries(folder):
        return None
    hint = "give another `--output-dir`"
    if not (folder / MERGE_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are not a merged model", hint=hint)
    manifest = read_merged_folder(folder)
    contents = [(source.ref.sha256, source.weight) for source in sources]
    if (manifest.contents, manifest.base, manifest.config) != (contents, sources[0].run.base, _lasting(config)):
        raise ConfigError(f"`{folder}` holds another merge, of {manifest.sum}", hint=hint)
    return manifest


def _licence(manifest: MergeManifest) -> Licence | None:
    """Return the licence as far as it is known; `push` settles it."""
    try:
        return merged_licence(manifest, manifest.base, None)
    except LicenceError:
        return None


def _lasting(config: MergeConfig) -> JsonObject:
    """Return the options that change the merged weights or their files."""
    several = SEVERAL if len(config.adapter) > 1 else ()
    return config.model_dump(mode="json", include={"dtype", "base_weights", "max_shard_size", *several})


def _write_settings(settings: JsonObject, source: Source, config: MergeConfig, new: Path) -> None:
    settings = {key: value for key, value in settings.items() if key != "_name_or_path"}
    for key in [key for key in ("dtype", "torch_dtype") if key in settings] or ["dtype"]:
        settings[key] = config.dtype
    write_atomic(new / CONFIG, json.dumps(_for_older_readers(settings), indent=2, ensure_ascii=False) + "\n")
    run = source.run
    template = read_text(source.folder / CHAT_TEMPLATE) if run.has_own_template else None
    tokenizer = source.folder if run.adopted is not None and run.adopted.own_tokenizer else None
    copy_base_files(source.base, run.base.license, new, template, tokenizer=tokenizer)
    if source.run.end_of_turn is not None:
        write_stops(new, source.run.end_of_turn)


def _for_older_readers(settings: JsonObject) -> JsonObject:
    """Add the fields in which transformers 4 kept rotary embeddings, with the same values.

    MLX reads these alone for most families: without them it takes the default base of the rotation, and says nothing.
    """
    rope = settings.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:  # by type of layer, it has no older form
        return settings
    scaled = {"rope_scaling": rope} if rope.get("rope_type", "default") != "default" else {}
    return {"rope_theta": rope["rope_theta"], **scaled, **settings}
