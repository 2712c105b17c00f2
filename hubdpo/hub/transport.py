"""The HTTP library beneath huggingface_hub: httpx2 from its version 2 on, httpx before, with one interface."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def http() -> Any:
    """Return the module that huggingface_hub itself imports. Both can be installed, and only its own errors are raised.

    The module is untyped because httpx and httpx2 are different types with the same names.
    """
    from huggingface_hub import errors

    return importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
