"""Check `--lora-target-modules` against the layers of the base, before its weights are loaded."""

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
    """Raise ConfigError for a module that the base lacks, or on which an adapter would never be trained or merged.

    PEFT matches a name with the whole name of a layer, or with its end after a dot.
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
    if len(words) > 1 and set(words) <= set(known):  # "q_proj,v_proj", as other tools take it
        return _pasted([*rest, *words])
    if near := difflib.get_close_matches(name, [*known, ALL_LINEAR], n=1, cutoff=0.8):
        return f"did you mean `{FLAG} {near[0]}`?"
    return f"{FLAG} {ALL_LINEAR}, or some of {', '.join(known)}"


def _pasted(names: Iterable[str]) -> str:
    return " ".join(f"{FLAG} {name}" for name in names)
