"""Turn preference data into a versioned, verified QLoRA DPO adapter on the Hub.

The stages are `prepare`, `train` or `sweep`, `evaluate`, `merge`, `export` and `push`; `load_preferences` and
`load_adapter` read releases back. Each is imported on first use, because torch and trl take seconds. `__init__.pyi` has
the signatures for editors and type checkers.
"""

import importlib

from hubdpo.version import __version__

_MODULES = {
    "prepare": "hubdpo.data.prepare.prepare",
    "load_preferences": "hubdpo.data.load",
    "train": "hubdpo.training.start",
    "sweep": "hubdpo.training.sweep.sweep",
    "adopt": "hubdpo.adoption.adopt",
    "evaluate": "hubdpo.evaluation.evaluate",
    "push": "hubdpo.release.push",
    "verify": "hubdpo.release.verify.verify",
    "load_adapter": "hubdpo.model.adapters.load",
    "merge": "hubdpo.model.merge.merge",
    "export": "hubdpo.model.export.export",
    "diff": "hubdpo.release.diff.diff",
}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'hubdpo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
