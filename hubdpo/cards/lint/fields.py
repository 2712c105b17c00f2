"""Check each field of a card's front matter, against the Hub's own lists where it has one."""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Collection, Iterator

from hubdpo.cards.lint.finding import Finding
from hubdpo.cards.render import Front
from hubdpo.config.repo_id import is_repo_id

_LISTS = json.loads((importlib.resources.files("hubdpo.cards.lint") / "hub_fields.json").read_text(encoding="utf-8"))

LICENCES = frozenset(_LISTS["licences"])
"""https://huggingface.co/docs/hub/repositories-licenses"""

TASKS = frozenset(_LISTS["tasks"])
"""Task ids for `pipeline_tag` and `task_categories` (huggingface.js, packages/tasks/src/pipelines.ts)."""

SIZES = (
    "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
    "100B<n<1T", "n>1T",
)  # fmt: skip
"""Values of `size_categories`: powers of ten from a thousand (datasets, utils/resources/size_categories.json)."""

BASE_RELATIONS = ("adapter", "finetune", "merge", "quantized")

TWO_LETTER_LANGUAGES = frozenset(_LISTS["two_letter_languages"])
"""ISO 639-1. The Hub also accepts the three-letter codes of ISO 639-3, `code` and `multilingual`."""

Check = Callable[[str, object, Front], Iterator[Finding]]
"""A check of one field: takes its name, its value and the whole front matter."""


def size_category(rows: int) -> str:
    """Return the size category of a number of rows."""
    return SIZES[min(max(len(str(rows)) - 3, 0), len(SIZES) - 1)]


def is_language(value: object) -> bool:
    """Tell whether a value is a language code of ISO 639-1 or 639-3, possibly with a script or region."""
    if not isinstance(value, str):
        return False
    if value in ("code", "multilingual"):
        return True
    bare = re.fullmatch(r"([a-z]{2,3})(?:-[A-Za-z0-9]{2,8})*", value)
    return bare is not None and (len(bare[1]) == 3 or bare[1] in TWO_LETTER_LANGUAGES)


def is_arxiv(number: str) -> bool:
    """Tell whether a text has the form of an arXiv id, as used today or before 2007."""
    return re.fullmatch(r"(\d{2}(0[1-9]|1[0-2])\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?", number) is not None


def lint_fields(front: Front) -> Iterator[Finding]:
    """Yield the problems of the fields in a front matter; unknown fields are ignored, as on the Hub."""
    for name, check in CHECKS.items():
        if name in front:
            yield from check(name, front[name], front)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _each(
    accepts: Callable[[object], bool], problem: str, hint: str | Callable[[object], str], *, single: bool = False
) -> Check:
    """Return a check of each value of a field that may be a list, or of a `single` value."""

    def check(name: str, value: object, front: Front) -> Iterator[Finding]:
        for item in [value] if single else _listed(value):
            if not accepts(item):
                shown = repr(item) if single else item
                yield Finding(name, f"{problem}: {shown}", hint if isinstance(hint, str) else hint(item))

    return check


_single = functools.partial(_each, single=True)
"""A check of a field that must not be a list."""


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


def near_licence(licence: str) -> str | None:
    """Return the licence id that a text most likely means: `cc-by-4.0` for `CC BY 4.0` and `ccby4`."""
    if (bare := _bare(licence)) in LICENCES:
        return bare
    ids = {re.sub(r"[\W_]", "", known): known for known in sorted(LICENCES)}
    near = difflib.get_close_matches(re.sub(r"[\W_]", "", bare), ids, n=1, cutoff=0.8)
    return ids[near[0]] if near else None


def _bare(licence: str) -> str:
    return licence.lower().removesuffix("-or-later").removesuffix("-only").rstrip("+")


def _nearest_licence(licence: str) -> str:
    near = near_licence(licence)
    if near == _bare(licence):
        return f"license: {near}"
    return f"did you mean `{near}`?" if near else "license: other, with license_name and license_link"


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
