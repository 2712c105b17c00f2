"""Validate the fields of an `adapter_config.json` from an untrusted repo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from hubdpo.artefacts.formats.bounded import shortened
from hubdpo.artefacts.manifests.manifest import READ, Number
from hubdpo.cards.lint.finding import Finding

LARGEST_RANK = 100_000
Word = Annotated[str, Field(max_length=1_000)]
Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK, strict=True)]
Words = Annotated[list[Word], Field(max_length=100_000)]
REVISION = r"^[A-Za-z0-9][\w./+-]*$"
KINDS: dict[str, tuple[Any, str]] = {
    "peft_type": (Word, "a word"),
    "task_type": (Word | None, "a word"),
    "base_model_name_or_path": (Word | None, "text, the USER/NAME of the base model"),
    # part of commands that users copy
    "revision": (Annotated[str, Field(pattern=REVISION, max_length=200)] | None, "the name of a revision"),
    "r": (Rank | None, f"a whole number from 1 to {LARGEST_RANK:,}"),
    "lora_alpha": (Annotated[Number, Field(ge=0, le=1e9)] | None, "a number from 0 to 1e9"),
    "target_modules": (Word | Words | None, "a list of names"),
    "modules_to_save": (Words | None, "a list of names"),
    "bias": (Word, "a word"),
    "init_lora_weights": (bool | Word | None, "true, false or a word"),
    "rank_pattern": (dict[Word, Rank] | None, "ranks by the names of modules"),
    "alpha_pattern": (dict[Word, Number] | None, "numbers by the names of modules"),
}
"""The type of each field that is displayed or computed with, for pydantic and in words."""
_CHECKS = {name: (TypeAdapter[Any](kind), words) for name, (kind, words) in KINDS.items()}


def readable_fields(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """Return the config without its invalid fields, and a finding for each invalid field."""
    kept, findings = dict(config), []
    for name, (check, words) in _CHECKS.items():
        if name not in config:
            continue
        try:
            check.validate_python(config[name], context=READ)
        except ValidationError:
            del kept[name]
            findings.append(
                Finding(
                    name, f"must be {words}: {shortened(repr(config[name]), 60)}", "report it to the owner of the repo"
                )
            )
    return kept, findings
