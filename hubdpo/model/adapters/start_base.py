"""Find the base of the adapter that a run starts from, and check that the two belong together. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from hubdpo import console
from hubdpo.artefacts.folders.model_files import CHAT_TEMPLATE
from hubdpo.artefacts.folders.run_folder import remembered_folder
from hubdpo.config import TrainConfig
from hubdpo.config.chat_template import NAMES
from hubdpo.config.flags import quoted
from hubdpo.config.objective import uses_reference
from hubdpo.errors import ConfigError
from hubdpo.hub.reference import COMMIT
from hubdpo.hub.snapshot import Snapshot
from hubdpo.model.adapters.fit import check_shapes, say_other_tokens
from hubdpo.model.adapters.start import StartAdapter, find_start
from hubdpo.model.bases.files import weight_shapes
from hubdpo.model.bases.find import check_unchanged

PRECISION = {True: "on the base in NF4", False: "on the base as it is stored"}
REFERENCES = {"frozen": "this adapter, frozen", "none": "the base without it"}
THE_BASE = "give the base that the adapter was trained on, or leave `--model-name-or-path` out"


def with_start(config: TrainConfig) -> tuple[TrainConfig, StartAdapter | None]:
    """Return the config with what an adapter settles, pinned to its commit, and with its base where none is given.

    Raise what `find_start` and `StartAdapter.settle` raise; ConfigError for another base than the adapter names.
    """
    if config.adapter is None:
        return config, None
    start = find_start(config.adapter)
    config = start.settle(config)
    pinned: dict[str, str | None] = {}
    if start.ref.revision is not None:
        pinned["adapter"] = f"{start.ref.name}@{start.ref.revision}"
    if not config.model_name_or_path:
        pinned |= _base_of(start)
        revision = pinned.get("model_revision")
        at = f"@{revision[:12]}" if revision else ""
        console.info(f"base      {pinned['model_name_or_path']}{at}, the one that the adapter names")
    else:
        pinned |= _compare(start, config)
    reference = f"the reference is {REFERENCES[config.reference_adapter]}"
    console.info(
        f"adapter   {_label(start)}; {reference if uses_reference(config.loss_type) else 'there is no reference'}"
    )
    _say_what_differs(start, config)
    return config.model_copy(update=pinned), start


def _label(start: StartAdapter) -> str:
    ref = start.ref
    at = ref.version or (ref.revision or ref.sha256)[:12]
    data = start.run.dataset if start.run is not None else None
    return f"{ref.name}@{at}{f', trained on {data.name}' if data is not None else ''}"


def check_fit(start: StartAdapter, config: TrainConfig, base: Snapshot) -> None:
    """Compare an adapter with the files of a base: shapes, tokens and chat template.

    Raise ConfigError where the shapes do not fit, and warn of other tokens.
    """
    check_shapes(start.ref.name, start.adapter.shapes, base.name, weight_shapes(base), hint=THE_BASE)
    say_other_tokens(start, config, base)


def _base_of(start: StartAdapter) -> dict[str, str | None]:
    """Return the options that name an adapter's base. Raise ConfigError when it is neither on the Hub nor here."""
    if start.base is not None:
        return dict(zip(("model_name_or_path", "model_revision"), start.base, strict=True))
    if start.ref.repo_id is None:  # an adapter of the Hub could name any folder of this machine
        here = remembered_folder(start.folder, "model_name_or_path")
        named = start.adapter.config.get("base_model_name_or_path")
        if here is None and isinstance(named, str) and Path(named).is_dir():
            here = Path(named)
        if here is not None:
            if start.run is not None:
                check_unchanged(start.run.base, here, hint="give the one of its training with `--model-name-or-path`")
            return {"model_name_or_path": str(here)}
    raise ConfigError(
        f"the adapter `{start.ref.name}` names the base {start.adapter.base_in_words}, which is neither a repo on the "
        "Hub nor a folder here",
        hint="add `--model-name-or-path` with the base that it was trained on",
    )


def _compare(start: StartAdapter, config: TrainConfig) -> dict[str, str | None]:
    """Compare the given base with the one that the adapter names; return the revision to take where none is given."""
    given, _, at = config.model_name_or_path.partition("@")
    if start.base is None:
        console.info(f"base      {given}; the adapter does not name the one on the Hub that it was trained on")
    if start.base is None or Path(config.model_name_or_path).is_dir():
        return {}
    name, revision = start.base
    if given != name:
        raise ConfigError(
            f"the adapter `{start.ref.name}` was trained on `{name}`, and `--model-name-or-path` is `{given}`",
            hint=f"leave `--model-name-or-path` out; or, for the same model under another name, hf download {given} "
            "--local-dir base, then `--model-name-or-path base`",
        )
    wanted = config.model_revision or at
    if not wanted:
        return {"model_revision": revision}
    if revision is not None and COMMIT.fullmatch(revision) and wanted != revision:
        console.warn(f"the adapter was trained on {name}@{revision[:12]}, and this run takes {wanted[:12]}")
    return {}


def _say_what_differs(start: StartAdapter, config: TrainConfig) -> None:
    dropout = start.adapter.config.get("lora_dropout")
    if dropout and "lora_dropout" not in config.model_fields_set:
        console.info(f"dropout   0, as usual for DPO; `--lora-dropout {dropout}` is what the adapter was trained with")
    if start.run is None:
        return
    in_4bit = start.run.in_4bit if start.run.in_4bit is not None or start.run.adopted else False
    if in_4bit is not None and in_4bit != config.load_in_4bit:
        console.warn(f"the adapter was trained {PRECISION[in_4bit]}, and this run trains {PRECISION[not in_4bit]}")
        console.hint("--load-in-4bit" if in_4bit else "--no-load-in-4bit")
    if (template := start.run.config.get("chat_template")) is not None and config.chat_template is None:
        console.warn(f"the adapter was trained with `--chat-template` {template}, and this run has none")
        console.hint(f"--chat-template {template if template in NAMES else quoted(start.folder / CHAT_TEMPLATE)}")
    before, now = start.run.template_kwargs or {}, config.chat_template_kwargs or {}
    if before != now:
        then, here = (json.dumps(kwargs, sort_keys=True) if kwargs else "none" for kwargs in (before, now))
        console.warn(f"the adapter was trained with `--chat-template-kwargs` {then}, and this run has {here}")
