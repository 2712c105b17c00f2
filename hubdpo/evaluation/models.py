"""The models of an evaluation, which run one at a time: a base, an adapter on it, and others that are compared.

The base is as training quantised it, or as other programs load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from hubdpo.artefacts.folders.hashes import files_hash
from hubdpo.artefacts.formats.pair_scores import MODELS, START
from hubdpo.artefacts.manifests.manifest import fingerprint
from hubdpo.evaluation.subject import ADAPTER_FILES, Subject
from hubdpo.model.adapters.load import attach_adapter, attach_another
from hubdpo.model.adapters.reference import REFERENCE, adapter_active, add_reference
from hubdpo.model.adapters.start import StartAdapter
from hubdpo.model.bases.find import Base
from hubdpo.model.bases.identity import key_of
from hubdpo.model.bases.load import load_base
from hubdpo.model.generation import use_stops
from hubdpo.model.log_probs import causal_lm
from hubdpo.model.memory import room_for_base
from hubdpo.version import COMPUTING_LIBRARIES, library_versions

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

BASE, ADAPTER = MODELS
OTHER = "other"
"""The adapter that is compared with the one that is evaluated, also its name in the PEFT model."""
WORDS = {BASE: "base", ADAPTER: "adapter", START: "adapter it started from", OTHER: "other adapter"}


def weights_in_words(model: PeftModel | PreTrainedModel, *, in_4bit: bool) -> str:
    """Say how a base was loaded: `NF4, computed in bfloat16`, or the type of its weights."""
    dtype = str(causal_lm(model).config.dtype).removeprefix("torch.")
    return f"NF4, computed in {dtype}" if in_4bit else dtype


@dataclass(frozen=True)
class Models:
    """An adapted model, whose base is what is left when its adapters are off; or a whole model and its base.

    `keys` has the hash of all that the results of each model depend on, for what is kept; without it nothing is.
    """

    model: PeftModel | PreTrainedModel
    base: PreTrainedModel | None = None
    """The base of a whole model, which has no adapter that can be switched off."""
    keys: dict[str, str] = field(default_factory=dict)
    weights: str | None = None
    """How the base was loaded, in words."""

    @property
    def names(self) -> list[str]:
        """The models, the evaluated one first."""
        adapters = self.model.peft_config if self.base is None else {}
        others = {START: REFERENCE, OTHER: OTHER}
        return [ADAPTER, BASE, *(name for name, of_peft in others.items() if of_peft in adapters)]

    @contextmanager
    def running(self, name: str) -> Iterator[PeftModel | PreTrainedModel]:
        """Give the body the model of a name, in evaluation mode."""
        model = self.model
        active: AbstractContextManager[None] = nullcontext()
        if name == BASE and self.base is not None:
            model = self.base
        elif name == BASE:
            active = model.disable_adapter()
        elif name in (START, OTHER):
            active = adapter_active(model, REFERENCE if name == START else OTHER)
        was_training = model.training
        model.eval()
        try:
            with active:
                yield model
        finally:
            model.train(was_training)


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
    versions = library_versions()
    place = [key_of(parts.base.ref), weights, device, *(versions[name] for name in COMPUTING_LIBRARIES)]
    adapters = {BASE: "", ADAPTER: parts.subject.key}
    if parts.start is not None:
        adapters["start"] = files_hash(parts.start.folder, ADAPTER_FILES)
    if parts.other is not None:
        adapters[OTHER] = parts.other.key
    return {name: fingerprint([place, key]) for name, key in adapters.items()}
