"""What each field of a front matter may say, one check a field, by the Hub's own lists where it has one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any

from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.lint.hub_fields import BASE_RELATIONS, LICENCES, SIZES, TASKS, is_arxiv, is_id, is_language

Check = Callable[[str, Any, dict[str, Any]], Iterator[Finding]]
"""Takes the field's name, its value and the whole front matter."""


def lint_fields(front: dict[str, Any]) -> Iterator[Finding]:
    """Give what is wrong with the fields that are there; fields that nobody knows are left alone, as the Hub does."""
    for name, check in CHECKS.items():
        if name in front:
            yield from check(name, front[name], front)


def _licence(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    for one in _listed(value):
        if not isinstance(one, str):
            yield Finding(name, f"is no licence id: {one!r}", "license: apache-2.0")
        elif one not in LICENCES:
            yield Finding(name, f"is not one that the Hub knows: {one}", _nearest_licence(one))
        elif one == "other":
            for other in ("license_name", "license_link"):
                if not isinstance(front.get(other), str) or not front[other].strip():
                    yield Finding(
                        other, "must say which licence `other` is", f"write `{other}: ...` in the front matter"
                    )
    if not _listed(value):
        yield Finding(name, "is empty", "license: apache-2.0")


def _nearest_licence(given: str) -> str:
    bare = given.lower().removesuffix("-or-later").removesuffix("-only").rstrip("+")
    if bare in LICENCES:
        return f"license: {bare}"
    near = difflib.get_close_matches(bare, sorted(LICENCES), n=1, cutoff=0.8)
    if near:
        return f"did you mean `{near[0]}`?"
    return "license: other, with license_name and license_link"


def _licence_name(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.+-]+", value):
        yield Finding(name, f"must be one word, such as `tongyi-qianwen`: {value!r}", "write it without spaces")


def _base_model(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    for one in _listed(value):
        if not is_id(one):
            yield Finding(name, f"is no model of the Hub, but a path or a word: {one}", "--base-model USER/NAME")


def _ids(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    for one in _listed(value):
        if not is_id(one):
            yield Finding(name, f"holds what is no id of the Hub: {one}", f"{name}: [USER/NAME]")


def _source_datasets(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    for one in _listed(value):
        bare = one.removeprefix("extended|") if isinstance(one, str) else one
        if not is_id(bare):
            yield Finding(name, f"holds what is no id of the Hub: {one}", f"{name}: [USER/NAME]")


def _one_of(known: Any, what: str) -> Check:
    def check(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
        values = [value] if name in ("pipeline_tag", "base_model_relation") else _listed(value)
        for one in values:
            if not isinstance(one, str) or one not in known:
                near = difflib.get_close_matches(str(one), sorted(known), n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(sorted(known)[:12])}"
                yield Finding(name, f"is no {what} that the Hub knows: {one}", hint)

    return check


def _language(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    for one in _listed(value):
        if isinstance(one, bool):
            yield Finding(name, "is true or false to YAML, which reads `no` so", 'put the code in quotes: "no"')
        elif not is_language(one):
            yield Finding(name, f"is no language code: {one}", "language: [en, zh], two letters of ISO 639-1 or three")


def _words(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    if not isinstance(value, (list, str)):
        yield Finding(name, "must be a list of words", f"{name}: [one, two]")
        return
    for one in _listed(value):
        if not isinstance(one, str) or not one.strip():
            yield Finding(name, f"holds what is no text: {one!r}", "put numbers and dates in quotes")
        elif one.startswith("arxiv:") and not is_arxiv(one.removeprefix("arxiv:")):
            yield Finding(name, f"names no paper of arXiv: {one}", "arxiv:2305.18290")


def _text(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    if not isinstance(value, str) or not value.strip():
        yield Finding(name, f"must be a text: {value!r}", f"{name}: ...")


def _model_index(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    """Compare with what huggingface_hub reads of it, and refuse nulls, which the Hub refuses."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if nulls := sorted(set(_nulls(value, ""))):
        yield Finding(name, f"has no value for {', '.join(nulls)}, which the Hub refuses", "leave the key out")
        return
    try:
        _, results = model_index_to_eval_results(value)
    except Exception as problem:  # whatever shape it has, the client's own reader is what decides
        yield Finding(
            name, f"cannot be read: {type(problem).__name__}: {problem}", "see huggingface.co/docs/hub/model-cards"
        )
        return
    for result in results:
        if isinstance(result.metric_value, bool) or not isinstance(result.metric_value, (int, float)):
            yield Finding(name, f"has a value that is no number: {result.metric_value!r}", "write the number")


def _emissions(name: str, value: Any, front: dict[str, Any]) -> Iterator[Finding]:
    grams = value.get("emissions") if isinstance(value, dict) else value
    if isinstance(grams, bool) or not isinstance(grams, (int, float)) or grams < 0:
        yield Finding(name, f"must be a number of grams that was measured: {grams!r}", "leave it out if it was not")


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path.strip(".") or "everything"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _nulls(inner, path)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


CHECKS: dict[str, Check] = {
    "license": _licence,
    "license_name": _licence_name,
    "base_model": _base_model,
    "base_model_relation": _one_of(BASE_RELATIONS, "relation"),
    "datasets": _ids,
    "source_datasets": _source_datasets,
    "new_version": _ids,
    "pipeline_tag": _one_of(TASKS, "task"),
    "task_categories": _one_of(TASKS, "task"),
    "size_categories": _one_of(SIZES, "range of sizes"),
    "language": _language,
    "tags": _words,
    "metrics": _words,
    "library_name": _text,
    "pretty_name": _text,
    "model-index": _model_index,
    "co2_eq_emissions": _emissions,
}
