"""Values that the Hub accepts in the fields of a card."""

from __future__ import annotations

import importlib.resources
import json
import re

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


def size_category(rows: int) -> str:
    """Return the size category of a number of rows."""
    for power, name in enumerate(SIZES, 3):
        if rows < 10**power:
            return name
    return SIZES[-1]


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
