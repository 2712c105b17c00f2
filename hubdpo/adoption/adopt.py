"""The adopt stage: an adapter of another tool in, a run folder out, which evaluate, push, verify, diff and merge take.

The weights are copied as they are. What the tool left beside them is read as far as it is text; no pickle is opened.
What is not known of the training is left out of run.json, and the card says so. The output folder is absent or
complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hubdpo import console
from hubdpo.adoption.facts import Facts, gather
from hubdpo.adoption.find import Found, find_adapter, say_what_is_left_out
from hubdpo.adoption.tokenizer import has_own_tokens, own_template
from hubdpo.artefacts.folders.kinds import RUN_FILES, entries_of, read_run
from hubdpo.artefacts.folders.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hubdpo.artefacts.folders.run_folder import write_places
from hubdpo.artefacts.folders.scratch import entries
from hubdpo.artefacts.folders.workspace import workspace
from hubdpo.artefacts.manifests.manifest import METRICS_FILE, PROBES_FILE, RUN_FILE, canonical_json, write_atomic
from hubdpo.artefacts.manifests.run import Adopted, BaseRef, DatasetRef, RunManifest
from hubdpo.cards.licences import licence_of
from hubdpo.cards.model.adopted import known_and_unknown
from hubdpo.cards.model.plots import write_plots
from hubdpo.config import AdoptConfig
from hubdpo.config.base import Values
from hubdpo.config.chat_template import recorded
from hubdpo.config.flags import quoted
from hubdpo.config.repo_id import is_repo_id
from hubdpo.config.takes import takes
from hubdpo.data.load import reference_to
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.errors import ConfigError, DataError, HubdpoError, UnsupportedBase
from hubdpo.hub.open import open_snapshot
from hubdpo.model.adapters.check import check_on_base
from hubdpo.model.adapters.config import canonical_adapter_config
from hubdpo.model.adapters.fit import check_shapes, modules_in
from hubdpo.model.adapters.load import attach_adapter
from hubdpo.model.bases.files import weight_shapes
from hubdpo.model.bases.find import copy_base_files, find_base
from hubdpo.model.bases.identity import identified, is_another
from hubdpo.model.bases.load import load_base
from hubdpo.model.device import check_device, pick_device
from hubdpo.model.generation import stops_elsewhere, unstopped, use_stops, write_stops
from hubdpo.model.memory import room_for_base
from hubdpo.model.probes import record_probes
from hubdpo.model.tokenizer.load import read_tokenizer
from hubdpo.model.tokenizer.own_template import template_for, write_template
from hubdpo.version import __version__, requirement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GIVE_BASE = "add `--base USER/NAME` with the model that it was trained on"


class _Looked(NamedTuple):
    """What the files of a base tell: which it is, and what the adapter has in place of its template and tokens."""

    base: BaseRef
    template: str | None
    own_tokenizer: bool


@takes(AdoptConfig, "adapter", "output_dir")
def adopt(config: AdoptConfig) -> RunManifest:
    """Make a run folder of a LoRA adapter that another tool trained, and return its manifest.

    Raise ArtefactError for anything but a LoRA adapter, ConfigError when its base is not known or does not fit it,
    UnsupportedBase for a base that hubdpo does not load, HubError when the Hub lacks one of them.
    """
    # 1. refuse what can be refused before torch is imported, and before a base is downloaded
    check_device(config.device)
    found = find_adapter(config.adapter)
    facts = gather(found)
    base = _base_of(config, found, facts)
    looked = _look_at(base, found)
    if config.load_in_4bit is not None:
        facts.options["load_in_4bit"] = config.load_in_4bit
    dataset, place = reference_to(config.dataset) if config.dataset is not None else (None, None)
    known = {**facts.options, "chat_template": recorded(config.chat_template or looked.template)}
    options: Values = {name: value for name, value in known.items() if value is not None}
    if (ready := _ready(config, found, looked, options, dataset)) is not None:
        console.info(f"{config.output_dir} is up to date")
        return ready

    # 2. record how it answers on its base, and write the folder
    with workspace(str(config.output_dir), last=RUN_FILE) as space, _errors_name(config.adapter, str(space.new)):
        manifest = _adopted(config, found, facts, options, base, looked, dataset, Path(space.new))
        places = {"adapter": config.adapter, "model_name_or_path": base, "dataset": place}
        write_places(Path(space.new), {name: value for name, value in places.items() if value is not None})
        space.publish()
    say_what_is_left_out(manifest.adopted.left_out if manifest.adopted is not None else [])
    if sentence := stops_elsewhere(manifest):
        console.warn(sentence)
    return manifest


def _adopted(
    config: AdoptConfig, found: Found, facts: Facts, options: Values, base_name: str, looked: _Looked,
    dataset: DatasetRef | None, new: Path,
) -> RunManifest:  # fmt: skip
    template = config.chat_template or looked.template
    base = find_base(base_name, load_in_4bit=facts.options.get("load_in_4bit"), needs_template=template is None)
    shutil.copyfile(found.folder / ADAPTER_WEIGHTS, new / ADAPTER_WEIGHTS)
    settings = canonical_adapter_config(found.adapter.config, base.ref)
    write_atomic(new / ADAPTER_CONFIG, canonical_json(settings))
    own = found.folder if looked.own_tokenizer else None
    copy_base_files(base.folder, base.ref.license, new, looked.template, tokenizer=own)
    kwargs = facts.options.get("chat_template_kwargs")
    tokenizer = read_tokenizer(new, kwargs, template=config.chat_template)
    if config.chat_template is not None:
        template = template_for(config.chat_template, tokenizer)
        write_template(template, new)
    manifest = RunManifest(
        hubdpo_version=__version__, hubdpo_from=requirement(), status="complete", config=options, dataset=dataset,
        base=base.ref,
        adopted=Adopted(
            source=found.ref, tool=facts.tool, tool_version=facts.tool_version, method=facts.method,
            named_base=facts.named_base, named_revision=facts.named_revision, named_data=facts.datasets,
            own_tokenizer=looked.own_tokenizer,
            license=(licence_of(found.folder)["license"] or "")[:200] or None, read=facts.read,
            left_out=found.left_out(facts.read),
        ),
        versions=dict(sorted(facts.versions.items())), seed=facts.options.get("seed"),
        end_of_turn=unstopped(base.folder, _end_of_turn(tokenizer)), steps=facts.steps,
        train_seconds=facts.seconds, metrics=facts.last,
    )  # fmt: skip
    if manifest.end_of_turn is not None:
        write_stops(new, manifest.end_of_turn)
    known, unknown = known_and_unknown(manifest)
    console.info(f"known     {'; '.join(known)}")
    console.info(f"unknown   {', '.join(unknown) or 'nothing'}")

    device, in_4bit = pick_device(config.device), bool(manifest.in_4bit)
    console.info(f"probes    on {base.ref.name}, {'NF4' if in_4bit else 'not quantised'}, on {device}")
    with room_for_base(load_in_4bit=in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=in_4bit, dtype=manifest.dtype)
        use_stops(model, manifest)
        adapted = attach_adapter(model, new)
    probes = record_probes(adapted, tokenizer, load_in_4bit=in_4bit, template_kwargs=kwargs)
    probes.write(new / PROBES_FILE)
    if facts.log:
        write_atomic(new / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in facts.log))
        write_plots(new)
    manifest = manifest.model_copy(update={"files": entries_of(new, RUN_FILES)})
    manifest.write(new / RUN_FILE)
    return manifest


@contextmanager
def _errors_name(adapter: str, scratch: str) -> Iterator[None]:
    """Let errors in the body name the adapter, and not the scratch folder with its copy, which is gone after them."""
    try:
        yield
    except HubdpoError as problem:
        problem.message = problem.message.replace(scratch, adapter)
        problem.args = (problem.message,)
        problem.hint = problem.hint and problem.hint.replace(quoted(scratch), quoted(adapter))
        raise


def _base_of(config: AdoptConfig, found: Found, facts: Facts) -> str:
    """Return the base to take: that of the option, else the one that adapter_config.json names, at its revision.

    Raise ConfigError when the adapter names none that can be had.
    """
    settings, name = found.adapter.config, found.ref.name
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if config.base is not None:
        if config.base.partition("@")[0] != named:
            console.info(f"base      {config.base}; {ADAPTER_CONFIG} of `{name}` names {found.adapter.base_in_words}")
        return config.base
    if facts.named_base is not None and not Path(facts.named_base).is_dir():
        at = f"@{revision}" if isinstance(revision, str) and revision else ""
        console.info(
            f"base      {named}{at}, which the adapter names{'' if at else ' without a commit: this is the newest'}"
        )
        return f"{named}{at}"
    # an adapter of the Hub could name any folder of this machine
    if found.is_local and isinstance(named, str) and Path(named).is_dir():
        console.info(f"base      {named}, which the adapter names")
        return named
    state = "is a path of another machine" if isinstance(named, str) and not is_repo_id(named) else "cannot be had"
    raise ConfigError(f"`{name}` names the base {found.adapter.base_in_words}, which {state}", hint=GIVE_BASE)


def _look_at(base: str, found: Found) -> _Looked:
    """Compare an adapter with the files of its base. Raise ConfigError where it does not fit."""
    files = open_snapshot(base, repo_type="model")
    if ADAPTER_CONFIG in files.files:
        raise UnsupportedBase(f"`{base}` is an adapter, not a base model", hint=GIVE_BASE)
    shapes = weight_shapes(files)
    check_shapes(found.ref.name, found.adapter.shapes, files.name, shapes, hint=GIVE_BASE)
    check_on_base(found.adapter, modules_in(shapes))
    template = own_template(found.folder, found.ref.name, files)
    return _Looked(identified(files), template, has_own_tokens(found.folder, found.ref.name, files, shapes))


def _ready(
    config: AdoptConfig, found: Found, looked: _Looked, options: Values, dataset: DatasetRef | None
) -> RunManifest | None:
    """Return the manifest of this very adoption from the output folder, None where it is empty.

    Raise ConfigError where it holds anything else.
    """
    folder = config.output_dir
    if not entries(folder):
        return None
    hint = "give another `--output-dir`"
    if not (folder / RUN_FILE).exists():
        raise ConfigError(f"`{folder}` holds files that are not a run", hint=hint)
    run = read_run(folder)
    sha256 = run.adopted.source.sha256 if run.adopted is not None else None
    is_same = (sha256, run.dataset, run.config) == (found.ref.sha256, dataset, options)
    if not is_same or is_another(run.base, looked.base):
        what = f"the adapter {run.adopted.source.name}, adopted" if run.adopted is not None else "a run of hubdpo"
        raise ConfigError(f"`{folder}` holds {what}", hint=hint)
    return run


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> tuple[str, int] | None:
    try:
        return ChatEncoder(tokenizer).end_of_turn
    except DataError:  # a template that cannot be split into turns, of which evaluate says so
        return None
