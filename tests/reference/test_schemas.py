"""The schemas of the manifests describe every field, and take what hubdpo writes."""

from __future__ import annotations

import json
from typing import Any

from hubdpo.artefacts.manifests.manifest import Manifest
from tests.reference.manifest_page import WRITTEN_BY
from tests.reference.pages import REFERENCE
from tests.reference.schemas import MANIFESTS, MEANINGS, Schema, docstrings, models, schema


def described() -> dict[str, dict[str, Any]]:
    """Return the fields of every model that a manifest is made of."""
    found: dict[str, dict[str, Any]] = {}
    for name, model in MANIFESTS.items():
        made = schema(name)
        found[model.__name__] = made["properties"]
        found |= {part: inner["properties"] for part, inner in made.get("$defs", {}).items() if "properties" in inner}
    return found


def test_every_manifest_has_a_schema_and_a_line_on_the_page() -> None:
    assert {kind for kind in models().values() if issubclass(kind, Manifest) and kind is not Manifest} == {
        *MANIFESTS.values()
    }
    assert set(WRITTEN_BY) == set(MANIFESTS)


def test_the_committed_schemas_have_every_field() -> None:
    for name in MANIFESTS:
        committed = json.loads((REFERENCE / "schemas" / name).read_text(encoding="utf-8"))
        assert _fields_of(committed) == _fields_of(schema(name)), "make reference"


def _fields_of(made: Schema) -> dict[str, set[str]]:
    parts = {"": made, **made.get("$defs", {})}
    return {part: set(inner["properties"]) for part, inner in parts.items() if "properties" in inner}


def test_every_field_has_a_meaning() -> None:
    for model, fields in described().items():
        assert [field for field, value in fields.items() if "description" not in value] == [], model


def test_no_meaning_is_left_of_a_field_that_is_gone_or_says_it_itself() -> None:
    fields = described()
    for model, words in MEANINGS.items():
        if model == "any":
            assert set(words) <= {field for own in fields.values() for field in own}
        else:
            assert set(words) <= set(fields[model]) - set(docstrings(models()[model])), model
