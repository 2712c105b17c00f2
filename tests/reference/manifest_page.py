"""The page of the manifests, from their schemas."""

from __future__ import annotations

from tests.reference.markdown import prose, table
from tests.reference.schemas import MANIFESTS, Schema, schema

WRITTEN_BY = {
    "prepare.json": ("`hubdpo prepare`", "yes", "What a dataset was made of, and how."),
    "run.json": ("`hubdpo train`, `sweep`, `adopt`", "yes", "What was trained, on what, and with which options."),
    "eval.json": ("`hubdpo train`, `evaluate`", "yes", "How base and adapter rank the held-out pairs."),
    "probes.json": ("`hubdpo train`, `adopt`, `merge`", "yes", "Log-probabilities that `verify` compares."),
    "merge.json": ("`hubdpo merge`", "yes", "What was merged, and how closely the model matches."),
    "sweep.json": ("`hubdpo sweep`", "no", "The runs of a sweep, and how they rank the held-out pairs."),
    "hubdpo.json": ("`hubdpo push`", "yes, by `push` alone", "Every file of a release with its hash."),
    "release.json": ("`hubdpo push`", "no", "The receipt of a push, in the folder that was pushed."),
}
HEAD = """# Manifests

Stages hand over plain files, and each folder has a JSON file, its manifest, that says what is in it. A dataset folder
is complete once it has `prepare.json`, a merged model once it has `merge.json`, and a run once `status` in its
`run.json` is `complete`. A manifest names a base, an adapter or data by a repo of the Hub or the name of a folder,
without its path on the machine. Fields that are not always there are newer, or apply to some folders only; a field at
the top of a file that this version does not know is refused.

"""


def page() -> str:
    """Return the page: the files, the fields of each, and then the parts that they are made of."""
    rows = [
        (f"[`{name}`](#{_anchor(name)})", by, published, f"[schema](schemas/{name})", words)
        for name, (by, published, words) in WRITTEN_BY.items()
    ]
    schemas = {name: schema(name) for name in MANIFESTS}
    parts = {part: made for each in schemas.values() for part, made in each.get("$defs", {}).items()}
    sections = [
        f"## {name}\n\n{prose(made['description'])}\n\n{_fields(made, parts)}" for name, made in schemas.items()
    ]
    inner = [
        f"### {part}\n\n{prose(made['description'])}\n\n{_fields(made, parts)}"
        for part, made in sorted(parts.items())
        if "properties" in made
    ]
    files = table(["file", "written by", "published", "JSON schema", "what it says"], rows)
    return "\n\n".join([HEAD + files, *sections, "## Parts", *inner]) + "\n"


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def _fields(made: Schema, parts: dict[str, Schema]) -> str:
    needed = set(made.get("required", ()))
    rows = [
        (f"`{name}`", _kind(value, parts), "yes" if name in needed else "", prose(value.get("description", "")))
        for name, value in made["properties"].items()
    ]
    return table(["field", "type", "always there", "meaning"], rows)


def _kind(value: Schema, parts: dict[str, Schema]) -> str:
    """Return the type of a field in words, with a link to a part."""
    if "$ref" in value:
        part = value["$ref"].rpartition("/")[2]
        return f"[{part}](#{part.lower()})" if "properties" in parts[part] else _kind(parts[part], parts)
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(each, parts) for each in value["anyOf"]))
    if "allOf" in value:
        return _kind(value["allOf"][0], parts)
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array":
        return f"list of {_kind(value['items'], parts)}" if "items" in value else "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"{_kind(inner, parts)} by name" if isinstance(inner, dict) and inner else "object"
    return str(value.get("type", "any value"))
