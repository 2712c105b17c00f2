"""PEFT, hubdpo and plain transformers: the Python code of a card, and two adapters in one PEFT model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from hubdpo.cards.model.proofs import Proof
from hubdpo.version import __version__
from tests.downstream.answers import PROMPTS, of_model
from tests.downstream.card import block, run_python
from tests.downstream.setting import Setting

IN_FLOAT32 = "the card's code, then in float32"


def peft(setting: Setting) -> Iterator[Proof]:
    version = importlib.metadata.version("peft")
    model = run_python(block(setting.card, "AutoPeftModelForCausalLM"))["model"]
    yield setting.proof("PEFT", IN_FLOAT32, version, of_model(model, setting.tokenizer))
    yield from _two_adapters(setting, version)
    yield from _hot_swap(setting, version)


def _two_adapters(setting: Setting, version: str) -> Iterator[Proof]:
    model = setting.peft()
    model.load_adapter(str(setting.release.earlier), adapter_name="earlier")
    inputs = setting.tokenizer(PROMPTS[0], return_tensors="pt")
    logits = []
    for name in ("earlier", "default"):
        model.set_adapter(name)
        logits.append(model(**inputs).logits)
    assert not logits[0].equal(logits[1])  # the two are not one
    yield setting.proof("PEFT", "load_adapter, set_adapter there and back", version, of_model(model, setting.tokenizer))


def _hot_swap(setting: Setting, version: str) -> Iterator[Proof]:
    from peft.utils.hotswap import hotswap_adapter

    model = setting.peft(setting.release.earlier)
    hotswap_adapter(model, str(setting.release.run), adapter_name="default")
    what = "hotswap_adapter onto another adapter"
    yield setting.proof("PEFT", what, version, of_model(model, setting.tokenizer))


def hubdpo(setting: Setting) -> Iterator[Proof]:
    model = run_python(block(setting.card, "hubdpo.load_adapter"))["model"]
    yield setting.proof(
        "hubdpo", "the card's code, on NF4", __version__, of_model(model, setting.tokenizer), reference=setting.trained
    )


def transformers(setting: Setting) -> Iterator[Proof]:
    model = run_python(block(setting.card, "model.load_adapter("))["model"]
    version = importlib.metadata.version("transformers")
    yield setting.proof("transformers", IN_FLOAT32, version, of_model(model, setting.tokenizer))
