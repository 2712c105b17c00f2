"""Load the models of an evaluation on one state of the base: as training quantised it, or as other programs load it."""

from __future__ import annotations

import importlib.metadata
from typing import NamedTuple

from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.evaluation.models import ADAPTER, BASE, OTHER, Models, weights_in_words
from hubdpo.evaluation.subject import WHOLE, Subject, content_key
from hubdpo.model.adapters.load import attach_adapter, attach_another
from hubdpo.model.adapters.reference import add_reference
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.bases.find import Base
from hubdpo.model.bases.load import load_base
from hubdpo.model.generation import use_stops
from hubdpo.model.memory import room_for_base

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


class Weights(NamedTuple):
    """How a base is loaded: in NF4 or not, and the type that it computes in (`auto` takes it from the device)."""

    in_4bit: bool
    dtype: str = "auto"


ORIGINAL = Weights(in_4bit=False)
"""As other programs load it."""


class Parts(NamedTuple):
    """What is loaded: the model, its base, the adapter that its training started from, and one to compare with."""

    subject: Subject
    base: Base
    start: StartAdapter | None
    other: Subject | None


def load_models(parts: Parts, weights: Weights, device: str) -> Models:
    """Load the models. Raise TrainingError when memory runs out, ArtefactError when an adapter does not fit."""
    subject, base = parts.subject, parts.base
    with room_for_base(load_in_4bit=weights.in_4bit):
        model = load_base(base.folder, device=device, load_in_4bit=weights.in_4bit, dtype=weights.dtype)
        words = weights_in_words(model, in_4bit=weights.in_4bit)
        if subject.is_whole:
            whole = load_base(subject.folder, device=device, load_in_4bit=False)
            return Models(whole, base=model, keys=_keys(parts, words, device), weights=words)
        if subject.run is not None:
            use_stops(model, subject.run)
        adapted = attach_adapter(model, subject.folder)
        if parts.start is not None:
            add_reference(adapted, parts.start.folder)
        if parts.other is not None:
            attach_another(adapted, parts.other.folder, OTHER)
    return Models(adapted, keys=_keys(parts, words, device), weights=words)


def _keys(parts: Parts, weights: str, device: str) -> dict[str, str]:
    """Return the hash of all that the numbers of each model depend on, besides the tokens."""
    ref = parts.base.ref
    stored = f"{ref.repo_id}@{ref.revision}" if ref.revision else content_key(parts.base.folder, WHOLE)
    place = [stored, weights, device, *(importlib.metadata.version(name) for name in PACKAGES)]
    adapters = {BASE: "", ADAPTER: parts.subject.key}
    if parts.start is not None:
        adapters["start"] = fingerprint(parts.start.ref.sha256)
    if parts.other is not None:
        adapters[OTHER] = parts.other.key
    return {name: fingerprint([place, key]) for name, key in adapters.items()}
