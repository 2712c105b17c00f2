"""Check each field of a card's front matter, against the Hub's own lists where it has one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator

from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.lint.hub_fields import BASE_RELATIONS, LICENCES, SIZES, TASKS, is_arxiv, is_language
from hubdpo.cards.render import Front
from hubdpo.config.repo_id import is_repo_id

Check = Callable[[str, object, Front], Iterator[Finding]]
"""A check of one field: takes its name, its value and the whole front matter."""


def lint_fields(front: Front) -> Iterator[Finding]:
    """Yield the problems of the fields in a front matter; unknown fields are ignored, as on the Hub."""
    for name, check in CHECKS.items():
        if name in front:
            yield from check(name, front[name], front)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _each(accepts: Callable[[object], bool], problem: str, hint: str | Callable[[object], str]) -> Check:
    """Return a check of each value of a field that may be a list."""

    def check(name: str, value: object, front: Front) -> Iterator[Finding]:
        for item in _listed(value):
            if not accepts(item):
                yield Finding(name, f"{problem}: {item}", hint if isinstance(hint, str) else hint(item))

    return check


def _single(accepts: Callable[[object], bool], problem: str, hint: str | Callable[[object], str]) -> Check:
    """Return a check of a field that must not be a list."""

    def check(name: str, value: object, front: Front) -> Iterator[Finding]:
        if not accepts(value):
            yield Finding(name, f"{problem}: {value!r}", hint if isinstance(hint, str) else hint(value))

    return check


def _known(names: Collection[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _nearest(names: Collection[str]) -> Callable[[object], str]:
    def hint(value: object) -> str:
        near = difflib.get_close_matches(str(value), sorted(names), n=1)
        return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(sorted(names)[:12])}"

    return hint


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_id(value: object) -> bool:
    return is_repo_id(value, owner_required=False)


def _is_source(value: object) -> bool:
    return _is_id(value.removeprefix("extended|") if isinstance(value, str) else value)


def _is_emission(value: object) -> bool:
    grams = value.get("emissions") if isinstance(value, dict) else value
    return isinstance(grams, (int, float)) and not isinstance(grams, bool) and grams >= 0


def _language_hint(value: object) -> str:
    if isinstance(value, bool):
        return 'put the code in quotes, because YAML reads `no` as false: "no"'
    return "language: [en, zh], with codes of ISO 639-1 (two letters) or ISO 639-3 (three)"


def _licence(name: str, value: object, front: Front) -> Iterator[Finding]:
    for licence in _listed(value):
        if not isinstance(licence, str):
            yield Finding(name, f"is not a licence id: {licence!r}", "license: apache-2.0")
        elif licence not in LICENCES:
            yield Finding(name, f"is not a licence that the Hub knows: {licence}", _nearest_licence(licence))
        elif licence == "other":
            for field in ("license_name", "license_link"):
                if not _is_text(front.get(field)):
                    yield Finding(field, "is required for the licence `other`", f"add `{field}: ...`")
    if not _listed(value):
        yield Finding(name, "is empty", "license: apache-2.0")


def _nearest_licence(licence: str) -> str:
    bare = licence.lower().removesuffix("-or-later").removesuffix("-only").rstrip("+")
    if bare in LICENCES:
        return f"license: {bare}"
    near = difflib.get_close_matches(bare, sorted(LICENCES), n=1, cutoff=0.8)
    return f"did you mean `{near[0]}`?" if near else "license: other, with license_name and license_link"


def _words(name: str, value: object, front: Front) -> Iterator[Finding]:
    if not isinstance(value, (list, str)):
        yield Finding(name, "must be a list of words", f"{name}: [one, two]")
        return
    for word in _listed(value):
        if not isinstance(word, str) or not word.strip():
            yield Finding(name, f"contains a value that is not text: {word!r}", "put numbers and dates in quotes")
        elif word.startswith("arxiv:") and not is_arxiv(word.removeprefix("arxiv:")):
            yield Finding(name, f"is not an arXiv id: {word}", "arxiv:2305.18290")


def _model_index(name: str, value: object, front: Front) -> Iterator[Finding]:
    """Parse the results with huggingface_hub, and find nulls, which the Hub refuses."""
    from huggingface_hub.repocard_data import model_index_to_eval_results

    if nulls := sorted(set(_nulls(value, ""))):
        yield Finding(name, f"has no value for {', '.join(nulls)}, which the Hub refuses", "remove the key")
        return
    try:
        _, results = model_index_to_eval_results(value)
    except Exception as problem:  # the reader of huggingface_hub decides, whatever it raises
        yield Finding(
            name, f"cannot be read: {type(problem).__name__}: {problem}", "see huggingface.co/docs/hub/model-cards"
        )
        return
    for result in results:
        if isinstance(result.metric_value, bool) or not isinstance(result.metric_value, (int, float)):
            yield Finding(name, f"has a metric that is not a number: {result.metric_value!r}", "write the number")


def _nulls(value: object, path: str) -> Iterator[str]:
    """Yield the path of every null in a value."""
    if value is None:
        yield path.strip(".") or "the field"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _nulls(inner, path)


def _is_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) is not None


CHECKS: dict[str, Check] = {
    "license": _licence,
    "license_name": _single(_is_word, "must be one word, such as `tongyi-qianwen`", "write it without spaces"),
    "base_model": _each(_is_id, "is not a model id of the Hub", "--base-model USER/NAME"),
    "base_model_relation": _single(_known(BASE_RELATIONS), "is not a known relation", _nearest(BASE_RELATIONS)),
    "datasets": _each(_is_id, "is not a dataset id of the Hub", "datasets: [USER/NAME]"),
    "source_datasets": _each(_is_source, "is not a dataset id of the Hub", "source_datasets: [USER/NAME]"),
    "new_version": _each(_is_id, "is not a repo id of the Hub", "new_version: USER/NAME"),
    "pipeline_tag": _single(_known(TASKS), "is not a task of the Hub", _nearest(TASKS)),
    "task_categories": _each(_known(TASKS), "is not a task of the Hub", _nearest(TASKS)),
    "size_categories": _each(_known(SIZES), "is not a size category of the Hub", _nearest(SIZES)),
    "language": _each(is_language, "is not a language code", _language_hint),
    "tags": _words,
    "metrics": _words,
    "library_name": _single(_is_text, "must be text", "library_name: peft"),
    "pretty_name": _single(_is_text, "must be text", "pretty_name: ..."),
    "model-index": _model_index,
    "co2_eq_emissions": _single(_is_emission, "must be a number of grams", "remove it if it was not measured"),
}
