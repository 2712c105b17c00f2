"""The models of an evaluation, which run one at a time: a base, an adapter on it, and others that are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hubdpo.artefacts.formats.pair_scores import MODELS, START
from hubdpo.model.adapters.reference import REFERENCE, adapter_active, has_reference
from hubdpo.model.log_probs import causal_lm

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
        names = [ADAPTER, BASE]
        if self.base is None and has_reference(self.model):
            names.append(START)
        if self.base is None and OTHER in self.model.peft_config:
            names.append(OTHER)
        return names

    @contextmanager
    def running(self, name: str) -> Iterator[PeftModel | PreTrainedModel]:
        """Give the body the model of a name, in evaluation mode."""
        model = self.base if name == BASE and self.base is not None else self.model
        was_training = model.training
        model.eval()
        try:
            if name == BASE and self.base is None:
                with model.disable_adapter():
                    yield model
            elif name in (START, OTHER):
                with adapter_active(model, REFERENCE if name == START else OTHER):
                    yield model
            else:
                yield model
        finally:
            model.train(was_training)
