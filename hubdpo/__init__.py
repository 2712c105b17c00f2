"""Preference data in, a versioned and verified QLoRA DPO adapter on the Hub out.

The stages are `prepare`, `train`, `evaluate`, `merge` and `push`; `load_adapter` and `load_preferences` read releases
back.
Each is imported when first used, because torch and trl take seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOME = {
    "prepare": "hubdpo.data.prepare",
    "load_preferences": "hubdpo.data.load",
    "train": "hubdpo.training.start",
    "evaluate": "hubdpo.evaluation.start",
    "push": "hubdpo.hub.publish",
    "verify": "hubdpo.hub.verify",
    "load_adapter": "hubdpo.hub.load",
    "merge": "hubdpo.hub.merge",
    "diff": "hubdpo.hub.diff",
}

__all__ = [
    "__version__", "diff", "evaluate", "load_adapter", "load_preferences", "merge", "prepare", "push", "train",
    "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from hubdpo.data.load import load_preferences
    from hubdpo.data.prepare import prepare
    from hubdpo.evaluation.start import evaluate
    from hubdpo.hub.diff import diff
    from hubdpo.hub.load import load_adapter
    from hubdpo.hub.merge import merge
    from hubdpo.hub.publish import push
    from hubdpo.hub.verify import verify
    from hubdpo.training.start import train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hubdpo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
