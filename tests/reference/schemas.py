"""JSON schemas of the manifests, from their pydantic models and the docstrings below the fields."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hubdpo.artefacts import manifests
from hubdpo.artefacts.manifests.bundle import Bundle, Release
from hubdpo.artefacts.manifests.evaluation import EvalReport, Probes
from hubdpo.artefacts.manifests.manifest import Manifest
from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.artefacts.manifests.prepare import PrepareManifest
from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.artefacts.manifests.sweep import SweepManifest

Schema = dict[str, Any]
MANIFESTS: dict[str, type[Manifest]] = {
    "prepare.json": PrepareManifest, "run.json": RunManifest, "eval.json": EvalReport, "probes.json": Probes,
    "merge.json": MergeManifest, "sweep.json": SweepManifest, "hubdpo.json": Bundle, "release.json": Release,
}  # fmt: skip
MEANINGS = tomllib.loads(Path(__file__).with_name("meanings.toml").read_text(encoding="utf-8"))
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


@cache
def models() -> dict[str, type[BaseModel]]:
    """Return every model of the manifests' modules by name."""
    names = [f"{manifests.__name__}.{part.name}" for part in pkgutil.iter_modules(manifests.__path__)]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    return {kind.__name__: kind for kind in values if inspect.isclass(kind) and issubclass(kind, BaseModel)}


@cache
def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings below the fields of a model and of its parents, by field."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not issubclass(kind, BaseModel) or kind is BaseModel:
            continue
        tree = ast.parse(inspect.getsource(kind)).body[0]
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def meaning(model: str, field: str) -> str | None:
    """Return what a field means: its docstring, else the words of meanings.toml; None if neither says it."""
    own = MEANINGS.get(model, {}).get(field) or docstrings(models()[model]).get(field) or MEANINGS["any"].get(field)
    return own and _in_json(own)


def _in_json(words: str) -> str:
    return re.sub(r"\bNone\b", "null", words)


def schema(name: str) -> Schema:
    """Return the JSON schema of a manifest by its file name, with the meaning of every field."""
    model = MANIFESTS[name]
    made: Schema = {"$schema": _DRAFT, **model.model_json_schema()}
    _describe(made, model.__name__)
    made["title"] = name
    _drop_defaults(made)
    for part, inner in made.get("$defs", {}).items():
        if "properties" in inner:
            _describe(inner, part)
    return made


def text(name: str) -> str:
    """Return the schema as the text of its file."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def _describe(made: Schema, model: str) -> None:
    made["description"] = _in_json(" ".join((models()[model].__doc__ or "").split()))
    for field, value in made["properties"].items():
        value.pop("title", None)
        if (words := meaning(model, field)) is not None:
            value["description"] = words


def _drop_defaults(made: object) -> None:
    """Drop what later versions of pydantic write and a schema means without it."""
    if isinstance(made, dict) and made.get("additionalProperties") is True:
        del made["additionalProperties"]
    for inner in made.values() if isinstance(made, dict) else made if isinstance(made, list) else ():
        _drop_defaults(inner)
