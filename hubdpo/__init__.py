"""Preference data in, a versioned and verified QLoRA DPO adapter on the Hub out.

The stages are `prepare`, `train`, `evaluate`, `merge` and `push`; `load_adapter` and `load_preferences` read releases
back.
Each is imported when first used, because torch and trl take seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hubdpo.version import __version__

_HOME = {
    "prepare": "hubdpo.data.prepare.prepare",
    "load_preferences": "hubdpo.data.load",
    "train": "hubdpo.training.start",
    "evaluate": "hubdpo.evaluation.evaluate",
    "push": "hubdpo.release.push",
    "verify": "hubdpo.release.verify.verify",
    "load_adapter": "hubdpo.model.adapters.load",
    "merge": "hubdpo.model.merge.merge",
    "diff": "hubdpo.release.diff.diff",
}

__all__ = [
    "__version__", "diff", "evaluate", "load_adapter", "load_preferences", "merge", "prepare", "push", "train",
    "verify",
]  # fmt: skip

if TYPE_CHECKING:
    from hubdpo.data.load import load_preferences
    from hubdpo.data.prepare.prepare import prepare
    from hubdpo.evaluation.evaluate import evaluate
    from hubdpo.model.adapters.load import load_adapter
    from hubdpo.model.merge.merge import merge
    from hubdpo.release.diff.diff import diff
    from hubdpo.release.push import push
    from hubdpo.release.verify.verify import verify
    from hubdpo.training.start import train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hubdpo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
