"""Which layers get an adapter: looked up in the base before it is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from hubdpo.config.train import ALL_LINEAR, QWEN2_PROJECTIONS
from hubdpo.errors import ConfigError
from hubdpo.model.bases.files import BaseFacts

FLAG = "--lora-target-modules"
HEAD, EMBEDDING = "lm_head", "embed_tokens"


def check_targets(targets: list[str], base: BaseFacts) -> None:
    """Raise ConfigError for a module that the base does not have, or that an adapter on it would leave untrained.

    A name is meant as PEFT means it: a whole name of a layer, or the end of one after a point.
    """
    if targets == [ALL_LINEAR]:
        return
    for name in targets:
        rest = [other for other in targets if other != name]
        if _ends(HEAD, name):
            raise ConfigError(
                f"an adapter on `{HEAD}` would never be trained: TRL computes the log-probs from its weights directly",
                hint=_pasted(rest or QWEN2_PROJECTIONS),
            )
        if _ends(EMBEDDING, name):
            if base.is_tied:
                raise ConfigError(
                    f"`{EMBEDDING}` of {base.name} is its output head as well, which an adapter cannot change for one "
                    "alone: nothing could be merged from it",
                    hint=_pasted(rest or QWEN2_PROJECTIONS),
                )
        elif not any(_ends(layer, name) for layer in base.linear_layers):
            raise ConfigError(f"{base.name} has no linear layer `{name}`", hint=_nearest(name, rest, base))


def _ends(layer: str, name: str) -> bool:
    return layer == name or layer.endswith(f".{name}")


def _nearest(name: str, rest: list[str], base: BaseFacts) -> str:
    known = sorted({layer.rpartition(".")[2] for layer in base.linear_layers})
    words = [word for word in re.split(r"[\s,;]+", name) if word]
    if len(words) > 1 and set(words) <= set(known):  # several in one, as other tools take them
        return _pasted([*rest, *words])
    if near := difflib.get_close_matches(name, [*known, ALL_LINEAR], n=1, cutoff=0.8):
        return f"did you mean `{FLAG} {near[0]}`?"
    return f"{FLAG} {ALL_LINEAR}, or some of {', '.join(known)}"


def _pasted(names: Iterable[str]) -> str:
    return " ".join(f"{FLAG} {name}" for name in names)
